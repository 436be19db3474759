"""One iteration of training, as per-device code."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jax import lax
from jax.flatten_util import ravel_pytree
from jax.sharding import Mesh

from mg_jax.models import create_model
from mg_jax.runtime import parallel
from mg_jax.runtime.executables import Program
from mg_jax.runtime.state import TrainState
from mg_jax.training.optimizer import create_optimizer, with_learning_rate
from mg_jax.training.preprocess import preprocess


def lower_train_step(config, mesh: Mesh, state: TrainState, program: Program) -> jax.stages.Lowered:
    """The step (state, batch, learning_rate) -> (state, metrics), lowered for compilation.

    `batch` is as in `batch_shapes`. Metrics are scalars: means over the global batch, and `finite`,
    whether all new parameters and statistics are. The state is donated.

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
        remat=config.run.remat,
        platform=parallel.platform(mesh),
    )
    optimizer = create_optimizer(config.optimizer)

    def step(state, batch, learning_rate):
        return _train_step(model, optimizer, config, state, batch, learning_rate)

    mapped = parallel.pmap(
        step,
        mesh,
        in_specs=(parallel.REPLICATED, parallel.SPLIT, parallel.REPLICATED),
        out_specs=(parallel.REPLICATED, parallel.REPLICATED),
        donate=(0,),
    )
    rate = jax.ShapeDtypeStruct((), jnp.float32)
    return mapped.lower(
        parallel.abstract(state, mesh, parallel.REPLICATED),
        parallel.abstract(batch_shapes(config, program), mesh, parallel.SPLIT),
        parallel.abstract(rate, mesh, parallel.REPLICATED),
    )


def batch_shapes(config, program: Program) -> dict[str, jax.ShapeDtypeStruct]:
    """Shapes of a global batch: clips `B t h h 3` uint8, flip `B` bool, label.

    The label is `B` int32, or `B K` uint8 if videos have any number of labels.
    """
    B, t, h = program.batch, program.frames, program.size
    label = jax.ShapeDtypeStruct((B,), jnp.int32)
    if config.data.multi_label:
        label = jax.ShapeDtypeStruct((B, config.model.num_classes), jnp.uint8)
    return {
        "clips": jax.ShapeDtypeStruct((B, t, h, h, 3), jnp.uint8),
        "flip": jax.ShapeDtypeStruct((B,), jnp.bool_),
        "label": label,
    }


def batch_metrics(logits_BK: jax.Array, label: jax.Array) -> dict[str, jax.Array]:
    """Means over a batch: `loss`, and `top1` if every video has one label.

    Args:
      logits_BK: float32.
      label: `B` int32 for softmax cross entropy, or `B K` of 0 and 1 for sigmoid binary cross
        entropy, averaged over clips and classes.
    """
    if label.ndim == 2:
        return {"loss": optax.sigmoid_binary_cross_entropy(logits_BK, label).mean()}
    loss = optax.softmax_cross_entropy_with_integer_labels(logits_BK, label).mean()
    return {"loss": loss, "top1": jnp.mean(jnp.argmax(logits_BK, -1) == label)}


def _train_step(
    model: nn.Module,
    optimizer: optax.GradientTransformation,
    config,
    state: TrainState,
    batch: dict[str, jax.Array],
    learning_rate: jax.Array,
) -> tuple[TrainState, dict[str, jax.Array]]:
    clips_BTHWC = preprocess(batch)
    dropout_key = jax.random.fold_in(jax.random.key(config.seed), state.step)

    def loss_fn(params):
        logits_BK, updated = model.apply(
            {"params": params, "batch_stats": state.batch_stats},
            clips_BTHWC,
            rngs={"dropout": dropout_key},
            mutable=["batch_stats"],
        )
        metrics = batch_metrics(logits_BK, batch["label"])
        return metrics["loss"], (metrics, updated["batch_stats"])

    (_, (metrics, batch_stats)), grads = jax.value_and_grad(loss_fn, has_aux=True)(state.params)
    grads, batch_stats, metrics = lax.pmean((grads, batch_stats, metrics), parallel.AXIS)
    opt_state = with_learning_rate(state.opt_state, learning_rate)
    updates, opt_state = optimizer.update(grads, opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    # Parameters and statistics may be infinite or NaN though the loss is finite.
    metrics["finite"] = all_finite((params, batch_stats))
    if config.run.log_norms:
        metrics |= {"gradient_norm": norm(grads), "parameter_norm": norm(params)}
    return TrainState(state.step + 1, params, batch_stats, opt_state), metrics


def all_finite(tree: Any) -> jax.Array:
    """Whether all elements of all arrays of a tree are finite, a bool scalar."""
    # One vector: the leaves one by one take two kernels each.
    return jnp.all(jnp.isfinite(ravel_pytree(tree)[0]))


def norm(tree: Any) -> jax.Array:
    """The Euclidean norm of all elements of all arrays of a tree."""
    return jnp.linalg.norm(ravel_pytree(tree)[0])  # one vector, as in `all_finite`
