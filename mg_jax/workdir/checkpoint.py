"""Checkpoints: written in the background; the newest readable one is restored."""

import contextlib
import dataclasses
import fnmatch
import os
import pathlib
import shutil
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import logging
from jax.sharding import Mesh

from mg_jax.errors import UserError, first_line, some
from mg_jax.machine.failure import is_of_machine
from mg_jax.metrics import headline
from mg_jax.runtime import hosts, parallel
from mg_jax.runtime.state import TrainState
from mg_jax.workdir import event_loops
from mg_jax.workdir.checkpoint_record import (
    RECORD_ITEM,
    DamagedCheckpoint,
    add_to_record,
    check_checksums,
    checksum,
    read_record,
    reason,
    score_by_step,
    state_checksums,
    with_checksum,
)
from mg_jax.workdir.config import WorkdirError, check_has_checkpoint, read_classes, steps_in
from mg_jax.workdir.kept import NewestAndBest, best_step
from mg_jax.workdir.writer import create_handlers, create_writer

# After an error, for how long nothing half written may reappear, and for how long it is removed.
_SETTLED_S = 3
_REMOVAL_S = 30
_MANIFEST = "manifest.ocdbt"
_NONE_LEFT = "put them back from a copy, or choose another --workdir"


class CheckpointError(UserError):
    """A checkpoint could not be written."""


