"""Checkpoints: written in the background, the newest whole one restored, damaged ones set aside."""

import contextlib
import dataclasses
import json
import pathlib
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import logging
from jax.sharding import Mesh

from mg_jax import parallel
from mg_jax.atomic_file import write_json
from mg_jax.metrics import headline
from mg_jax.train_step import TrainState

_CLASSES = "classes.json"


class WorkdirError(ValueError):
    """A work directory that belongs to something else."""


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """What an evaluation found.

    Attributes:
      metrics: loss, and top1 or map.
      batch_stats: the precise statistics they were measured with.
    """

    metrics: dict[str, float]
    batch_stats: Any


class Checkpoints:
    """The checkpoints of a work directory.

    A checkpoint holds the TrainState and the run's clocks. The order of samples follows from the
    step alone, so there is nothing else to keep. One at which the model was evaluated also holds
    its metrics and the precise statistics they were measured with. The newest `keep` stay, and the
    one with the best score.
    """

    def __init__(self, workdir: pathlib.Path, keep: int, read_only: bool = False):
        self.folder = workdir.absolute() / "checkpoints"
        self._scores = score_by_step(self.folder)
        options = ocp.CheckpointManagerOptions(
            preservation_policy=NewestAndBest(keep, self._scores),
            # Another process may be writing where this one only reads.
            cleanup_tmp_directories=not read_only,
            read_only=read_only,
        )
        self._manager = ocp.CheckpointManager(self.folder, options=options)

    def save(
        self,
        state: TrainState,
        step: int,
        clocks: dict[str, float],
        evaluation: Evaluation | None = None,
    ) -> None:
        """Begins to write; the copy off the device is done when this returns."""
        items = {"state": ocp.args.StandardSave(state), "clocks": ocp.args.JsonSave(clocks)}
        if evaluation is not None:
            items["batch_stats"] = ocp.args.StandardSave(evaluation.batch_stats)
            items["evaluation"] = ocp.args.JsonSave(evaluation.metrics)
            self._scores[step] = headline(evaluation.metrics)
        self._manager.save(step, args=ocp.args.Composite(**items))

    def restore(
        self, state: TrainState, mesh: Mesh, repair: bool
    ) -> tuple[TrainState, dict[str, float]] | None:
        """The newest checkpoint that can be read, or None where there is none.

        Args:
          state: gives shapes and dtypes.
          mesh: the devices to restore to.
          repair: rename newer ones that cannot be read, so that training can go past them.

        Raises:
          WorkdirError: if there are checkpoints and none can be read.
        """
        items = ocp.args.Composite(
            state=ocp.args.StandardRestore(parallel.abstract(state, mesh, parallel.REPLICATED)),
            clocks=ocp.args.JsonRestore(),
        )
        errors = {}
        for step in sorted(self._manager.all_steps(), reverse=True):
            try:
                restored = self._manager.restore(step, args=items)
            except Exception as error:  # Orbax and TensorStore raise whatever the damage causes.
                errors[step] = str(error).splitlines()[0] if str(error) else type(error).__name__
                continue
            for failed, reason in errors.items():
                logging.error(
                    "checkpoint %s cannot be read (%s); using the one before",
                    self.folder / str(failed),
                    reason,
                )
            if errors and repair:
                self._set_aside(list(errors))
            return restored["state"], restored["clocks"]
        if errors:
            raise WorkdirError(
                f"none of the {len(errors)} checkpoints in {self.folder} can be read; the newest: "
                f"{next(iter(errors.values()))}"
            )
        return None

    def close(self) -> None:
        """Waits until everything is written."""
        self._manager.close()

    def _set_aside(self, steps: list[int]) -> None:
        for step in steps:
            self._scores.pop(step, None)
            damaged = self.folder.parent / f"damaged_checkpoint_{step}_{time.time_ns()}"
            logging.error("kept as %s", damaged)
            if jax.process_index() == 0:
                (self.folder / str(step)).rename(damaged)
        self._manager.reload()


@dataclasses.dataclass(frozen=True)
class NewestAndBest(ocp.checkpoint_managers.PreservationPolicy):
    """Keeps the newest checkpoints and the one with the best score.

    Attributes:
      newest: how many.
      scores: by step, of those that were evaluated.
    """

    newest: int
    scores: dict[int, float]

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
        """Whether to keep each of the checkpoints."""
        steps = [checkpoint.step for checkpoint in checkpoints]
        kept = {*sorted(steps)[-self.newest :], best_step(self.scores, steps)}
        return [step in kept for step in steps]


def best_step(scores: dict[int, float], steps: Iterable[int]) -> int | None:
    """The step with the best score, of equal ones the last; None where none was evaluated."""
    return max(
        (step for step in steps if step in scores), key=lambda s: (scores[s], s), default=None
    )


def score_by_step(folder: pathlib.Path) -> dict[int, float]:
    """Top-1 or mAP of the checkpoints that were evaluated and whose metrics can be read."""
    scores = {}
    for path in folder.glob("[0-9]*/evaluation/metadata"):
        with contextlib.suppress(ValueError, KeyError, OSError):
            scores[int(path.parts[-3])] = headline(json.loads(path.read_text()))
    return scores


@dataclasses.dataclass(frozen=True)
class Best:
    """A checkpoint to apply.

    Attributes:
      step: iterations done.
      evaluated: it is the one with the best score, with precise `batch_stats`; otherwise none was
        evaluated yet and it is the newest, with running ones.
      variables: `params` and `batch_stats`, NumPy arrays.
      classes: names at their numbers.
    """

    step: int
    evaluated: bool
    variables: dict[str, Any]
    classes: list[str]

    def __str__(self) -> str:
        kind = "best checkpoint" if self.evaluated else "newest checkpoint, none evaluated yet"
        return f"{kind}, step {self.step}"


