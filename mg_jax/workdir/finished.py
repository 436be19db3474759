"""`summary.json`: what a finished run leaves in its work directory."""

import pathlib
from typing import Any

from mg_jax.workdir.config import WorkdirError, read_json

SUMMARY = "summary.json"
# Its clocks, which logged evaluations have as well, in seconds; the wall clock is their sum.
CLOCKS = ("train_s", "compile_s", "eval_s")
_READ = ("metrics", "wall_clock_s", *CLOCKS, "programs", "programs_from_cache", "devices")
_MEND = (
    "restore it from a copy, or delete it, and --mode=train evaluates the run and writes it anew"
)


def read_summary(workdir: pathlib.Path) -> dict[str, Any] | None:
    """The summary in a work directory; None if its run has not finished.

    Raises:
      WorkdirError: if it is damaged.
    """
    path = workdir / SUMMARY
    if not path.exists():
        return None
    summary = read_json(path, _MEND)
    missing = [key for key in _READ if not isinstance(summary, dict) or key not in summary]
    if missing:
        lacks = f"{path} is not a run's summary: it lacks {', '.join(missing)}"
        raise WorkdirError(f"{lacks}; {_MEND}")
    return summary