class Checkpoints:
    """The checkpoints of a work directory.

    A checkpoint holds the TrainState and the run's clocks. The order of samples follows from the
    step alone, so there is nothing else to keep. Once the model has been evaluated at its step, it
    also holds the metrics and the precise batch-norm statistics they were measured with. The newest
    `keep` checkpoints and the one with the best score are kept. Checksums reveal damage that the
    file format does not.
    """

    def __init__(self, workdir: pathlib.Path, keep: int, *, read_only: bool):
        """Finds the checkpoints that are there.

        Args:
          workdir: of the run.
          keep: how many of the newest checkpoints to keep.
          read_only: another process may be writing there.
        """
        self.folder = workdir.absolute() / "checkpoints"
        # As lists, since JSON has no integer keys.
        steps, scores = hosts.on_first(
            lambda: (sorted(steps_in(self.folder)), sorted(score_by_step(self.folder).items()))
        )
        self._steps: list[int] = steps
        self._scores: dict[int, float] = dict(scores)
        self._read_only = read_only
        hosts.on_all(self._await_steps)
        self._writing: int | None = None
        self._failed = False
        self._policy = NewestAndBest(keep, self._scores)
        options = ocp.CheckpointManagerOptions(
            preservation_policy=self._policy,
            cleanup_tmp_directories=not read_only,
            read_only=read_only,
        )
        self._manager = ocp.CheckpointManager(
            self.folder, options=options, handler_registry=create_handlers("state")
        )

    def evaluated(self, step: int) -> bool:
        """Whether the checkpoint of a step holds an evaluation."""
        return step in self._scores

    def save(self, state: TrainState, step: int, clocks: dict[str, float]) -> None:
        """Starts writing a checkpoint; the state may be donated once this returns.

        Args:
          state: after `step` iterations.
          step: iterations done.
          clocks: seconds that the run has taken, by what for.

        Raises:
          CheckpointError: if the previous one could not be written.
        """
        record = {"clocks": clocks, "metrics": None, "checksums": state_checksums(state)}
        items = {
            "state": ocp.args.PyTreeSave(state),
            RECORD_ITEM: ocp.args.JsonSave(with_checksum(record)),
        }
        with self._disk_errors():
            self._manager.save(step, args=ocp.args.Composite(**items))
        self._writing = step

    def add_evaluation(
        self, step: int, metrics: dict[str, float], batch_stats: Any, clocks: dict[str, float]
    ) -> None:
        """Adds an evaluation to the checkpoint of its step, once that is written.

        A run that is killed meanwhile leaves the checkpoint as it was, without an evaluation.

        Args:
          step: iterations done; that of the newest checkpoint.
          metrics: loss, and top1 or map.
          batch_stats: the precise statistics that they were measured with.
          clocks: seconds that the run has taken by now.

        Raises:
          CheckpointError: if the checkpoint or the evaluation could not be written.
        """
        folder, crc = self.folder / str(step), checksum(batch_stats)
        self._wait()
        with self._disk_errors():
            if batch_stats:  # Orbax refuses empty items
                with ocp.Checkpointer(create_writer()) as checkpointer:
                    arguments = ocp.args.PyTreeSave(batch_stats)
                    checkpointer.save(folder / "batch_stats", arguments, force=True)
            hosts.on_first(lambda: add_to_record(folder, clocks, metrics, crc))
        self._scores[step] = headline(metrics)
        # Orbax applied the policy when the checkpoint was saved and had no score yet.
        steps = self._manager.all_steps()
        worse = sorted(set(steps) - self._policy.kept(steps))
        with self._disk_errors():
            for other in worse:
                self._manager.delete(other)

    def check(self) -> None:
        """Raises CheckpointError if writing the newest checkpoint has failed; does not wait."""
        with self._disk_errors():
            self._manager.check_for_errors()
        if self._writing is not None and not self._manager.is_saving_in_progress():
            self._wait()

    def _wait(self) -> None:
        """Waits until the newest checkpoint is written."""
        with self._disk_errors():
            # Raises at once on the process that failed, before it waits for the others.
            self._manager.check_for_errors()
            self._manager.wait_until_finished()
        self._writing = None

    def restore(
        self, like: Callable[[], TrainState], mesh: Mesh, repair: bool
    ) -> tuple[TrainState, dict[str, float]] | None:
        """State and clocks of the newest readable checkpoint; None if there is no checkpoint.

        Args:
          like: gives a state with the shapes and dtypes; called only if there is a checkpoint.
          mesh: the devices to restore to.
          repair: rename newer unreadable ones, so that training can write their steps again.

        Raises:
          WorkdirError: if there are checkpoints and none can be read, or if one may be whole and
            the machine cannot read it.
        """
        if not self._steps:
            return None
        shapes, errors = parallel.abstract(like(), mesh, parallel.REPLICATED), {}
        for step in sorted(self._steps, reverse=True):
            error = None
            try:
                restored, clocks = self._restore(step, shapes)
            except Exception as raised:  # Orbax and TensorStore raise any type.
                error = raised
            # On any process: all end, none sets aside what may be whole.
            if hosts.total(error is not None and is_of_machine(error)):
                raise WorkdirError(_unread(self.folder / str(step), error)) from error
            if hosts.total(error is not None):  # on any process
                errors[step] = _reason(error)
                continue
            for failed, why in errors.items():
                logging.error(
                    "checkpoint %s cannot be read (%s); using the one before",
                    self.folder / str(failed),
                    why,
                )
            if errors and repair:
                self._set_aside(list(errors))
            return restored, clocks
        raise WorkdirError(
            f"none of the {len(errors)} checkpoints in {self.folder} can be read: "
            f"{_reasons(errors)}; {_NONE_LEFT}"
        )

    def close(self) -> None:
        """Waits until everything is written, unless writing has failed before.

        Raises:
          CheckpointError: if writing fails now.
        """
        if not self._failed:
            with self._disk_errors():
                self._manager.close()

    def _restore(self, step: int, shapes: TrainState) -> tuple[TrainState, dict[str, float]]:
        record = hosts.on_first(lambda: read_record(self.folder / str(step)))
        items = ocp.args.Composite(state=ocp.args.StandardRestore(shapes))
        with event_loops.of_reads():
            restored = self._manager.restore(step, args=items)["state"]
        check_checksums(state_checksums(restored), record)
        if int(restored.step) != step:
            raise DamagedCheckpoint(f"its state is of step {int(restored.step)}")
        return restored, record["clocks"]

    @contextlib.contextmanager
    def _disk_errors(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # of any type, as in restore
            self._failed = True
            self._remove_unfinished()
            whole = [step for step in steps_in(self.folder) if step != self._writing]
            there = f"step {max(whole)} is the newest whole one" if whole else "there is none yet"
            raise CheckpointError(
                f"a checkpoint could not be written to {self.folder} ({first_line(error)}); "
                f"{there}. Make room and start the same command again, it continues from there"
            ) from error

    def _remove_unfinished(self) -> None:
        """Removes what is half written; Orbax's threads write on for a while after the error."""
        if self._read_only or not hosts.is_first():
            return
        last_seen = start = time.monotonic()
        while time.monotonic() - last_seen < _SETTLED_S and last_seen - start < _REMOVAL_S:
            # Unlike rglob it bears folders that vanish meanwhile.
            for folder, names, _ in os.walk(self.folder):
                for name in fnmatch.filter(names, "*.orbax-checkpoint-tmp*"):
                    last_seen = time.monotonic()
                    shutil.rmtree(pathlib.Path(folder, name), ignore_errors=True)
            time.sleep(0.05)

    def _set_aside(self, steps: list[int]) -> None:
        hosts.on_first(lambda: self._rename(steps))
        for step in steps:
            self._scores.pop(step, None)
            self._steps.remove(step)
        hosts.on_all(self._await_steps)
        self._manager.reload()

    def _rename(self, steps: list[int]) -> None:
        for step in steps:
            damaged = self.folder.parent / f"damaged_checkpoint_{step}_{time.time_ns()}"
            logging.error("kept as %s", damaged)
            (self.folder / str(step)).rename(damaged)

    def _await_steps(self) -> None:
        """Waits until this process sees the first one's checkpoints; Orbax lists the folder itself.

        Raises:
          WorkdirError: if it does not see them; if read-only, another run may be writing.
        """
        if jax.process_count() == 1:
            return
        steps = set(self._steps)
        if self._read_only:
            hosts.wait_until_visible(lambda: steps_in(self.folder) >= steps)
        elif not hosts.wait_until_visible(lambda: steps_in(self.folder) == steps):
            raise WorkdirError(
                f"{self.folder} shows the checkpoints of steps {sorted(steps_in(self.folder))} "
                f"here and {self._steps} on process 0; all hosts must see the same --workdir"
            )


def _reasons(errors: dict[int, str]) -> str:
    return some([f"step {step}: {why}" for step, why in errors.items()])


def _reason(error: Exception | None) -> str:
    return "another process cannot read it" if error is None else reason(error)


def _unread(checkpoint: pathlib.Path, error: Exception | None) -> str:
    """The message where the machine, not the checkpoint, is why it cannot be read."""
    return (
        f"checkpoint {checkpoint} cannot be read on this machine ({_reason(error)}). It may be "
        "whole, so it stays: the same command tries again; to use the one before, move it away"
    )


@dataclasses.dataclass(frozen=True)
class Best:
    """The checkpoint that is used for inference or to start another run from.

    Attributes:
      step: iterations done.
      evaluated: whether it is the one with the best score, with precise `batch_stats`; otherwise
        none that can be read has one, and it is the newest of those, with running statistics.
      variables: `params` and `batch_stats`, NumPy arrays; the parameters are the average that was
        evaluated, if the run has one.
      classes: names, by class index.
      unreadable: the steps of those that cannot be read.
    """

    step: int
    evaluated: bool
    variables: dict[str, Any]
    classes: list[str]
    unreadable: tuple[int, ...] = ()

    def __str__(self) -> str:
        readable = "readable " if self.unreadable else ""
        if self.evaluated:
            return f"best {readable}checkpoint, step {self.step}"
        why = "not evaluated" if self.unreadable else "none evaluated yet"
        return f"newest {readable}checkpoint, {why}, step {self.step}"


def read_best(workdir: pathlib.Path) -> Best:
    """The checkpoint of a work directory with the best score, or the newest if none was evaluated.

    A damaged one is skipped; a line that is printed says which and why.

    Raises:
      WorkdirError: if there is no readable checkpoint, or if one may be whole and the machine
        cannot read it.
    """
    check_has_checkpoint(workdir)
    folder, classes = workdir.absolute() / "checkpoints", read_classes(workdir)
    steps, unreadable = steps_in(folder), {}

    def read(step: int, what: Callable[[pathlib.Path], dict[str, Any]]) -> dict[str, Any] | None:
        path = folder / str(step)
        try:
            return what(path)
        except Exception as error:  # Orbax and TensorStore raise any type.
            if is_of_machine(error):
                raise WorkdirError(_unread(path, error)) from error
            unreadable[step] = reason(error)
            hosts.print_once(f"checkpoint {path} cannot be read: {unreadable[step]}")
            steps.remove(step)
            return None

    records = {step: read(step, read_record) for step in sorted(steps)}
    scores = {step: headline(r["metrics"]) for step, r in records.items() if r and r["metrics"]}
    while steps:
        best = best_step(scores, steps)
        step = max(steps) if best is None else best
        if (variables := read(step, _read_variables)) is not None:
            return Best(step, best is not None, variables, classes, tuple(unreadable))
    raise WorkdirError(
        f"none of the checkpoints in {folder} can be read: {_reasons(unreadable)}; {_NONE_LEFT}"
    )


def _read_variables(checkpoint: pathlib.Path) -> dict[str, Any]:
    record, state = read_record(checkpoint), _read_arrays(checkpoint / "state")
    variables = {name: state[name] for name in ("params", "batch_stats")}
    average = {"average": state["average"]} if "average" in state else {}
    check_checksums({name: checksum(tree) for name, tree in (variables | average).items()}, record)
    if record["metrics"] is not None and average:  # it is what was evaluated
        variables["params"] = average["average"]
    if record["metrics"] is not None and variables["batch_stats"]:
        precise = _read_arrays(checkpoint / "batch_stats")
        check_checksums({"precise_batch_stats": checksum(precise)}, record)
        variables["batch_stats"] = precise
    return variables


def _read_arrays(folder: pathlib.Path) -> dict[str, Any]:
    """One item of a checkpoint as NumPy arrays, whatever devices it was written from."""
    if not (folder / _MANIFEST).exists():  # TensorStore would fail in its threads, at length
        raise DamagedCheckpoint(f"it has no {folder.name}/{_MANIFEST}")
    handler = ocp.PyTreeCheckpointHandler()
    try:
        with event_loops.of_reads():
            shapes = handler.metadata(folder).tree
            as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), shapes)
            return handler.restore(folder, args=ocp.args.PyTreeRestore(restore_args=as_numpy))
    finally:
        handler.close()
