"""Runs the cells of a study: processes of main.py, each in a work directory of its own."""

import dataclasses
import json
import os
import pathlib
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from tqdm import tqdm

from mg_jax.diverged import Diverged
from mg_jax.lock import Busy, locked
from mg_jax.progress import has_terminal, say
from mg_jax.recipe import schedule_from_config
from mg_jax.report.runs import read_summary
from mg_jax.workdir import check_same_config

_MAIN = pathlib.Path(__file__).parents[2] / "main.py"
_POLL_S = 0.5
_TAIL_BYTES = 4096  # of a log, longer than its last line


@dataclasses.dataclass(frozen=True)
class CellRun:
    """A cell with a seed.

    Attributes:
      cell: its name.
      seed: of the run.
      config: what is trained.
      flags: that make main.py train it.
      folder: the work directory.
    """

    cell: str
    seed: int
    config: Any
    flags: tuple[str, ...]
    folder: pathlib.Path

    @property
    def iterations(self) -> int:
        """Of the whole run."""
        return schedule_from_config(self.config).iterations

    @property
    def output(self) -> pathlib.Path:
        """What the run prints."""
        return self.folder / "output.txt"

    @property
    def summary(self) -> dict[str, Any] | None:
        """Its summary.json, once it has finished."""
        return read_summary(self.folder)

    @property
    def diverged(self) -> str | None:
        """What it said, if it diverged."""
        return self.last_line if self.last_line.startswith(f"error: {Diverged.PREFIX}") else None

    @property
    def last_line(self) -> str:
        """The last that it printed."""
        lines = _tail(self.output).splitlines()
        return lines[-1] if lines else ""

    @property
    def steps(self) -> int:
        """Iterations it has logged."""
        for line in reversed(_tail(self.folder / "log.jsonl").splitlines()):
            try:
                return json.loads(line)["step"]
            except json.JSONDecodeError:  # it is just being written
                continue
        return 0

    @property
    def ended(self) -> bool:
        """Whether there is nothing to go on with."""
        return self.summary is not None or self.diverged is not None

    def check(self) -> None:
        """Makes sure that what is in the work directory, if anything, is of this config.

        Raises:
          ValueError: naming the settings that differ.
        """
        schedule_from_config(self.config)
        check_same_config(self.folder, self.config)


def shares(at_once: int) -> list[list[int]]:
    """The machine's cores in as many equal shares; what does not divide is left idle.

    Raises:
      ValueError: if there are fewer cores.
    """
    cores = sorted(os.sched_getaffinity(0))
    if at_once > len(cores):
        raise ValueError(
            f"--at_once={at_once} is more than the {len(cores)} cores there are; give that or less"
        )
    share = len(cores) // at_once
    return [cores[i * share : (i + 1) * share] for i in range(at_once)]


def run_all(runs: list[CellRun], free: list[list[int]], report: Callable[[], None]) -> None:
    """Runs what has neither finished nor diverged; ends with the others' checkpoints if stopped.

    Args:
      runs: in the order in which they start.
      free: for each of those that share the machine, the cores it gets.
      report: called whenever a run has ended.

    Raises:
      ValueError: in the end, naming the runs that failed; at once, if one fails before it trains.
    """
    waiting, running, failed = [run for run in runs if not run.ended], [], []
    total, bar = sum(run.iterations for run in runs), _bar(runs)
    try:
        while waiting or running:
            while waiting and free:
                running.append((waiting[0], free[0], _start(waiting[0], free[0])))
                del waiting[0], free[0]
            time.sleep(_POLL_S)
            for run, cores, process in [each for each in running if each[2].poll() is not None]:
                running.remove((run, cores, process))
                free.append(cores)
                failed += _failures(run)
                say(f"{run.last_line} ({len(waiting) + len(running)} of {len(runs)} runs to go)")
                report()
            bar.update(total - sum(_left(run) for run in runs) - bar.n)
    finally:
        bar.close()
        for *_, process in running:
            process.terminate()
        for *_, process in running:
            process.wait()
    if failed:
        raise ValueError("these did not finish, the same command goes on: " + "; ".join(failed))


def _bar(runs: list[CellRun]) -> tqdm:
    """Of iterations; on different grids they take about as long (paper, Eq. 1)."""
    total, left = sum(run.iterations for run in runs), sum(map(_left, runs))
    return tqdm(
        total=total,
        initial=total - left,
        unit="it",
        dynamic_ncols=True,
        disable=not has_terminal(),
    )


def _left(run: CellRun) -> int:
    return 0 if run.ended else run.iterations - run.steps


def _start(run: CellRun, cores: list[int]) -> subprocess.Popen:
    run.folder.mkdir(parents=True, exist_ok=True)
    _wait_for_earlier(run.folder)
    share = ",".join(map(str, cores))
    command = [sys.executable, "-m", "mg_jax.study.child", str(os.getpid()), share, str(_MAIN)]
    with run.output.open("a") as output:
        return subprocess.Popen(
            [*command, *run.flags, f"--workdir={run.folder}"],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            # Ctrl-C is the study's; its runs get SIGTERM from it, and write a checkpoint.
            process_group=0,
        )


def _wait_for_earlier(folder: pathlib.Path) -> None:
    """Of a study that was killed, whose runs may still be writing their last checkpoint."""
    said = False
    while True:
        try:
            with locked(folder):
                return
        except Busy:
            if not said:
                say(f"{folder}: waiting for an earlier run to end")
            said = True
            time.sleep(_POLL_S)


def _failures(run: CellRun) -> list[str]:
    """What to say of a run that ended, if it failed."""
    if run.ended:
        return []
    text = f"{run.folder}: {run.last_line or 'it printed nothing'}; see {run.output}"
    if not run.steps:
        raise ValueError(f"a run ended before it trained: {text}")
    return [text]


def _tail(path: pathlib.Path) -> str:
    if not path.exists():
        return ""
    with path.open("rb") as file:
        file.seek(max(path.stat().st_size - _TAIL_BYTES, 0))
        return file.read().decode(errors="replace").strip()
