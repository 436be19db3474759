"""Where a run's scalars go: what `run.loggers` lists, of `recipe_settings.LOGGERS`."""

import contextlib
import importlib
import importlib.util
import json
import pathlib
import secrets
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from mg_jax.errors import UserError
from mg_jax.machine.atomic_file import write_text
from mg_jax.recipe_settings import LOGGERS
from mg_jax.training.events import EventFile, shown_at
from mg_jax.workdir.config import read_json

LOG = "log.jsonl"
_WANDB_ID = "wandb_id"


class Logger(Protocol):
    """Writes scalars.

    A class that `LOGGERS` names is called with (workdir, start, evaluated) when a run begins or
    continues, see `JsonLines`.
    """

    def scalars(self, step: int, values: dict[str, Any], kind: str) -> None:
        """Writes scalars by name after so many iterations; kind is train, eval or test.

        Raises:
          OSError: if they cannot be written, naming the file.
        """

    def close(self) -> None:
        """Ends; an error of writing has been raised before."""


class JsonLines:
    """`log.jsonl`: on each line an object with `step`, `kind` and scalars.

    A continued run first drops the lines that it will write again.
    """

    def __init__(self, workdir: pathlib.Path, start: int, evaluated: bool):
        """Opens the file.

        Args:
          workdir: of the run.
          start: iterations done.
          evaluated: whether the line of an evaluation at `start` stays.
        """
        self._path = workdir / LOG
        self._drop_after(start, evaluated)
        self._file = self._path.open("a")

    def scalars(self, step: int, values: dict[str, Any], kind: str) -> None:
        try:
            self._file.write(json.dumps({"step": step, "kind": kind, **values}) + "\n")
            self._file.flush()
        except OSError as error:  # it does not name the file
            raise OSError(error.errno, error.strerror, str(self._path)) from error

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._file.close()

    def _drop_after(self, start: int, evaluated: bool) -> None:
        if not self._path.exists():
            return
        last = {"train": start, "eval": start if evaluated else start - 1, "test": -1}
        lines = self._path.read_text().splitlines()
        kept = [line for line in lines if _precedes(line, last)]
        write_text(self._path, "".join(line + "\n" for line in kept))


def _precedes(line: str, last: dict[str, int]) -> bool:
    """Whether a line's step is at most the last one of its kind; False for an incomplete line."""
    try:
        entry = json.loads(line)
    except json.JSONDecodeError:
        return False
    return entry["step"] <= last[entry["kind"]]


class TensorBoard:
    """Event files, with tags such as `train/loss`."""

    def __init__(self, workdir: pathlib.Path, start: int, evaluated: bool):
        """Takes the arguments of JsonLines."""
        # What comes after `start`, or at it and again, is of a run that was stopped before a newer
        # checkpoint. All else at it is written again, since files are purged of whole steps.
        shown, kinds = shown_at(workdir, start), ("train", "eval") if evaluated else ("train",)
        kept = {tag: value for tag, value in shown.items() if tag.partition("/")[0] in kinds}
        self._events = EventFile(workdir, start, kept)

    def scalars(self, step: int, values: dict[str, Any], kind: str) -> None:
        self._events.scalars(step, {f"{kind}/{name}": value for name, value in values.items()})

    def close(self) -> None:
        self._events.close()


class WeightsAndBiases:
    """A run of Weights & Biases, which goes on where the work directory's run does.

    Its project, entity and mode are what WANDB_PROJECT, WANDB_ENTITY and WANDB_MODE say.
    """

    def __init__(self, workdir: pathlib.Path, start: int, evaluated: bool):
        """Takes the arguments of JsonLines."""
        import wandb

        path = workdir / _WANDB_ID
        if not path.exists():
            write_text(path, secrets.token_hex(8))
        self._run = wandb.init(
            dir=str(workdir),
            name=workdir.name,
            id=path.read_text().strip(),
            resume="allow",
            config=read_json(workdir / "config.json"),
        )
        # Its own steps may only rise, and a run that continues begins earlier.
        self._run.define_metric("step")
        self._run.define_metric("*", step_metric="step")

    def scalars(self, step: int, values: dict[str, Any], kind: str) -> None:
        tagged = {f"{kind}/{name}": value for name, value in values.items()}
        self._run.log({"step": step, **tagged})

    def close(self) -> None:
        self._run.finish()


def check_loggers(names: Iterable[str]) -> None:
    """Raises UserError if the library of a logger is not installed."""
    # Unknown names are refused with the other settings.
    for name in filter(LOGGERS.__contains__, names):
        library = LOGGERS[name][1]
        if library and importlib.util.find_spec(library) is None:
            others = " and ".join(other for other in LOGGERS if other != name)
            raise UserError(
                f"run.loggers has {name}, which is not installed: pip install {library}; the other "
                f"loggers are {others}"
            )


def open_loggers(
    names: Iterable[str], workdir: pathlib.Path, start: int, evaluated: bool
) -> list[Logger]:
    """The loggers of those names, in their order; arguments as of JsonLines."""
    return [class_of(name)(workdir, start, evaluated) for name in names]


def class_of(name: str) -> Callable[[pathlib.Path, int, bool], Logger]:
    """The class that a name of `run.loggers` stands for."""
    module, _, class_name = LOGGERS[name][0].rpartition(".")
    return getattr(importlib.import_module(module), class_name)
