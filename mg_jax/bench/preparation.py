"""How preparing a data set scales with worker processes, and with processes that share it."""

import multiprocessing
import pathlib
import shutil
import time
from typing import Any

from mg_jax.bench import sources
from mg_jax.bench.preparation_cost import measure_costs
from mg_jax.errors import UserError, some
from mg_jax.machine.cores import usable_cores
from mg_jax.machine.launcher import Process
from mg_jax.tools.prepare import prepare

_FEW, _MANY, _FRAMES = 64, 192, 300


def measure(config, workdir: pathlib.Path) -> dict[str, Any]:
    """What videos cost, and the rates of 1, 2, 4 ... workers, up to a worker per core.

    Then of as many processes with one worker each. Few and many videos are prepared; the rate is
    that of the further ones, so that the start of the processes does not count.
    """
    costs = measure_costs(workdir / "costs")
    rows, workers = [], 1
    while workers <= usable_cores():
        rows.append(_row(config, workdir, rows, workers=workers, processes=1))
        workers *= 2
    processes = 2
    while processes <= usable_cores():
        rows.append(_row(config, workdir, rows, workers=1, processes=processes))
        processes *= 2
    video = f"{sources.USUAL}, {_FRAMES} frames"
    return {"video": video, "videos": _MANY, "runs": rows, "costs": costs}


def _row(
    config, workdir: pathlib.Path, rows: list[dict[str, Any]], workers: int, processes: int
) -> dict[str, Any]:
    few, many = (_seconds(config, workdir, count, workers, processes) for count in (_FEW, _MANY))
    rate = (_MANY - _FEW) / (many - few)
    row = {"processes": processes, "workers": workers, "videos_per_s": rate}
    row["start_s"] = few - _FEW / rate
    first = (rows or [row])[0]["videos_per_s"]
    return {**row, "of_linear": rate / workers / processes / first}


def _seconds(config, workdir: pathlib.Path, count: int, workers: int, processes: int) -> float:
    videos = workdir / f"{count}_videos"
    sources.make_videos(videos, count, _FRAMES)
    config.data.name = "video_folder/bench"
    config.data.dir = str(workdir / "prepared")
    config.prepare.source = str(videos)
    config.prepare.workers = workers
    shutil.rmtree(config.data.dir, ignore_errors=True)
    context = multiprocessing.get_context("spawn")
    start = time.perf_counter()
    others = [
        context.Process(target=prepare, args=(config, Process(i, processes)))
        for i in range(1, processes)
    ]
    for other in others:
        other.start()
    prepare(config, Process(0, processes) if others else None)
    seconds = time.perf_counter() - start
    for other in others:
        other.join()
    shutil.rmtree(config.data.dir)
    if failed := [other.exitcode for other in others if other.exitcode]:
        raise UserError(f"processes that prepared ended with status {some(failed)}")
    return seconds


def format_table(result: dict[str, Any]) -> str:
    """A line for each number of processes and workers."""
    lines = [f"{'processes':>9} {'workers':>7} {'videos/s':>9} {'of linear':>9} {'start, s':>9}"]
    for row in result["runs"]:
        lines.append(
            f"{row['processes']:>9} {row['workers']:>7} {row['videos_per_s']:>9.2f} "
            f"{row['of_linear']:>9.2f} {row['start_s']:>9.1f}"
        )
    return "\n".join(lines)
