"""How preparing a data set scales with the number of worker processes."""

import pathlib
import shutil
import time
from typing import Any

from mg_jax.bench import sources
from mg_jax.machine.cores import usable_cores
from mg_jax.tools.prepare import prepare

_FEW, _MANY, _FRAMES = 64, 192, 300


def measure(config, workdir: pathlib.Path) -> dict[str, Any]:
    """Prepares few and many videos with 1, 2, 4 ... workers, up to a worker per core.

    The rate is that of the further videos, so that the start of the processes does not count.
    """
    rows, workers = [], 1
    while workers <= usable_cores():
        few, many = (_seconds(config, workdir, count, workers) for count in (_FEW, _MANY))
        rate = (_MANY - _FEW) / (many - few)
        row = {"workers": workers, "videos_per_s": rate, "start_s": few - _FEW / rate}
        rows.append({**row, "of_linear": rate / workers / (rows or [row])[0]["videos_per_s"]})
        workers *= 2
    return {
        "video": f"{sources.WIDTH} x {sources.HEIGHT}, {_FRAMES} frames, H.264",
        "videos": _MANY,
        "runs": rows,
    }


def _seconds(config, workdir: pathlib.Path, count: int, workers: int) -> float:
    videos = workdir / f"{count}_videos"
    sources.make_videos(videos, count, _FRAMES)
    config.data.name = "video_folder/bench"
    config.data.dir = str(workdir / "prepared")
    config.prepare.source = str(videos)
    config.prepare.workers = workers
    shutil.rmtree(config.data.dir, ignore_errors=True)
    start = time.perf_counter()
    prepare(config)
    seconds = time.perf_counter() - start
    shutil.rmtree(config.data.dir)
    return seconds


def format_table(result: dict[str, Any]) -> str:
    """A line for each number of workers."""
    lines = [f"{'workers':>7} {'videos/s':>9} {'of linear':>9} {'start, s':>9}"]
    for row in result["runs"]:
        lines.append(
            f"{row['workers']:>7} {row['videos_per_s']:>9.2f} {row['of_linear']:>9.2f} "
            f"{row['start_s']:>9.1f}"
        )
    return "\n".join(lines)
