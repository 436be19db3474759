"""Per-device code of evaluation: batch-norm statistics for precise BN, scores of test videos."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import Mesh

from mg_jax.models import create_model
from mg_jax.runtime import parallel
from mg_jax.runtime.executables import Program
from mg_jax.runtime.state import TrainState
from mg_jax.training.preprocess import flip, normalize
from mg_jax.training.step import batch_shapes, training_model


def lower_statistics_step(
    config, mesh: Mesh, state: TrainState, program: Program
) -> jax.stages.Lowered:
    """The step (state, batch, total) -> total + batch_stats of this batch / number of batches.

    The total starts at zero and is the mean after all batches of precise BN. It is donated.

    Args:
      config: of the run.
      mesh: the devices.
      state: shapes of the state.
      program: batch, frames, size and sub_batch.
    """
    # Evaluation drops no path, so the statistics are to be those without.
    settings = config.model.copy_and_resolve_references()
    settings.drop_path = 0.0
    model = training_model(settings, mesh, program, momentum=0.0)

    def step(state, batch, total):
        # Mirrored as in training, but of pixels that `augment` leaves alone, as in evaluation.
        clips_BTHWC = normalize(flip(batch["clips"], batch["flip"]), config.data)
        _, updated = model.apply(
            {"params": state.params, "batch_stats": state.batch_stats},
            clips_BTHWC,
            rngs={"dropout": jax.random.key(0)},  # it comes after the last batch norm
            mutable=["batch_stats"],
        )
        batch_stats = lax.pmean(updated["batch_stats"], parallel.AXIS)
        batches = config.eval.precise_bn_batches
        return jax.tree.map(lambda x, sum_: sum_ + x / batches, batch_stats, total)

    shapes = batch_shapes(config, program)
    return _lower(step, mesh, state, shapes, state.batch_stats)


def lower_views_step(config, mesh: Mesh, state: TrainState, program: Program) -> jax.stages.Lowered:
    """The step (state, batch) -> scores `B K` float32 and weights `B` of the global batch.

    `batch` is as in `views_shapes`; the weight is 0 for videos that do not count.

    Args:
      config: of the run.
      mesh: the devices.
      state: shapes of the state.
      program: batch (videos), views, frames and size.
    """
    model = create_model(config.model, train=False, platform=parallel.platform(mesh))

    def step(state, batch):
        variables = {"params": state.params, "batch_stats": state.batch_stats}
        scores_BK = view_scores(model, variables, batch["clips"], config.data)
        return lax.all_gather((scores_BK, batch["weight"]), parallel.AXIS, tiled=True)

    return _lower(step, mesh, state, views_shapes(program))


def views_shapes(program: Program) -> dict[str, jax.ShapeDtypeStruct]:
    """Shapes of a global batch of test videos: clips `B V T h h 3` uint8, weight `B` float32."""
    B, T, h = program.batch, program.frames, program.size
    return {
        "clips": jax.ShapeDtypeStruct((B, program.views, T, h, h, 3), jnp.uint8),
        "weight": jax.ShapeDtypeStruct((B,), jnp.float32),
    }


def view_scores(
    model: nn.Module, variables: dict[str, Any], clips_BVTHWC: jax.Array, data
) -> jax.Array:
    """Scores of test videos, `B K` float32.

    The mean of the softmax over a video's views; with data.multi_label the maximum of the sigmoid.

    Args:
      model: for inference.
      variables: `params` and `batch_stats`.
      clips_BVTHWC: V views of each video, uint8.
      data: the `data` section of the config: multi_label, mean and std.
    """
    B, V = clips_BVTHWC.shape[:2]
    clips_NTHWC = clips_BVTHWC.reshape(B * V, *clips_BVTHWC.shape[2:])
    scores_BVK = clip_scores(model, variables, clips_NTHWC, data).reshape(B, V, -1)
    return scores_BVK.max(1) if data.multi_label else scores_BVK.mean(1)


def clip_scores(
    model: nn.Module, variables: dict[str, Any], clips_NTHWC: jax.Array, data
) -> jax.Array:
    """Scores of single clips, `N K` float32: the softmax, or the sigmoid with data.multi_label.

    Args:
      model: for inference.
      variables: `params` and `batch_stats`.
      clips_NTHWC: uint8.
      data: the `data` section of the config: multi_label, mean and std.
    """
    logits_NK = model.apply(variables, normalize(clips_NTHWC, data))
    return jax.nn.sigmoid(logits_NK) if data.multi_label else jax.nn.softmax(logits_NK)


def _lower(step, mesh: Mesh, state: TrainState, shapes: dict, *carry: Any) -> jax.stages.Lowered:
    """Lowers a step (state, batch, *carry) whose carry is donated."""
    carried = range(2, 2 + len(carry))
    mapped = parallel.pmap(
        step,
        mesh,
        in_specs=(parallel.REPLICATED, parallel.SPLIT, *(parallel.REPLICATED for _ in carried)),
        out_specs=parallel.REPLICATED,
        donate=tuple(carried),
    )
    return mapped.lower(
        parallel.abstract(state, mesh, parallel.REPLICATED),
        parallel.abstract(shapes, mesh, parallel.SPLIT),
        *(parallel.abstract(tree, mesh, parallel.REPLICATED) for tree in carry),
    )
