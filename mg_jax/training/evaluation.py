"""Evaluation: precise BN, then scores of every test video from one or several views."""

from typing import Any

import jax
import numpy as np

from mg_jax.grid import Grid
from mg_jax.input.pipeline import DeviceBatches, clip_batches, view_batches
from mg_jax.input.sampling import Views, training_augmentation
from mg_jax.machine.progress import shown
from mg_jax.metrics import multi_label_metrics, single_label_metrics
from mg_jax.runtime import hosts, parallel
from mg_jax.runtime.state import TrainState
from mg_jax.training.average import to_evaluate
from mg_jax.training.mistakes import write_mistakes
from mg_jax.training.programs import statistics_program, views_program
from mg_jax.training.session import Session
from mg_jax.workdir.video_scores import VideoScores, write_scores


def evaluate(
    session: Session, state: TrainState, views: Views, *, keep: bool = False
) -> dict[str, float]:
    """Metrics of the evaluation split.

    Args:
      session: config, devices, programs and data.
      state: the parameters and batch-norm statistics to evaluate.
      views: of each video.
      keep: write every video's scores and the worst mistakes into the work directory.

    Returns:
      `loss`, `top1` and `top5` (in 0 ... 1), means over the videos; with any number of labels per
      video, `loss` and `map`, the mean average precision. Damaged videos are left out.

    Raises:
      KeyboardInterrupt: after Ctrl-C.
      Preempted: after SIGTERM.
    """
    split, program = session.data.evaluation, views_program(session.config, views, session.mesh)
    step = session.program(program)
    batches = DeviceBatches(view_batches(split, views, program.batch), session.mesh, split.damaged)
    results = []
    total = -(-len(split.videos) // program.batch)
    for batch in shown(batches, "evaluating", "batch", total, show=hosts.is_first()):
        session.stops.check()
        result = step(state, batch)
        batches.prefetch()
        results.append(jax.device_get(result))
    # The last batch is padded beyond the last video.
    scores_NK, weight_N = (
        np.concatenate(x)[: len(split.videos)] for x in zip(*results, strict=True)
    )
    rows_M = np.flatnonzero(weight_N)
    if keep:
        hosts.on_first(lambda: _keep(session, int(state.step), views, scores_NK[rows_M], rows_M))
    if split.multi_label:
        return multi_label_metrics(scores_NK[rows_M], split.videos.labels(rows_M))
    return single_label_metrics(scores_NK[rows_M], split.videos.label(rows_M))


def _keep(
    session: Session, step: int, views: Views, scores_MK: np.ndarray, rows_M: np.ndarray
) -> None:
    """Writes the scores of videos, given by their rows, and the mistakes among them."""
    split = session.data.evaluation
    scores = VideoScores(
        ids=split.videos.ids[rows_M],
        scores_NK=scores_MK,
        labels_NK=split.videos.labels(rows_M),
        classes=session.data.classes,
        multi_label=split.multi_label,
        step=step,
        split=session.config.data.eval_split,
    )
    write_scores(session.workdir, scores)
    write_mistakes(session.workdir, scores, split, rows_M, views)


def with_precise_statistics(session: Session, state: TrainState) -> TrainState:
    """The state to evaluate: with averaged parameters, if the run averages them, and with precise
    batch-norm statistics of the base grid that it was last trained on.
    """
    state = to_evaluate(state)
    grid = session.schedule.phase(int(state.step) - 1).grids[-1]
    return state.replace(batch_stats=precise_batch_stats(session, state, grid))


def precise_batch_stats(session: Session, state: TrainState, grid: Grid) -> Any:
    """Batch-norm statistics averaged over many batches of a grid, with the current parameters.

    The running statistics mix several grids and past parameters (paper, Sec. 4.1). A network
    without batch norm has none, and no batch is read.

    Raises:
      KeyboardInterrupt: after Ctrl-C.
      Preempted: after SIGTERM.
    """
    if not state.batch_stats:
        return state.batch_stats
    split, count = session.data.train, session.config.eval.precise_bn_batches
    dataset = clip_batches(
        split,
        # Another seed than training's: the clips are drawn the same way, in another order.
        training_augmentation(session.config.data, session.config.seed + 1),
        [grid],
        ((grid, i * grid.batch) for i in range(count)),
    )
    step = session.program(statistics_program(grid))
    zeros = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), state.batch_stats)
    total = parallel.replicate(zeros, session.mesh)
    batches = DeviceBatches(dataset, session.mesh, split.damaged)
    for batch in shown(batches, "precise BN", "batch", count, show=hosts.is_first()):
        session.stops.check()
        jax.block_until_ready(total)  # otherwise batches would pile up on the devices
        total = step(state, batch, total)
        batches.prefetch()
    return total
