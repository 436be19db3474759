"""How preparing a data set scales with the number of worker processes."""

import pathlib
import shutil
import time
from typing import Any

from data.workers import cores
from mg_jax.bench import sources
from mg_jax.datasets import prepare

_VIDEOS, _FRAMES = 128, 300


def measure(config, workdir: pathlib.Path) -> dict[str, Any]:
    """Prepares the same videos with 1, 2, 4 ... workers, up to a worker per core."""
    videos = workdir / "videos_to_prepare"
    sources.make_videos(videos, _VIDEOS, _FRAMES)
    config.data.name = "video_folder/bench"
    config.prepare.source = str(videos)
    rows, workers = [], 1
    while workers <= cores():
        config.prepare.workers = workers
        config.data.dir = str(workdir / f"prepared_by_{workers}")
        shutil.rmtree(config.data.dir, ignore_errors=True)
        start = time.perf_counter()
        prepare(config)
        seconds = time.perf_counter() - start
        shutil.rmtree(config.data.dir)
        first = rows[0]["seconds"] if rows else seconds
        rows.append({"workers": workers, "seconds": seconds, "linear": first / seconds / workers})
        workers *= 2
    return {"videos": _VIDEOS, "frames": _FRAMES, "runs": rows}


def format_table(result: dict[str, Any]) -> str:
    """A line for each number of workers."""
    lines = [f"{'workers':>7} {'videos/s':>9} {'of linear':>9}"]
    for row in result["runs"]:
        rate = result["videos"] / row["seconds"]
        lines.append(f"{row['workers']:>7} {rate:>9.2f} {row['linear']:>9.2f}")
    return "\n".join(lines)
