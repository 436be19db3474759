"""How fast the input pipeline serves each grid of a schedule, beside what limits it.

Two limits are measured in the same run, on the same clips, with as many threads:

 - JPEG decoding alone: stored frames in memory in, pixels of the crop out;
 - H.264: seek to the clip in the video file and decode up to its end, as loaders that read videos
   directly have to. Nothing is cropped, scaled or batched.
"""

import concurrent.futures
import dataclasses
import os
import pathlib
import resource
import time
from collections.abc import Callable
from typing import Any

import av
import jax

from mg_jax import frames as frames_lib
from mg_jax import sampling
from mg_jax.bench import sources
from mg_jax.datasets import DataSource, Split, open_source, prepare
from mg_jax.grid import Grid
from mg_jax.input_pipeline import clip_batches
from mg_jax.recipe import schedule_from_config
from mg_jax.sampling import Augmentation, training_augmentation

_VIDEOS, _FRAMES = 64, 300
# Enough for a steady rate.
_CLIP_FRAMES = 16_384  # through the pipeline and its decoder, per grid
_H264_CLIPS = 24
_MEMORY_BATCHES = 10_000


def measure(config, workdir: pathlib.Path) -> dict[str, Any]:
    """Measures every grid of the config's schedule on videos that are made for it.

    Args:
      config: a recipe; its data set is replaced.
      workdir: keeps the videos and the prepared data.
    """
    data, folder = _prepared(config, workdir)
    augmentation = training_augmentation(config.data, config.seed)
    grids = sorted(
        schedule_from_config(config).grids_from(0), key=lambda g: (g.frames, g.size), reverse=True
    )
    rows = []
    for grid in grids:
        rows.append(_measure_grid(data.train, folder, augmentation, grid))
        if grid is grids[0]:
            print(HEADER)
        print(_line(rows[-1], rows[0]), flush=True)
    for row in rows:
        row["iteration_cost"] = row["iteration_cpu_s"] / rows[0]["iteration_cpu_s"]
    return {
        "cores": len(os.sched_getaffinity(0)),
        "video": f"{sources.WIDTH} x {sources.HEIGHT}, {_FRAMES} frames",
        "grids": rows,
        "memory": _measure_memory(data.train, augmentation, grids[-1]),
    }


def _prepared(config, workdir: pathlib.Path) -> tuple[DataSource, pathlib.Path]:
    videos = workdir / "videos"
    sources.make_videos(videos, _VIDEOS, _FRAMES)
    config.data.name = "video_folder/bench"
    config.data.dir = str(workdir / "data")
    config.data.multi_label = False
    config.data.eval_split = "validation"
    config.prepare.source = str(videos)
    config.model.num_classes = 2
    prepare(config)
    return open_source(config), videos / "train"


