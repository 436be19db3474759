"""Evaluation: precise BN, then the scores of every test video from several views."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from mg_jax.grid import Grid
from mg_jax.input_pipeline import DeviceBatches, clip_batches, view_batches
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
      loss, top1 and top5 (shares of 1), means over the videos.
    """
    config, devices = run.config, run.mesh.size
    views = evaluation_views(config, clips, crops)
    # About as many clips at once as a training iteration on the base grid.
    batch = max(config.batch // len(views) // devices, 1) * devices
    dataset = view_batches(run.data.eval_videos, run.data.eval_frames, views, batch)
    program = views_program(batch, len(views), views.frames, views.size)
    total = _sum(run.executables.get(program), state, DeviceBatches(dataset, run.mesh))
    total = {name: float(value) for name, value in total.items()}
    return {name: total[name] / total["videos"] for name in ("loss", "top1", "top5")}


def precise_batch_stats(run: Run, state: TrainState, grid: Grid) -> Any:
    """Batch-norm statistics averaged over many batches with the current parameters.

    The running statistics mix several grids and past parameters (paper, Sec. 4.1).
    """
    batches = run.config.eval.precise_bn_batches
    dataset = clip_batches(
        run.data.train_videos,
        run.data.train_frames,
        # Another seed than training's: the clips are drawn the same way, in another order.
        training_augmentation(run.config.data, run.config.seed + 1),
        [grid],
        ((grid, i * grid.batch) for i in range(batches)),
    )
    total = _sum(
        run.executables.get(statistics_program(grid)), state, DeviceBatches(dataset, run.mesh)
    )
    return jax.tree.map(lambda x: x / batches, total)


def _sum(step: Callable, state: TrainState, batches: DeviceBatches) -> Any:
    """The sum over all batches of what a step returns."""
    total = None
    for batch in batches:
        result = step(state, batch)
        batches.prefetch()
        total = result if total is None else jax.tree.map(jnp.add, total, result)
    return total
