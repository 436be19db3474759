"""Divergence: an error, but also a result of a run."""

import pathlib
from typing import Any

from mg_jax.errors import UserError
from mg_jax.workdir.config import WorkdirError, read_json

# The file in the work directory of a run that diverged, until it continues: step and reason.
DIVERGED = "diverged.json"


class Diverged(UserError):
    """The loss, a parameter or a batch-norm statistic is not finite.

    Attributes:
      step: iterations done when it was noticed.
      reason: what is not finite, and on which step and grid.
    """

    def __init__(self, step: int, reason: str):
        super().__init__(f"diverged: {reason}")
        self.step = step
        self.reason = reason


def read_diverged(workdir: pathlib.Path) -> dict[str, Any] | None:
    """Step and reason of a run that diverged, or None.

    Raises:
      WorkdirError: if the file that holds them is damaged.
    """
    path, advice = workdir / DIVERGED, "restore it from a copy"
    if not path.exists():
        return None
    diverged = read_json(path, advice)
    if not isinstance(diverged, dict) or not {"step", "reason"} <= diverged.keys():
        raise WorkdirError(f"{path} lacks step or reason; {advice}")
    return diverged
