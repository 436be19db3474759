"""Runs the trials of a study: processes of main.py, each in a work directory of its own."""

import dataclasses
import json
import os
import pathlib
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from mg_jax.errors import UserError
from mg_jax.machine.lock import Busy
from mg_jax.machine.progress import Bar, say
from mg_jax.workdir.diverged import read_diverged
from mg_jax.workdir.finished import read_summary
from mg_jax.workdir.lock import locked_workdir

_MAIN = pathlib.Path(__file__).parents[2] / "main.py"
_POLL_S = 0.5
_TAIL_BYTES = 4096  # longer than the last line of a log


@dataclasses.dataclass(frozen=True)
class Trial:
    """A cell with a seed, which one run of main.py trains.

    Attributes:
      cell: the cell's name.
      seed: of the run.
      config: of the run.
      flags: that make main.py train it.
      folder: the run's work directory.
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
        """The file that holds what the run prints."""
        return self.folder / "output.txt"

    @property
    def last_line(self) -> str:
        """The last line that the run printed."""
        lines = _tail(self.output).splitlines()
        return lines[-1] if lines else ""

    @property
    def steps(self) -> int:
        """Iterations that the run has logged."""
        for line in reversed(_tail(self.folder / "log.jsonl").splitlines()):
            try:
                return json.loads(line)["step"]
            except json.JSONDecodeError:  # it is still being written
                continue
        return 0

    @property
    def finished(self) -> bool:
        """Whether the run has come to its end and was evaluated."""
        return read_summary(self.folder) is not None

    @property
    def ended(self) -> bool:
        """Whether the run has finished or diverged, so that there is nothing to go on with."""
        return self.finished or read_diverged(self.folder) is not None


@dataclasses.dataclass(frozen=True)
class _Running:
    """A trial whose process has been started, on these cores."""

    trial: Trial
    cores: list[int]
    process: subprocess.Popen


def run_trials(trials: list[Trial], free: list[list[int]], report: Callable[[], None]) -> list[str]:
    """Runs the trials that have neither finished nor diverged.

    A run that fails does not keep the others from running. When stopped, stops the runs, which
    write their checkpoints, and waits for them.

    Args:
      trials: in the order in which they start.
      free: the cores that each of the runs at a time gets.
      report: called whenever a run has ended.

    Returns:
      What to say of each run that failed.

    Raises:
      UserError: if the first run that ends fails before it trains, as then all will.
    """
    waiting, running, failed = [trial for trial in trials if not trial.ended], [], []
    free, bar = list(free), _bar(trials)
    try:
        while waiting or running:
            while waiting and free:
                running.append(_start(waiting[0], free[0]))
                del waiting[0], free[0]
            time.sleep(_POLL_S)
            for each in [each for each in running if each.process.poll() is not None]:
                running.remove(each)
                free.append(each.cores)
                if each.trial.ended:
                    said = _result(each.trial)
                else:
                    said = _failure(each.trial, each.process.returncode)
                    failed.append(said)
                    if not any(trial.ended or trial.steps for trial in trials):
                        raise UserError(f"a run ended before it trained: {said}")
                say(f"{said} ({len(waiting) + len(running)} of {len(trials)} runs to go)")
                report()
            _show(bar, waiting, [each.trial for each in running])
    finally:
        bar.close()
        for each in running:
            each.process.terminate()
        for each in running:
            each.process.wait()
    return failed


def _bar(trials: list[Trial]) -> Bar:
    """A bar of iterations; on different grids they take about as long (paper, Eq. 1)."""
    total, left = sum(trial.iterations for trial in trials), sum(map(_left, trials))
    # The mean rate since the start: runs take their time to start.
    return Bar(total=total, initial=total - left, smoothing=0)


def _show(bar: Bar, waiting: list[Trial], running: list[Trial]) -> None:
    left = sum(map(_left, [*waiting, *running]))
    bar.advance_to(bar.total - left)
    bar.set_description_str(" and ".join(map(_doing, running)), False)


def _left(trial: Trial) -> int:
    return 0 if trial.ended else trial.iterations - trial.steps


def _start(trial: Trial, cores: list[int]) -> _Running:
    trial.folder.mkdir(parents=True, exist_ok=True)
    _wait_for_earlier(trial.folder)
    share = ",".join(map(str, cores))
    command = [
        sys.executable,
        "-m",
        "mg_jax.study.run_process",
        str(os.getpid()),
        share,
        str(_MAIN),
    ]
    with trial.output.open("a") as output:
        process = subprocess.Popen(
            [*command, *trial.flags, f"--workdir={trial.folder}"],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            # Ctrl-C reaches the study alone; it sends its runs SIGTERM, so that they write a
            # checkpoint.
            process_group=0,
        )
    return _Running(trial, cores, process)


def _wait_for_earlier(folder: pathlib.Path) -> None:
    """Waits for a run of a study that was killed; it may still be writing its last checkpoint."""
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


def _result(trial: Trial) -> str:
    """What to say of a run that finished or diverged."""
    if trial.finished:
        return trial.last_line.partition("; see ")[0]
    return f"{trial.folder}: {trial.last_line}"


def _doing(trial: Trial) -> str:
    """The run's name and, if that is the last thing it said, that it is compiling."""
    compiles = trial.last_line.startswith("compiling train")
    return trial.folder.name + (" (compiling)" if compiles else "")


def _failure(trial: Trial, status: int) -> str:
    """What to say of a run that ended without a result."""
    last = trial.last_line.removeprefix("error: ") or "it printed nothing"
    if status == -signal.SIGKILL:
        last = f"killed with SIGKILL, probably because memory ran out; {last}"
    return f"{trial.folder}: {last}; see {trial.output}"


def _tail(path: pathlib.Path) -> str:
    if not path.exists():
        return ""
    with path.open("rb") as file:
        file.seek(max(path.stat().st_size - _TAIL_BYTES, 0))
        return file.read().decode(errors="replace").strip()
