"""Evaluates a checkpoint without training: `--mode=eval`."""

import dataclasses
import pathlib
from typing import Any

from mg_jax.input.sampling import all_views
from mg_jax.machine.atomic_file import write_json
from mg_jax.metrics import format_headline
from mg_jax.runtime import hosts
from mg_jax.runtime.stops import Stops
from mg_jax.training.evaluation import evaluate, with_precise_statistics
from mg_jax.training.session import Session, open_session
from mg_jax.workdir.trained_on import stretch_of


def evaluate_checkpoint(config, workdir: pathlib.Path, stops: Stops) -> dict[str, float]:
    """Evaluates the newest checkpoint of a work directory and writes `evaluation.json`.

    Args:
      config: of the run.
      workdir: of the run.
      stops: already listening for signals.

    Returns:
      The metrics, as `evaluation.evaluate` does.

    Raises:
      UserError: if there is no checkpoint, or as `open_session` does.
      KeyboardInterrupt: after Ctrl-C; nothing is written.
      Preempted: after SIGTERM; nothing is written.
    """
    session, state = open_session(config, workdir, stops, trains=False)
    step = int(state.step)
    try:
        state = with_precise_statistics(session, state)
        metrics = evaluate(session, state, all_views(config), keep=True)
    finally:
        session.close()
    path, videos = workdir / "evaluation.json", _videos(session, step)
    hosts.on_first(lambda: write_json(path, {"step": step, "metrics": metrics, **videos}))
    for key, use in (("data", "evaluated on"), ("statistics", "batch-norm statistics from")):
        if videos[key]["as_in_training"] is False:
            hosts.print_once(
                f"{use} {videos[key]['videos']:,} videos of split {videos[key]['split']!r}, "
                "which are not those of the run while it trained"
            )
    hosts.print_once(
        f"step {step:,}: {format_headline(metrics)}, loss {metrics['loss']:.3f}; see "
        f"{path}; --mode=predict --video=FILE classifies one video"
    )
    return metrics


def _videos(session: Session, step: int) -> dict[str, dict[str, Any]]:
    """The videos that an evaluation used: to evaluate on, and for precise statistics.

    `as_in_training` says whether training used the same at that step; None if that is not known.
    """
    now = stretch_of(session.config, session.data.train.videos, session.data.evaluation.videos)
    then = session.trained_on.in_force(step)
    pairs = {
        "data": (now.evaluation, then and then.evaluation),
        "statistics": (now.train, then and then.train),
    }
    return {
        key: {
            "name": now.data,
            **dataclasses.asdict(here),
            "as_in_training": None if there is None else here == there,
        }
        for key, (here, there) in pairs.items()
    }
