"""Throughput of the input pipeline on each grid of a schedule, beside that of other ways.

They are measured in the same run, on the same clips, with as many threads as readers:

 - blocks: decoding alone as the pipeline does it, stored frames in memory in, pixels out;
 - JPEG: decoding alone as TensorFlow does it, `tf.io.decode_and_crop_jpeg` of the same crops;
 - H.264: seek to the key frame before the clip in the video file and decode to its end, to RGB;
   nothing is cropped or scaled;
 - loader: that, and normalised, scaled and cropped as PySlowFast's loader does.
"""

import collections
import concurrent.futures
import dataclasses
import pathlib
import time
from collections.abc import Callable
from typing import Any

import jax
import tensorflow as tf

from data.format import crop as crop_lib
from mg_jax.bench import sources, video_loader
from mg_jax.bench.supply import add_needs, format_supply, measure_cost, resident_bytes
from mg_jax.grid import Grid, format_grid
from mg_jax.input import sampling
from mg_jax.input.datasets import DataSource, Split, open_source
from mg_jax.input.pipeline import clip_batches
from mg_jax.input.readers import Readers
from mg_jax.input.sampling import Augmentation, Clips, training_augmentation
from mg_jax.machine.cores import usable_cores
from mg_jax.machine.progress import say, shown
from mg_jax.recipe import schedule_from_config
from mg_jax.tools.prepare import prepare

_VIDEOS, _FRAMES = 64, 300
_ROUNDS = 3
# Of each round; enough for a steady rate.
_CLIP_FRAMES = 8_192  # through the pipeline and decoders
_H264_CLIPS = 24
_MEMORY_BATCHES = 10_000


