"""What a run tells: TensorBoard scalars, log.jsonl, and a progress bar or plain lines."""

import contextlib
import json
import pathlib
from typing import Any

from mg_jax.machine.atomic_file import write_text
from mg_jax.machine.progress import Bar, say
from mg_jax.runtime import hosts
from mg_jax.training.events import EventFile


def open_log(workdir: pathlib.Path, start: int, iterations: int, evaluated: bool) -> "RunLog":
    """The log of a run from step `start` on; of several processes, the first one's writes.

    Args:
      workdir: holds it.
      start: iterations done.
      iterations: of the whole run.
      evaluated: what the log says of an evaluation at `start` stays.
    """
    log = RunLog if hosts.is_first() else NoLog
    return log(workdir, start, iterations, evaluated)


class RunLog:
    """Writes a run's scalars. A continued run first drops what lies past its start.

    Attributes:
      path: `log.jsonl`, an object with `step` and scalars on each line.
    """

    def __init__(self, workdir: pathlib.Path, start: int, iterations: int, evaluated: bool):
        self.path = workdir / "log.jsonl"
        self._drop_after(start, evaluated)
        self._file = self.path.open("a")
        # Events of steps after `start` are from a run that was cut off.
        self._events = EventFile(workdir, purge_from=start + 1)
        self._bar = Bar(total=iterations, initial=start)
        self._iterations = iterations

    def scalars(self, step: int, values: dict[str, Any], prefix: str = "train") -> None:
        """Writes scalars after `step` iterations."""
        try:
            self._file.write(json.dumps({"step": step, "kind": prefix, **values}) + "\n")
            self._file.flush()
        except OSError as error:  # which does not say where
            raise OSError(error.errno, error.strerror, str(self.path)) from error
        tagged = {f"{prefix}/{name}": value for name, value in values.items()}
        self._events.scalars(step, tagged)
        text = "  ".join(f"{name} {_short(value)}" for name, value in values.items())
        if prefix == "train" and self._bar.is_shown:
            self._bar.set_postfix_str(_brief(values), refresh=False)
        else:
            say(f"{prefix} {step}/{self._iterations}  {text}")

    def advance(self, step: int) -> None:
        """Moves the progress bar to `step`."""
        self._bar.advance_to(step)

    def say(self, text: str) -> None:
        """Prints a line without tearing the progress bar."""
        say(text)

    def close(self) -> None:
        """Writes out everything; what could not be written has been said before."""
        with contextlib.suppress(OSError):
            self._file.close()
        self._events.close()
        self._bar.close()

    def _drop_after(self, start: int, evaluated: bool) -> None:
        """Drops what the run will log again."""
        if not self.path.exists():
            return
        last = {"train": start, "eval": start if evaluated else start - 1, "test": -1}
        lines = self.path.read_text().splitlines()
        kept = [line for line in lines if _precedes(line, last)]
        write_text(self.path, "".join(line + "\n" for line in kept))


class NoLog(RunLog):
    """What the other processes of a run log: nothing."""

    def __init__(self, workdir: pathlib.Path, start: int, iterations: int, evaluated: bool):
        """Takes what RunLog does."""

    def scalars(self, step: int, values: dict[str, Any], prefix: str = "train") -> None:
        """Does nothing."""

    def advance(self, step: int) -> None:
        """Does nothing."""

    def say(self, text: str) -> None:
        """Does nothing."""

    def close(self) -> None:
        """Does nothing."""


def _precedes(line: str, last: dict[str, int]) -> bool:
    """Whether a line is of the last step of its kind or before; one that was cut off is not."""
    try:
        entry = json.loads(line)
    except json.JSONDecodeError:
        return False
    return entry["step"] <= last[entry["kind"]]


def _brief(values: dict[str, Any]) -> str:
    """Of training's scalars as many as a bar has room for."""
    parts = [f"{name} {_short(values[name])}" for name in ("loss", "top1") if name in values]
    if "frames" in values:
        parts.append("{clips}x{frames}x{size}^2".format_map(values))
    if "clips_per_s" in values:
        parts.append(f"{values['clips_per_s']:.0f} clips/s")
    return " ".join(parts)


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
