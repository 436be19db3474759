"""Evaluation: precise BN, then the scores of every test video from several views."""

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
from mg_jax.training.programs import statistics_program, views_program
from mg_jax.training.run import Run


def evaluate(run: Run, state: TrainState, views: Views) -> dict[str, float]:
    """Metrics of the evaluation split.

    Args:
      run: config, devices, programs and data.
      state: parameters to evaluate and the statistics to do it with.
      views: of each video.

    Returns:
      loss, top1 and top5 (shares of 1), means over the videos; with several labels to a video,
      loss and map, the mean average precision. Damaged videos are left out.
    """
    split, program = run.data.evaluation, views_program(run.config, views, run.mesh)
    step = run.program(program)
    batches = DeviceBatches(view_batches(split, views, program.batch), run.mesh, split.damaged)
    results = []
    total = -(-len(split.videos) // program.batch)
    for batch in shown(batches, "evaluating", "batch", total, show=hosts.is_first()):
        run.stops.check()
        result = step(state, batch)
        batches.prefetch()
        results.append(jax.device_get(result))
    # The last batch is filled up beyond the last video.
    scores_NK, weight_N = (
        np.concatenate(x)[: len(split.videos)] for x in zip(*results, strict=True)
    )
    rows_M = np.flatnonzero(weight_N)
    if split.multi_label:
        return multi_label_metrics(scores_NK[rows_M], split.videos.labels(rows_M))
    return single_label_metrics(scores_NK[rows_M], split.videos.label(rows_M))


def precise_batch_stats(run: Run, state: TrainState, grid: Grid) -> Any:
    """Batch-norm statistics averaged over many batches with the current parameters.

    The running statistics mix several grids and past parameters (paper, Sec. 4.1). A network
    without batch norm has none, and no batch is read.
    """
    if not state.batch_stats:
        return state.batch_stats
    split = run.data.train
    dataset = clip_batches(
        split,
        # Another seed than training's: the clips are drawn the same way, in another order.
        training_augmentation(run.config.data, run.config.seed + 1),
        [grid],
        ((grid, i * grid.batch) for i in range(run.config.eval.precise_bn_batches)),
    )
    step = run.program(statistics_program(grid))
    zeros = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), state.batch_stats)
    total = parallel.replicate(zeros, run.mesh)
    batches = DeviceBatches(dataset, run.mesh, split.damaged)
    count = run.config.eval.precise_bn_batches
    for batch in shown(batches, "precise BN", "batch", count, show=hosts.is_first()):
        run.stops.check()
        jax.block_until_ready(total)  # else batches would pile up on the devices
        total = step(state, batch, total)
        batches.prefetch()
    return total
