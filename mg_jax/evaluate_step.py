"""Per-device code of evaluation: batch statistics for precise BN, and scores of test videos."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jax import lax
from jax.sharding import Mesh

from mg_jax import parallel
from mg_jax.models import create_model
from mg_jax.parallel import Program
from mg_jax.train_step import TrainState, batch_shapes, flip, normalize


def lower_statistics_step(
    config, mesh: Mesh, state: TrainState, program: Program
) -> jax.stages.Lowered:
    """A step (state, batch) -> batch_stats of this batch alone, for precise BN.

    Args:
      config: of the run.
      mesh: the devices.
      state: shapes of the state.
      program: batch, frames, size and sub_batch.
    """
    model = create_model(
        config.model,
        train=True,
        sub_batch=program.sub_batch,
        axis_name=parallel.AXIS,
        momentum=0.0,
    )

    def step(state, batch):
        clips_BTHWC = normalize(flip(batch["clips"], batch["flip"]))
        _, updated = model.apply(
            {"params": state.params, "batch_stats": state.batch_stats},
            clips_BTHWC,
            rngs={"dropout": jax.random.key(0)},  # of the classifier's input: no statistics follow
            mutable=["batch_stats"],
        )
        return lax.pmean(updated["batch_stats"], parallel.AXIS)

    return _lower(step, mesh, state, batch_shapes(program))


def lower_views_step(config, mesh: Mesh, state: TrainState, program: Program) -> jax.stages.Lowered:
    """A step (state, batch) -> float32 sums of loss, top1, top5 and videos over the batch.

    `batch` holds clips `B V T h h 3` uint8, label `B` int32 and weight `B` float32.

    Args:
      config: of the run.
      mesh: the devices.
      state: shapes of the state.
      program: batch (videos), views, frames and size.
    """
    model = create_model(config.model, train=False)

    def step(state, batch):
        variables = {"params": state.params, "batch_stats": state.batch_stats}
        scores_BK = view_scores(model, variables, batch["clips"])
        return lax.psum(video_sums(scores_BK, batch["label"], batch["weight"]), parallel.AXIS)

    B, T, h = program.batch, program.frames, program.size
    shapes = {
        "clips": jax.ShapeDtypeStruct((B, program.views, T, h, h, 3), jnp.uint8),
        "label": jax.ShapeDtypeStruct((B,), jnp.int32),
        "weight": jax.ShapeDtypeStruct((B,), jnp.float32),
    }
    return _lower(step, mesh, state, shapes)


def view_scores(model: nn.Module, variables: dict[str, Any], clips_BVTHWC: jax.Array) -> jax.Array:
    """Scores of test videos, `B K` float32: the mean over their views of the softmax.

    Args:
      model: for inference.
      variables: `params` and `batch_stats`.
      clips_BVTHWC: views as uint8.
    """
    B, V = clips_BVTHWC.shape[:2]
    clips_NTHWC = clips_BVTHWC.reshape(B * V, *clips_BVTHWC.shape[2:])
    logits_NK = model.apply(variables, normalize(clips_NTHWC))
    return jax.nn.softmax(logits_NK).reshape(B, V, -1).mean(1)


def video_sums(
    scores_BK: jax.Array, label_B: jax.Array, weight_B: jax.Array
) -> dict[str, jax.Array]:
    """Weighted sums over videos: cross entropy, hits among the best 1 and 5, number of videos."""
    log_scores_BK = jnp.log(jnp.maximum(scores_BK, jnp.finfo(jnp.float32).tiny))
    loss_B = optax.softmax_cross_entropy_with_integer_labels(log_scores_BK, label_B)
    own_B1 = jnp.take_along_axis(scores_BK, label_B[:, None], 1)
    # Among equal scores the first class ranks first; scores that are not numbers hit nothing.
    earlier_BK = jnp.arange(scores_BK.shape[1]) < label_B[:, None]
    rank_B = jnp.sum((scores_BK > own_B1) | ((scores_BK == own_B1) & earlier_BK), 1)
    hit_weight_B = jnp.where(jnp.isnan(own_B1[:, 0]), 0.0, weight_B)
    return {
        "loss": jnp.sum(loss_B * weight_B),
        "top1": jnp.sum((rank_B < 1) * hit_weight_B),
        "top5": jnp.sum((rank_B < 5) * hit_weight_B),
        "videos": jnp.sum(weight_B),
    }


def _lower(step, mesh: Mesh, state: TrainState, shapes: dict) -> jax.stages.Lowered:
    mapped = parallel.pmap(
        step,
        mesh,
        in_specs=(parallel.REPLICATED, parallel.SPLIT),
        out_specs=parallel.REPLICATED,
    )
    return mapped.lower(
        parallel.abstract(state, mesh, parallel.REPLICATED),
        parallel.abstract(shapes, mesh, parallel.SPLIT),
    )
