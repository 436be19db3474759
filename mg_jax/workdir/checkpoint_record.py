"""The JSON record of a checkpoint: clocks, metrics, and checksums of the arrays and of itself."""

import json
import pathlib
import re
import zlib
from typing import Any

import jax
import numpy as np

from mg_jax.errors import first_line
from mg_jax.machine.atomic_file import write_json
from mg_jax.machine.failure import is_of_machine
from mg_jax.metrics import headline
from mg_jax.runtime.state import AveragedState, TrainState
from mg_jax.workdir.config import steps_in

# The checkpoint's item that holds it, beside the arrays.
RECORD_ITEM = "record"


class DamagedCheckpoint(Exception):
    """A checkpoint is not as it was written; says what of it."""


def checksum(tree: Any) -> int:
    """CRC-32 over all arrays of a tree, in the order of their names."""
    total = 0
    for leaf in jax.tree.leaves(jax.device_get(tree)):
        total = zlib.crc32(np.ascontiguousarray(leaf).view(np.uint8).reshape(-1), total)
    return total


def read_record(checkpoint: pathlib.Path) -> dict[str, Any]:
    """A checkpoint's `clocks`, `metrics` (None if it was not evaluated) and `checksums`.

    Raises:
      DamagedCheckpoint: if the record is damaged.
      OSError: if it is missing.
    """
    try:
        record = json.loads(_path(checkpoint).read_text())
    except ValueError as error:
        raise DamagedCheckpoint(f"its record is damaged: {error}") from error
    if not isinstance(record, dict) or record.pop("checksum", None) != _text_checksum(record):
        raise DamagedCheckpoint("its record is damaged")
    return record


def add_to_record(
    checkpoint: pathlib.Path,
    clocks: dict[str, float],
    metrics: dict[str, float],
    precise_checksum: int,
) -> None:
    """Adds an evaluation to a checkpoint's record; killed meanwhile it leaves the record as it was.

    Args:
      checkpoint: its folder.
      clocks: seconds that the run has taken by now.
      metrics: of the evaluation.
      precise_checksum: of the batch-norm statistics that they were measured with.

    Raises:
      DamagedCheckpoint: if the record is damaged.
      OSError: if it is missing or cannot be written.
    """
    record = read_record(checkpoint) | {"clocks": clocks, "metrics": metrics}
    record["checksums"]["precise_batch_stats"] = precise_checksum
    write_json(_path(checkpoint), with_checksum(record))


def _path(checkpoint: pathlib.Path) -> pathlib.Path:
    return checkpoint / RECORD_ITEM / "metadata"  # Orbax's name


def state_checksums(state: TrainState) -> dict[str, int]:
    """CRC-32 of each part of a state, by name."""
    parts = {"params": state.params, "batch_stats": state.batch_stats, "optimizer": state.opt_state}
    if isinstance(state, AveragedState):
        parts["average"] = state.average
    return {name: checksum(tree) for name, tree in parts.items()}


def with_checksum(record: dict[str, Any]) -> dict[str, Any]:
    """The record with a checksum of itself, as it is written."""
    return {**record, "checksum": _text_checksum(record)}


def _text_checksum(record: dict[str, Any]) -> int:
    return zlib.crc32(json.dumps(record, sort_keys=True).encode())


def check_checksums(found: dict[str, int], record: dict[str, Any]) -> None:
    """Checks that arrays are those that a record was written with.

    Args:
      found: checksums of arrays that were read, by name.
      record: of the checkpoint.

    Raises:
      DamagedCheckpoint: naming the arrays that are damaged.
    """
    for name, value in found.items():
        if record["checksums"].get(name) != value:
            raise DamagedCheckpoint(f"its {name}: not the checksum that was written")


def score_by_step(folder: pathlib.Path) -> dict[int, float]:
    """Top-1 or mAP by step, of the checkpoints that were evaluated and whose record is whole.

    Raises:
      OSError: if the machine cannot read a record that may be whole.
    """
    scores = {}
    for step in steps_in(folder):
        try:
            metrics = read_record(folder / str(step))["metrics"]
        except (DamagedCheckpoint, OSError) as error:
            if is_of_machine(error):
                raise
            continue
        if metrics is not None:
            scores[step] = headline(metrics)
    return scores


def reason(error: Exception) -> str:
    """Why a checkpoint cannot be read, in a line; TensorStore adds its specification, at length."""
    return re.split(r" \[(?:tensorstore_spec|source locations)", first_line(error), maxsplit=1)[0]
