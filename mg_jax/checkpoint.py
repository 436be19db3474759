"""Checkpoints: written in the background, the newest whole one restored, damaged ones set aside."""

import json
import pathlib
import time
from typing import Any

import jax
import orbax.checkpoint as ocp
from absl import logging
from jax.sharding import Mesh

from mg_jax import parallel
from mg_jax.atomic_file import write_json
from mg_jax.train_step import TrainState


class WorkdirError(ValueError):
    """A work directory that belongs to something else."""


class Checkpoints:
    """The checkpoints of a work directory.

    A checkpoint holds the TrainState and the run's clocks. The order of samples follows from the
    step alone, so there is nothing else to keep.
    """

    def __init__(self, workdir: pathlib.Path, keep: int):
        self.folder = workdir.absolute() / "checkpoints"
        options = ocp.CheckpointManagerOptions(max_to_keep=keep, cleanup_tmp_directories=True)
        self._manager = ocp.CheckpointManager(self.folder, options=options)

    def save(self, state: TrainState, step: int, clocks: dict[str, float]) -> None:
        """Begins to write; the copy off the device is done when this returns."""
        items = ocp.args.Composite(
            state=ocp.args.StandardSave(state), clocks=ocp.args.JsonSave(clocks)
        )
        self._manager.save(step, args=items)

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
            damaged = self.folder.parent / f"damaged_checkpoint_{step}_{time.time_ns()}"
            logging.error("kept as %s", damaged)
            if jax.process_index() == 0:
                (self.folder / str(step)).rename(damaged)
        self._manager.reload()


def has_checkpoint(workdir: pathlib.Path) -> bool:
    """Whether a work directory holds a checkpoint that was written to its end."""
    return any(path.name.isdigit() for path in (workdir / "checkpoints").glob("*"))


def check_config(workdir: pathlib.Path, config) -> None:
    """Makes sure that the checkpoints of a work directory, if any, belong to the config.

    What is under `run` and `eval` and where the data lies may differ.

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
    differing = _differences(_binding(there), _binding(here))
    if differing:
        raise WorkdirError(
            f"{workdir} holds checkpoints of another config; continue it with the same settings "
            "or choose another --workdir. Differing: " + "; ".join(differing)
        )


def write_config(workdir: pathlib.Path, config) -> None:
    """Writes `config.json`."""
    workdir.mkdir(parents=True, exist_ok=True)
    write_json(workdir / "config.json", json.loads(config.to_json()))


def _binding(config: dict[str, Any]) -> dict[str, Any]:
    flat = {f"{section}.{key}": value for section, key, value in _leaves(config)}
    return {
        name: value
        for name, value in flat.items()
        if not name.startswith(("run.", "eval.")) and name != "data.dir"
    }


def _leaves(config: dict[str, Any]):
    for section, value in config.items():
        if isinstance(value, dict):
            yield from ((section, key, leaf) for key, leaf in value.items())
        else:
            yield "", section, value


def _differences(there: dict[str, Any], given: dict[str, Any]) -> list[str]:
    rows = (
        (name.lstrip("."), there.get(name, "(not set)"), given.get(name, "(not set)"))
        for name in sorted(there.keys() | given.keys())
    )
    return [f"{name} is {old} there and {new} here" for name, old, new in rows if old != new]