def read_best(workdir: pathlib.Path) -> Best:
    """The evaluated checkpoint of a work directory with the best score, or the newest one.

    One that cannot be read is passed over with a message.

    Raises:
      WorkdirError: if there is none that can be read.
    """
    if not has_checkpoint(workdir):
        raise WorkdirError(f"{workdir} holds no checkpoint; train there first")
    folder = workdir.absolute() / "checkpoints"
    scores = score_by_step(folder)
    steps = {int(path.name) for path in folder.iterdir() if path.name.isdigit()}
    while steps:
        best = best_step(scores, steps)
        step = max(steps) if best is None else best
        try:
            variables = _read_variables(folder / str(step))
            return Best(step, best is not None, variables, classes=read_classes(workdir))
        except Exception as error:  # Orbax and TensorStore raise whatever the damage causes.
            reason = (str(error) or type(error).__name__).splitlines()[0]
            logging.error("checkpoint %s cannot be read (%s)", folder / str(step), reason)
        steps.remove(step)
    raise WorkdirError(f"none of the checkpoints in {folder} can be read")


def _read_variables(checkpoint: pathlib.Path) -> dict[str, Any]:
    state = _read_arrays(checkpoint / "state")
    precise = checkpoint / "batch_stats"
    batch_stats = _read_arrays(precise) if precise.exists() else state["batch_stats"]
    return {"params": state["params"], "batch_stats": batch_stats}


def _read_arrays(folder: pathlib.Path) -> dict[str, Any]:
    """One item of a checkpoint in host memory, whatever devices it was written from."""
    handler = ocp.PyTreeCheckpointHandler()
    as_numpy = jax.tree.map(
        lambda _: ocp.RestoreArgs(restore_type=np.ndarray), handler.metadata(folder).tree
    )
    try:
        return handler.restore(folder, args=ocp.args.PyTreeRestore(restore_args=as_numpy))
    finally:
        handler.close()


def has_checkpoint(workdir: pathlib.Path) -> bool:
    """Whether a work directory holds a checkpoint that was written to its end."""
    return any(path.name.isdigit() for path in (workdir / "checkpoints").glob("*"))


def check_config(workdir: pathlib.Path, config, sections: tuple[str, ...] = ("",)) -> None:
    """Makes sure that the checkpoints of a work directory, if any, belong to the config.

    What is under `run`, `eval` and `prepare`, where the data lies, how much of it may be damaged,
    and what the run started from may differ.

    Args:
      workdir: holds `config.json`.
      config: to compare with it.
      sections: beginnings of the keys to compare.

    Raises:
      WorkdirError: naming the keys that differ.
    """
    path = workdir / "config.json"
    if not has_checkpoint(workdir):
        return
    if not path.exists():
        raise WorkdirError(
            f"{workdir} holds checkpoints but no config.json to tell whose they are; put it back "
            "or choose another --workdir"
        )
    there, here = json.loads(path.read_text()), json.loads(config.to_json())
    differing = _differences(_binding(there, sections), _binding(here, sections))
    if differing:
        raise WorkdirError(
            f"{workdir} holds checkpoints of another config; continue it with the same settings "
            "or choose another --workdir. Differing: " + "; ".join(differing)
        )


def check_classes(workdir: pathlib.Path, classes: list[str]) -> None:
    """Makes sure that the checkpoints of a work directory, if any, are of these classes.

    Raises:
      WorkdirError: naming the first that differs.
    """
    if not has_checkpoint(workdir):
        return
    there = read_classes(workdir)
    if len(there) != len(classes):
        raise WorkdirError(
            f"{workdir} holds checkpoints of {len(there)} classes; the data set {len(classes)}; "
            "use the one it was trained on, or choose another --workdir"
        )
    differing = [k for k in range(len(classes)) if there[k] != classes[k]]
    if differing:
        k = differing[0]
        raise WorkdirError(
            f"{workdir} holds checkpoints of other classes: {len(differing)} of {len(classes)} "
            f"differ; number {k} is {there[k]!r} there and {classes[k]!r} in the data set. Use the "
            "data set it was trained on, or choose another --workdir with --config.init_from="
            f"{workdir}"
        )


def read_classes(workdir: pathlib.Path) -> list[str]:
    """Names of the classes that a work directory's checkpoints tell apart.

    Raises:
      WorkdirError: if they are not there.
    """
    path = workdir / _CLASSES
    if not path.exists():
        raise WorkdirError(
            f"{workdir} holds checkpoints but no {_CLASSES} to name their classes; put it back "
            "or choose another --workdir"
        )
    return json.loads(path.read_text())


def write_config(workdir: pathlib.Path, config, classes: list[str]) -> None:
    """Writes `config.json` and `classes.json`."""
    workdir.mkdir(parents=True, exist_ok=True)
    write_json(workdir / "config.json", json.loads(config.to_json()))
    write_json(workdir / _CLASSES, classes)


def _binding(config: dict[str, Any], sections: tuple[str, ...]) -> dict[str, Any]:
    return {
        name: value
        for name, value in _leaves(config)
        if name.startswith(sections)
        and not name.startswith(("run.", "eval.", "prepare."))
        and name not in ("data.dir", "data.max_damaged", "init_from")
    }


def _leaves(config: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in config.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def _differences(there: dict[str, Any], given: dict[str, Any]) -> list[str]:
    rows = (
        (name, there.get(name, "(not set)"), given.get(name, "(not set)"))
        for name in sorted(there.keys() | given.keys())
    )
    return [f"{name} is {old} there and {new} here" for name, old, new in rows if old != new]