def _measure_grid(
    split: Split, folder: pathlib.Path, augmentation: Augmentation, grid: Grid
) -> dict[str, Any]:
    clips = sampling.sample_clips(
        split.videos, grid, augmentation, 0, max(_CLIP_FRAMES // grid.frames, _H264_CLIPS)
    )
    read = _rate_of_pipeline(split, augmentation, grid, len(clips.rows_B))
    jpegs, decode = _decoding(split, clips)
    decode_rate = _rate(decode, range(len(clips.rows_B)))
    h264_rate = _rate(lambda b: _decode_h264(split, folder, clips, b), range(_H264_CLIPS))
    size = sum(len(jpeg) for clip in jpegs for jpeg in clip) / len(jpegs)
    return {
        "grid": dataclasses.asdict(grid),
        "clips_per_s": read["clips_per_s"],
        "decode_only_clips_per_s": decode_rate,
        "h264_clips_per_s": h264_rate,
        "of_decode_only": read["clips_per_s"] / decode_rate,
        "over_h264": read["clips_per_s"] / h264_rate,
        "iteration_bytes": size * grid.batch,
        "iteration_cpu_s": read["cpu_s_per_clip"] * grid.batch,
    }


def _rate_of_pipeline(
    split: Split, augmentation: Augmentation, grid: Grid, clips: int
) -> dict[str, float]:
    """Clips a second through the whole pipeline, and CPU time, once it is under way."""
    batch = max(clips // 16, 1)
    small = dataclasses.replace(grid, batch=batch)
    dataset = clip_batches(split, augmentation, [small], ((small, i * batch) for i in range(24)))
    batches = dataset.as_numpy_iterator()
    for _ in range(4):
        next(batches)
    start, cpu = time.perf_counter(), time.process_time()
    count = sum(len(b["label"]) for b in batches)
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    return {"clips_per_s": count / seconds, "cpu_s_per_clip": cpu / count}


def _decoding(split: Split, clips: sampling.Clips) -> tuple[list[list[bytes]], Callable]:
    """The stored JPEGs of the clips, in memory, and a function that decodes those of one."""
    numbers_BT = split.videos.records(clips.rows_B, clips.frames_BT)
    jpegs = [split.frames.jpegs(numbers_T) for numbers_T in numbers_BT]
    shapes = list(zip(split.videos.height.tolist(), split.videos.width.tolist(), strict=True))

    def decode(b: int) -> None:
        boxes_13 = clips.boxes_B3[b : b + 1]
        _, images = frames_lib.decode(jpegs[b], shapes[clips.rows_B[b]], boxes_13)
        for _ in images:
            pass

    return jpegs, decode


def _decode_h264(split: Split, folder: pathlib.Path, clips: sampling.Clips, b: int) -> None:
    """Decodes from the key frame before the clip to its end, and makes RGB of the wanted frames."""
    row, wanted = clips.rows_B[b], set(clips.frames_BT[b].tolist())
    with av.open(str(folder / split.videos.ids[row])) as container:
        stream = container.streams.video[0]
        stream.thread_count = 1
        ticks = 1 / (sources.FPS * stream.time_base)
        container.seek(int(min(wanted) * ticks), stream=stream)
        for frame in container.decode(stream):
            number = round(frame.pts / ticks)
            if number in wanted:
                frame.to_ndarray(format="rgb24")
            if number >= max(wanted):
                return


def _rate(function: Callable[[int], None], items: range) -> float:
    """Calls a second, by a thread per core."""
    with concurrent.futures.ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        start = time.perf_counter()
        for _ in pool.map(function, items):
            pass
    return len(items) / (time.perf_counter() - start)


def _measure_memory(split: Split, augmentation: Augmentation, grid: Grid) -> dict[str, Any]:
    """Resident memory after a tenth and after all of many batches."""
    grid = dataclasses.replace(grid, batch=jax.process_count())
    positions = ((grid, i * grid.batch) for i in range(_MEMORY_BATCHES))
    megabytes = []
    for i, _ in enumerate(clip_batches(split, augmentation, [grid], positions).as_numpy_iterator()):
        if (i + 1) % (_MEMORY_BATCHES // 10) == 0:
            megabytes.append(_resident_mb())
    return {"batches": _MEMORY_BATCHES, "resident_mb": megabytes}


def _resident_mb() -> float:
    pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


HEADER = (
    f"{'clips x frames x size^2':<24} {'clips/s':>8} {'decode':>8} {'share':>6} {'H.264':>7} "
    f"{'times':>6} {'MB/it':>7} {'CPU s/it':>8} {'of base':>7}"
)


def _line(row: dict[str, Any], base: dict[str, Any]) -> str:
    grid = row["grid"]
    name = f"{grid['batch']} x {grid['frames']} x {grid['size']}^2"
    return (
        f"{name:<24} {row['clips_per_s']:>8.1f} {row['decode_only_clips_per_s']:>8.1f} "
        f"{row['of_decode_only']:>6.2f} {row['h264_clips_per_s']:>7.1f} {row['over_h264']:>6.1f} "
        f"{row['iteration_bytes'] / 1e6:>7.0f} {row['iteration_cpu_s']:>8.1f} "
        f"{row['iteration_cpu_s'] / base['iteration_cpu_s']:>7.2f}"
    )
