"""The log of a run: `log.jsonl`, TensorBoard scalars, and a progress bar or plain lines."""

import contextlib
import json
import pathlib
from typing import Any

from mg_jax.machine.atomic_file import write_text
from mg_jax.machine.progress import Bar, say
from mg_jax.runtime import hosts
from mg_jax.training.events import EventFile


def open_log(workdir: pathlib.Path, start: int, iterations: int, evaluated: bool) -> "RunLog":
    """The log of a run from step `start` on; only the first process writes.

    Args:
      workdir: of the run.
      start: iterations done.
      iterations: of the whole run.
      evaluated: whether the checkpoint of `start` holds an evaluation, whose line stays then.
    """
    log = RunLog if hosts.is_first() else NoLog
    return log(workdir, start, iterations, evaluated)


class RunLog:
    """Writes a run's scalars; first drops the lines that a continued run will write again.

    Attributes:
      path: `log.jsonl`, on each line an object with `step`, `kind` and scalars.
    """

    def __init__(self, workdir: pathlib.Path, start: int, iterations: int, evaluated: bool):
        self.path = workdir / "log.jsonl"
        self._drop_after(start, evaluated)
        self._file = self.path.open("a")
        # Events after `start` are those of a run that was stopped after its newest checkpoint.
        self._events = EventFile(workdir, purge_from=start + 1)
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
        try:
            self._file.write(json.dumps({"step": step, "kind": kind, **values}) + "\n")
            self._file.flush()
        except OSError as error:  # it does not name the file
            raise OSError(error.errno, error.strerror, str(self.path)) from error
        tagged = {f"{kind}/{name}": value for name, value in values.items()}
        self._events.scalars(step, tagged)
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
        """Closes the files; an error of writing has been raised before."""
        with contextlib.suppress(OSError):
            self._file.close()
        self._events.close()
        self._bar.close()

    def _drop_after(self, start: int, evaluated: bool) -> None:
        """Drops the lines that the run will log again."""
        if not self.path.exists():
            return
        last = {"train": start, "eval": start if evaluated else start - 1, "test": -1}
        lines = self.path.read_text().splitlines()
        kept = [line for line in lines if _precedes(line, last)]
        write_text(self.path, "".join(line + "\n" for line in kept))


class NoLog(RunLog):
    """The log of all processes but the first: nothing is written."""

    def __init__(self, workdir: pathlib.Path, start: int, iterations: int, evaluated: bool):
        """Takes the arguments of RunLog."""

    def scalars(self, step: int, values: dict[str, Any], kind: str = "train") -> None:
        """Does nothing."""

    def advance(self, step: int) -> None:
        """Does nothing."""

    def say(self, text: str) -> None:
        """Does nothing."""

    def close(self) -> None:
        """Does nothing."""


def _precedes(line: str, last: dict[str, int]) -> bool:
    """Whether a line's step is at most the last one of its kind; False for an incomplete line."""
    try:
        entry = json.loads(line)
    except json.JSONDecodeError:
        return False
    return entry["step"] <= last[entry["kind"]]


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
