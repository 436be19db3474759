"""Checkpoints: written in the background, the newest whole one restored, damaged ones set aside."""

import json
import pathlib
from typing import Any

import jax
import orbax.checkpoint as ocp
from absl import logging
from jax.sharding import Mesh

from mg_jax import parallel
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
        self._options = ocp.CheckpointManagerOptions(max_to_keep=keep)
        self._manager = ocp.CheckpointManager(self.folder, options=self._options)

    def save(self, state: TrainState, step: int, clocks: dict[str, float]) -> None:
        """Begins to write; the copy off the device is done when this returns."""
        items = ocp.args.Composite(
            state=ocp.args.StandardSave(state), clocks=ocp.args.JsonSave(clocks)
        )
        self._manager.save(step, args=items)

    def restore(self, state: TrainState, mesh: Mesh) -> tuple[TrainState, dict[str, float]] | None:
        """The newest checkpoint that can be read, or None.

        One that cannot, cut off or damaged, is renamed, and the one before is used.

        Args:
          state: gives shapes and dtypes.
          mesh: the devices to restore to.
        """
        items = ocp.args.Composite(
            state=ocp.args.StandardRestore(parallel.abstract(state, mesh, parallel.REPLICATED)),
            clocks=ocp.args.JsonRestore(),
        )
        for step in sorted(self._manager.all_steps(), reverse=True):
            try:
                restored = self._manager.restore(step, args=items)
            except Exception as error:  # Orbax and TensorStore raise whatever the damage causes.
                self._set_aside(step, error)
                continue
            return restored["state"], restored["clocks"]
        return None

    def steps(self) -> list[int]:
        """Steps of the checkpoints on disk, ascending."""
        return sorted(self._manager.all_steps())

    def close(self) -> None:
        """Waits until everything is written."""
        self._manager.close()

    def _set_aside(self, step: int, error: Exception) -> None:
        damaged = self.folder.parent / f"damaged_checkpoint_{step}"
        logging.error(
            "checkpoint %s cannot be read and is now %s; trying the one before (%s)",
            self.folder / str(step),
            damaged,
            str(error).splitlines()[0] if str(error) else type(error).__name__,
        )
        if jax.process_index() == 0:
            (self.folder / str(step)).rename(damaged)
        self._manager.reload()


def bind_config(workdir: pathlib.Path, config) -> None:
    """Writes `config.json`, or makes sure that what is there belongs to the same run.

    What is under `run` and where the data lies may differ.

    Raises:
      WorkdirError: if the checkpoints of the work directory belong to another config.
    """
    path = workdir / "config.json"
    given = json.loads(config.to_json())
    if path.exists() and any((workdir / "checkpoints").glob("[0-9]*")):
        differing = _differences(_binding(json.loads(path.read_text())), _binding(given))
        if differing:
            raise WorkdirError(
                f"{workdir} holds checkpoints of another config; continue it with the same "
                "settings or choose another --workdir. Differing: " + "; ".join(differing)
            )
    workdir.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".tmp")
    unfinished.write_text(json.dumps(given, indent=1) + "\n")
    unfinished.rename(path)


def _binding(config: dict[str, Any]) -> dict[str, Any]:
    flat = {f"{section}.{key}": value for section, key, value in _leaves(config)}
    return {
        name: value
        for name, value in flat.items()
        if not name.startswith("run.") and name != "data.dir"
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
