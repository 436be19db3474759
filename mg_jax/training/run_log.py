"""The log of a run: its loggers, and a progress bar or plain lines."""

import pathlib
from collections.abc import Sequence
from typing import Any

from mg_jax.machine.progress import Bar, say
from mg_jax.runtime import hosts
from mg_jax.training.loggers import open_loggers


def open_log(
    workdir: pathlib.Path, start: int, iterations: int, evaluated: bool, loggers: Sequence[str]
) -> "RunLog":
    """The log of a run from step `start` on; only the first process writes.

    Args:
      workdir: of the run.
      start: iterations done.
      iterations: of the whole run.
      evaluated: whether the checkpoint of `start` holds an evaluation, whose line stays then.
      loggers: names, as in `run.loggers`.
    """
    log = RunLog if hosts.is_first() else NoLog
    return log(workdir, start, iterations, evaluated, loggers)


class RunLog:
    """Passes a run's scalars to its loggers and shows them."""

    def __init__(
        self,
        workdir: pathlib.Path,
        start: int,
        iterations: int,
        evaluated: bool,
        loggers: Sequence[str],
    ):
        """Takes the arguments of `open_log`."""
        self._loggers = open_loggers(loggers, workdir, start, evaluated)
        self._bar = Bar(total=iterations, initial=start)
        self._iterations = iterations

    def scalars(self, step: int, values: dict[str, Any], kind: str = "train") -> None:
        """Writes scalars.

        Args:
          step: iterations done.
          values: by name.
          kind: train; eval, of one centre view along the way; or test, of all views at the end.

        Raises:
          OSError: if they cannot be written, naming the file.
        """
        for logger in self._loggers:
            logger.scalars(step, values, kind)
        text = "  ".join(f"{name} {_short(value)}" for name, value in values.items())
        if kind == "train" and self._bar.is_shown:
            self._bar.set_postfix_str(_brief(values), refresh=False)
        else:
            say(f"{kind} {step}/{self._iterations}  {text}")

    def advance(self, step: int) -> None:
        """Moves the progress bar to `step`."""
        self._bar.advance_to(step)

    def say(self, text: str) -> None:
        """Prints a line above the progress bar."""
        say(text)

    def close(self) -> None:
        """Closes the loggers; an error of writing has been raised before."""
        for logger in self._loggers:
            logger.close()
        self._bar.close()


class NoLog(RunLog):
    """The log of all processes but the first: nothing is written."""

    def __init__(self, *arguments: Any):
        """Takes the arguments of RunLog."""

    def scalars(self, step: int, values: dict[str, Any], kind: str = "train") -> None:
        """Does nothing."""

    def advance(self, step: int) -> None:
        """Does nothing."""

    def say(self, text: str) -> None:
        """Does nothing."""

    def close(self) -> None:
        """Does nothing."""


def _brief(values: dict[str, Any]) -> str:
    """The scalars of training that fit beside a progress bar."""
    parts = [f"{name} {_short(values[name])}" for name in ("loss", "top1") if name in values]
    if "frames" in values:
        parts.append("{clips}x{frames}x{size}^2".format_map(values))
    if "clips_per_s" in values:
        parts.append(f"{values['clips_per_s']:.0f} clips/s")
    return " ".join(parts)


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
