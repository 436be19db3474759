"""`class_files.json`: the flip pairs and class weights that a work directory's run trains with."""

import json
import pathlib
from typing import Any

from mg_jax.machine.atomic_file import write_json
from mg_jax.workdir.config import WorkdirError, has_checkpoint, read_json

_RECORD = "class_files.json"


def check_class_files(workdir: pathlib.Path, content: dict[str, Any]) -> None:
    """Checks that the checkpoints of a work directory, if any, were trained with this content.

    Args:
      workdir: of the run.
      content: of data.flip_pairs and loss.class_weights, by class; None where there is no file.

    Raises:
      WorkdirError: naming what differs.
    """
    path = workdir / _RECORD
    if not has_checkpoint(workdir):
        return
    there = read_json(path) if path.exists() else {}
    here = json.loads(json.dumps(content))  # tuples become lists
    names = {"mirrored": "data.flip_pairs", "weights": "loss.class_weights"}
    differing = [names[key] for key in here if there.get(key) != here[key]]
    if differing:
        raise WorkdirError(
            f"{workdir} holds checkpoints that were trained with another content of "
            f"{' and '.join(differing)}; put it back or choose another --workdir"
        )


def write_class_files(workdir: pathlib.Path, content: dict[str, Any]) -> None:
    """Writes what `check_class_files` compares, if there is anything; removes an earlier run's."""
    if any(value is not None for value in content.values()):
        write_json(workdir / _RECORD, content)
    else:
        (workdir / _RECORD).unlink(missing_ok=True)
