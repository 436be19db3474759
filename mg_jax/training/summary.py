"""What a run reports: lines at its start and end, and `summary.json`."""

import dataclasses
import pathlib
from typing import Any

from mg_jax.lengths import describe_epochs
from mg_jax.metrics import format_headline
from mg_jax.runtime import hosts, parallel
from mg_jax.training.session import Session
from mg_jax.workdir.finished import SUMMARY
from mg_jax.workdir.trained_on import DATA_RECORD


def summarize(session: Session, metrics: dict[str, float]) -> dict[str, Any]:
    """The summary of a finished run.

    Args:
      session: of the run.
      metrics: of the evaluation at the end.
    """
    schedule, data = session.schedule, session.data
    return {
        "iterations": schedule.iterations,
        "epochs": session.trained_on.epochs(schedule, schedule.iterations),
        "clips": schedule.clips,
        "wall_clock_s": session.clocks.wall_clock_s,
        **dataclasses.asdict(session.clocks),
        "programs": len(session.executables.compiled),
        "programs_from_cache": session.executables.found,
        "devices": parallel.device_names(session.mesh),
        "damaged_videos": hosts.total(len(data.train.damaged) + len(data.evaluation.damaged)),
        "metrics": metrics,
    }


def describe_start(session: Session, start: int, *, known: bool) -> str:
    """The line that a run prints before its first iteration.

    Args:
      session: of the run.
      start: iterations done.
      known: whether the work directory has a record of the videos that they trained on.
    """
    videos = len(session.data.train.videos)
    if not start:
        epochs = describe_epochs(session.config, session.schedule, videos)
        where = str(session.workdir)
        if known:
            where += ", which holds a run without a checkpoint, from the beginning"
        return f"training in {where}: {session.schedule.iterations:,} iterations, {epochs}"
    text = f"continuing {session.workdir} at step {start}"
    if not known:
        text += f"; there is no {DATA_RECORD}, so its videos are taken to be the present ones"
    elif session.trained_on.stretches[-1].from_step == start:
        text += f", from here on with other videos, {videos:,} to train on; see {DATA_RECORD}"
    return text


def describe_end(summary: dict[str, Any], workdir: pathlib.Path) -> str:
    """The line that a run prints when it has finished."""
    return (
        f"{workdir}: {summary['iterations']:,} iterations, {format_headline(summary['metrics'])}, "
        f"{summary['wall_clock_s']:.0f} s, of which {summary['compile_s']:.0f} s compilation; "
        f"see {workdir / SUMMARY}; --mode=report --runs={workdir},DIR --workdir=OUT "
        "compares runs"
    )
