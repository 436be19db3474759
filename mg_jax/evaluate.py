"""Evaluation: precise BN, then the scores of every test video from several views."""

from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from mg_jax.datasets import DataSource
from mg_jax.grid import Grid
from mg_jax.input_pipeline import DeviceBatches, clip_batches, view_batches
from mg_jax.parallel import Executables
from mg_jax.programs import statistics_program, views_program
from mg_jax.sampling import Augmentation
from mg_jax.train_step import TrainState


def evaluate(
    config,
    mesh: Mesh,
    executables: Executables,
    data: DataSource,
    state: TrainState,
    grid: Grid,
    *,
    clips: int,
    crops: int,
) -> dict[str, float]:
    """Metrics of the evaluation split.

    Args:
      config: of the run.
      mesh: the devices.
      executables: compiled programs.
      data: both splits.
      state: parameters to evaluate; its running statistics are replaced by precise ones.
      grid: the current base grid, for precise BN.
      clips: per video.
      crops: per clip.

    Returns:
      loss, top1 and top5 (shares of 1), means over the videos.
    """
    batch_stats = precise_batch_stats(config, mesh, executables, data, state, grid)
    state = state.replace(batch_stats=batch_stats)
    views = clips * crops
    # About as many clips at once as a training iteration on the base grid.
    batch = max(config.batch // views // mesh.size, 1) * mesh.size
    dataset = view_batches(
        data.eval_videos,
        data.eval_frames,
        clips=clips,
        crops=crops,
        num_frames=config.frames,
        stride=config.data.stride,
        size=config.eval.size,
        short_side=config.eval.short_side,
        batch=batch,
    )
    step = executables.get(views_program(batch, views, config.frames, config.eval.size))
    total = None
    batches = DeviceBatches(dataset, mesh)
    for videos in batches:
        sums = step(state, videos)
        batches.prefetch()
        total = sums if total is None else jax.tree.map(jnp.add, total, sums)
    total = {name: float(value) for name, value in total.items()}
    return {name: total[name] / total["videos"] for name in ("loss", "top1", "top5")}


def precise_batch_stats(
    config,
    mesh: Mesh,
    executables: Executables,
    data: DataSource,
    state: TrainState,
    grid: Grid,
) -> Any:
    """Batch-norm statistics averaged over many batches with the current parameters.

    The running statistics mix several grids and past parameters (paper, Sec. 4.1).
    """
    batches = config.eval.precise_bn_batches
    # Another seed than training's: the clips are drawn the same way, in another order.
    augmentation = Augmentation(config.seed + 1, config.data.flip, config.data.inverse_uniform)
    dataset = clip_batches(
        data.train_videos,
        data.train_frames,
        augmentation,
        [grid],
        ((grid, i * grid.batch) for i in range(batches)),
    )
    step = executables.get(statistics_program(grid))
    total = None
    device_batches = DeviceBatches(dataset, mesh)
    for batch in device_batches:
        stats = step(state, batch)
        device_batches.prefetch()
        total = stats if total is None else jax.tree.map(jnp.add, total, stats)
    return jax.tree.map(lambda x: x / batches, total)
