"""Runs the cells of a study: processes of main.py, each in a work directory of its own."""

import dataclasses
import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from mg_jax.errors import UserError
from mg_jax.machine.cores import usable_cores
from mg_jax.machine.lock import Busy
from mg_jax.machine.progress import Bar, say
from mg_jax.report.runs import read_diverged, read_summary
from mg_jax.workdir.lock import locked_workdir

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
      iterations: of the whole run.
    """

    cell: str
    seed: int
    config: Any
    flags: tuple[str, ...]
    folder: pathlib.Path
    iterations: int

    @property
    def output(self) -> pathlib.Path:
        """What the run prints."""
        return self.folder / "output.txt"

    @property
    def summary(self) -> dict[str, Any] | None:
        """Its summary.json, once it has finished."""
        return read_summary(self.folder)

    @property
    def diverged(self) -> dict[str, Any] | None:
        """Its step and reason, if it diverged."""
        return read_diverged(self.folder)

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


def shares(at_once: int) -> list[list[int]]:
    """The usable cores in as many equal shares; what does not divide is left idle.

    Raises:
      UserError: if there are fewer cores.
    """
    # Under a CPU quota any of them will do, and other containers take some as well.
    cores = sorted(random.sample(sorted(os.sched_getaffinity(0)), usable_cores()))
    if at_once > len(cores):
        raise UserError(
            f"--at_once={at_once} is more than the {len(cores)} cores there are; give that or less"
        )
    share = len(cores) // at_once
    return [cores[i * share : (i + 1) * share] for i in range(at_once)]


def run_all(runs: list[CellRun], free: list[list[int]], report: Callable[[], None]) -> list[str]:
    """Runs what has neither finished nor diverged; if stopped, ends with the runs' checkpoints.

    A run that fails does not keep the others from running.

    Args:
      runs: in the order in which they start.
      free: for each of those that share the machine, the cores it gets.
      report: called whenever a run has ended.

    Returns:
      What to say of each run that failed.

    Raises:
      UserError: if the first run that ends fails before it trains, as then all will.
    """
    waiting, running, failed = [run for run in runs if not run.ended], [], []
    free, total, bar = list(free), sum(run.iterations for run in runs), _bar(runs)
    try:
        while waiting or running:
            while waiting and free:
                running.append((waiting[0], free[0], _start(waiting[0], free[0])))
                del waiting[0], free[0]
            time.sleep(_POLL_S)
            for run, cores, process in [each for each in running if each[2].poll() is not None]:
                running.remove((run, cores, process))
                free.append(cores)
                said = _result(run) if run.ended else _failure(run, process.returncode)
                if not run.ended:
                    failed.append(said)
                    if not any(each.ended or each.steps for each in runs):
                        raise UserError(f"a run ended before it trained: {said}")
                say(f"{said} ({len(waiting) + len(running)} of {len(runs)} runs to go)")
                report()
            left = sum(_left(run) for run in [*waiting, *(run for run, *_ in running)])
            bar.advance_to(total - left)
            bar.set_description_str(" and ".join(_doing(run) for run, *_ in running), False)
    finally:
        bar.close()
        for *_, process in running:
            process.terminate()
        for *_, process in running:
            process.wait()
    return failed


def _bar(runs: list[CellRun]) -> Bar:
    """Of iterations; on different grids they take about as long (paper, Eq. 1)."""
    total, left = sum(run.iterations for run in runs), sum(map(_left, runs))
    # The mean rate since the start: runs take their time to start.
    return Bar(total=total, initial=total - left, smoothing=0)


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
            with locked_workdir(folder):
                return
        except Busy:
            if not said:
                say(f"{folder}: waiting for an earlier run to end")
            said = True
            time.sleep(_POLL_S)


def _result(run: CellRun) -> str:
    """What to say of a run that finished or diverged."""
    if run.summary is not None:
        return run.last_line.partition("; see ")[0]
    return f"{run.folder}: {run.last_line}"


def _doing(run: CellRun) -> str:
    """Its name and, where it has said so and logged no iteration since, that it compiles."""
    compiles = run.last_line.startswith("compiling train")
    return run.folder.name + (" (compiling)" if compiles else "")


def _failure(run: CellRun, status: int) -> str:
    """What to say of a run that ended without a result."""
    last = run.last_line.removeprefix("error: ") or "it printed nothing"
    if status == -signal.SIGKILL:
        last = f"killed, as the system does with what takes too much memory; {last}"
    return f"{run.folder}: {last}; see {run.output}"


def _tail(path: pathlib.Path) -> str:
    if not path.exists():
        return ""
    with path.open("rb") as file:
        file.seek(max(path.stat().st_size - _TAIL_BYTES, 0))
        return file.read().decode(errors="replace").strip()
