"""What a checkpoint says of itself: a record with clocks, metrics and checksums of everything."""

import contextlib
import json
import pathlib
import zlib
from typing import Any

import jax
import numpy as np

from mg_jax.errors import UserError
from mg_jax.metrics import headline
from mg_jax.runtime.state import TrainState
from mg_jax.workdir.config import steps_in

# The JSON beside the arrays.
RECORD = "record"


def checksum(tree: Any) -> int:
    """CRC-32 of all arrays of a tree, in the order of their names."""
    total = 0
    for leaf in jax.tree.leaves(jax.device_get(tree)):
        total = zlib.crc32(np.ascontiguousarray(leaf).view(np.uint8).reshape(-1), total)
    return total


def read_record(checkpoint: pathlib.Path) -> dict[str, Any]:
    """Clocks, metrics (None where it was not evaluated) and checksums of a checkpoint.

    Raises:
      UserError: if it is damaged.
      OSError: if it is not there.
    """
    record = json.loads((checkpoint / RECORD / "metadata").read_text())
    if not isinstance(record, dict) or record.pop("checksum", None) != _text_checksum(record):
        raise UserError("its record is damaged")
    return record


def state_checksums(state: TrainState) -> dict[str, int]:
    """CRC-32 of the parts of a state."""
    parts = {"params": state.params, "batch_stats": state.batch_stats, "optimizer": state.opt_state}
    return {name: checksum(tree) for name, tree in parts.items()}


def with_checksum(record: dict[str, Any]) -> dict[str, Any]:
    """The record as it is written, with a checksum of its own."""
    return {**record, "checksum": _text_checksum(record)}


def _text_checksum(record: dict[str, Any]) -> int:
    return zlib.crc32(json.dumps(record, sort_keys=True).encode())


def check_checksums(found: dict[str, int], record: dict[str, Any]) -> None:
    """Makes sure that arrays are those that a record was written with.

    Args:
      found: checksums by what they are of.
      record: of the checkpoint.

    Raises:
      UserError: naming what is damaged.
    """
    for name, value in found.items():
        if record["checksums"].get(name) != value:
            raise UserError(f"its {name} do not have the checksum they were written with")


def score_by_step(folder: pathlib.Path) -> dict[int, float]:
    """Top-1 or mAP of the checkpoints that were evaluated and whose record can be read."""
    scores = {}
    for step in steps_in(folder):
        with contextlib.suppress(ValueError, KeyError, OSError):
            metrics = read_record(folder / str(step))["metrics"]
            if metrics is not None:
                scores[step] = headline(metrics)
    return scores
