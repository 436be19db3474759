"""Evaluation: precise BN, then the scores of every test video from several views."""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mg_jax.grid import Grid
from mg_jax.input_pipeline import DeviceBatches, clip_batches, view_batches
from mg_jax.metrics import multi_label_metrics, single_label_metrics
from mg_jax.programs import statistics_program, views_program
from mg_jax.run import Run
from mg_jax.sampling import evaluation_views, training_augmentation
from mg_jax.train_step import TrainState


def evaluate(run: Run, state: TrainState, *, clips: int, crops: int) -> dict[str, float]:
    """Metrics of the evaluation split.

    Args:
      run: config, devices, programs and data.
      state: parameters to evaluate and the statistics to do it with.
      clips: per video.
      crops: per clip.

    Returns:
      loss, top1 and top5 (shares of 1), means over the videos; with several labels to a video,
      loss and map, the mean average precision. Damaged videos are left out.
    """
    config, devices, split = run.config, run.mesh.size, run.data.evaluation
    views = evaluation_views(config, clips, crops)
    # About as many clips at once as a training iteration on the base grid.
    batch = max(config.batch // len(views) // devices, 1) * devices
    step = run.executables.get(views_program(batch, len(views), views.frames, views.size))
    batches = DeviceBatches(view_batches(split, views, batch), run.mesh, split.damaged)
    results = [jax.device_get(result) for result in _results(run, step, state, batches)]
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

    The running statistics mix several grids and past parameters (paper, Sec. 4.1).
    """
    batches = run.config.eval.precise_bn_batches
    split = run.data.train
    dataset = clip_batches(
        split,
        # Another seed than training's: the clips are drawn the same way, in another order.
        training_augmentation(run.config.data, run.config.seed + 1),
        [grid],
        ((grid, i * grid.batch) for i in range(batches)),
    )
    step = run.executables.get(statistics_program(grid))
    total = None
    for result in _results(run, step, state, DeviceBatches(dataset, run.mesh, split.damaged)):
        total = result if total is None else jax.tree.map(jnp.add, total, result)
    return jax.tree.map(lambda x: x / batches, total)


def _results(run: Run, step: Callable, state: TrainState, batches: DeviceBatches) -> Iterator[Any]:
    """What a step returns for each batch, the coming batches on their way meanwhile."""
    for batch in batches:
        run.stops.check()
        result = step(state, batch)
        batches.prefetch()
        yield result