def measure(config, workdir: pathlib.Path, clips_per_s: float | None = None) -> dict[str, Any]:
    """Measures every grid of the config's schedule on videos that are made for it.

    Args:
      config: a recipe; its data set is replaced.
      workdir: keeps the videos and the prepared data.
      clips_per_s: what devices take of the base grid, to say how many cores feed them.
    """
    data, folder = _prepared(config, workdir)
    augmentation = training_augmentation(config.data, config.seed)
    # Grids that differ only in their sub-batch read the same.
    by_shape = {(g.frames, g.size): g for g in schedule_from_config(config).grids_from(0)}
    grids = [by_shape[shape] for shape in sorted(by_shape, reverse=True)]
    cores = usable_cores()
    # 1, 2, 4 ... up to all cores.
    counts = sorted({min(1 << i, cores) for i in range(cores.bit_length() + 1)})
    readers = [Readers(count) for count in counts]
    rows = []
    print(_HEADER)
    for grid in shown(grids, "measuring", "grid", len(grids)):
        rows.append(_measure_grid(data.train, folder, augmentation, grid, readers))
        say(_line(rows[-1], rows[0]))
    for row in rows:
        row["iteration_cost"] = row["iteration_cpu_s"] / rows[0]["iteration_cpu_s"]
    if clips_per_s is not None:
        add_needs(rows, clips_per_s, cores)
    print(format_supply(rows, cores))
    return {
        "cores": cores,
        "video": f"{sources.USUAL}, {_FRAMES} frames",
        "grids": rows,
        "memory": _measure_memory(data.train, augmentation, grids),
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
    split: Split,
    folder: pathlib.Path,
    augmentation: Augmentation,
    grid: Grid,
    readers: list[Readers],
) -> dict[str, Any]:
    clips = sampling.sample_clips(
        split.videos, grid, augmentation, 0, max(_CLIP_FRAMES // grid.frames, _H264_CLIPS)
    )
    numbers_BT = split.videos.records(clips.rows_B, clips.frames_BT)
    jpegs = [[bytes(j) for j in split.frames.jpegs(numbers_T)] for numbers_T in numbers_BT]
    every, videos = range(len(jpegs)), range(_H264_CLIPS)
    paths = [folder / split.videos.ids[row] for row in clips.rows_B]
    measured = {
        "blocks": lambda: _rate(lambda b: _decode_blocks(split, clips, jpegs[b], b), every),
        "jpeg": lambda: _rate(lambda b: _decode_jpegs(clips, jpegs[b], b), every),
        "h264": lambda: _rate(lambda b: _decode_h264(paths[b], clips, b), videos),
        "loader": lambda: _rate(lambda b: _load_h264(paths[b], clips, grid, b), videos),
    }
    # In turn, so that what else the machine does hits all of them; the best of each is its own.
    costs, rates = [], []
    for _ in range(_ROUNDS):
        costs.append([measure_cost(split, augmentation, grid, len(jpegs), r) for r in readers])
        rates.append({name: rate() for name, rate in measured.items()})
    by_readers = [max(c.clips_per_s for c in of_count) for of_count in zip(*costs, strict=True)]
    best = {name: max(r[name] for r in rates) for name in measured}
    all_readers = [round_costs[-1] for round_costs in costs]
    least = min(all_readers, key=lambda cost: cost.cpu_s)
    return {
        "grid": dataclasses.asdict(grid),
        "clips_per_s": by_readers[-1],
        "by_readers": {str(r.count): rate for r, rate in zip(readers, by_readers, strict=True)},
        "main_cpu_s": least.main_cpu_s,
        "reader_cpu_s": least.reader_cpu_s,
        **{f"{name}_clips_per_s": other for name, other in best.items()},
        **{f"of_{name}": by_readers[-1] / other for name, other in best.items()},
        "iteration_bytes": least.read_bytes * grid.batch,
        "iteration_cpu_s": least.cpu_s * grid.batch,
    }


def _decode_blocks(split: Split, clips: Clips, jpegs: list[bytes], b: int) -> None:
    shape = split.videos.shape(clips.rows_B[b])
    _, images = crop_lib.decode(jpegs, shape, clips.boxes_B3[b : b + 1])
    collections.deque(images, maxlen=0)


def _decode_jpegs(clips: Clips, jpegs: list[bytes], b: int) -> None:
    top, left, side = clips.boxes_B3[b].tolist()
    _decode_and_crop(tf.constant(jpegs), tf.constant([top, left, side, side], tf.int32))


@tf.function(
    input_signature=[tf.TensorSpec([None], tf.string), tf.TensorSpec([4], tf.int32)],
)
def _decode_and_crop(jpegs_T: tf.Tensor, window_4: tf.Tensor) -> tf.Tensor:
    return tf.map_fn(
        lambda jpeg: tf.io.decode_and_crop_jpeg(jpeg, window_4, channels=3),
        jpegs_T,
        fn_output_signature=tf.TensorSpec([None, None, 3], tf.uint8),
    )


def _decode_h264(path: pathlib.Path, clips: Clips, b: int) -> None:
    video_loader.decode_span(path, clips.frames_BT[b].min(), clips.frames_BT[b].max())


def _load_h264(path: pathlib.Path, clips: Clips, grid: Grid, b: int) -> None:
    video_loader.load_clip(path, clips.frames_BT[b], clips.boxes_B3[b], grid.size)


def _rate(function: Callable[[int], None], items: range) -> float:
    """Calls a second, by a thread per core."""
    with concurrent.futures.ThreadPoolExecutor(usable_cores()) as pool:
        start = time.perf_counter()
        for _ in pool.map(function, items):
            pass
    return len(items) / (time.perf_counter() - start)


def _measure_memory(split: Split, augmentation: Augmentation, grids: list[Grid]) -> dict[str, Any]:
    """Resident memory of all processes after each tenth of many small batches of all grids."""
    clips = jax.process_count()
    small = [dataclasses.replace(grid, batch=clips) for grid in grids]
    positions = ((small[i % len(small)], i * clips) for i in range(_MEMORY_BATCHES))
    megabytes = []
    batches = clip_batches(split, augmentation, small, positions).as_numpy_iterator()
    for i, _ in enumerate(shown(batches, "memory", "batch", _MEMORY_BATCHES)):
        if (i + 1) % (_MEMORY_BATCHES // 10) == 0:
            megabytes.append(resident_bytes() / 1e6)
    return {"batches": _MEMORY_BATCHES, "resident_mb": megabytes}


_HEADER = (
    f"{'clips x frames x size^2':<24} {'clips/s':>8} {'of blocks':>10} {'of JPEG':>8} "
    f"{'of H.264':>9} {'of loader':>10} {'MB/it':>7} {'CPU s/it':>9} {'of base':>8}"
)


def _line(row: dict[str, Any], base: dict[str, Any]) -> str:
    return (
        f"{format_grid(row['grid']):<24} {row['clips_per_s']:>8.1f} "
        f"{row['of_blocks']:>10.2f} {row['of_jpeg']:>8.2f} "
        f"{row['of_h264']:>9.1f} {row['of_loader']:>10.1f} {row['iteration_bytes'] / 1e6:>7.0f} "
        f"{row['iteration_cpu_s']:>9.1f} {row['iteration_cpu_s'] / base['iteration_cpu_s']:>8.2f}"
    )
