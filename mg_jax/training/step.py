"""One iteration of training, as per-device code."""

from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jax import lax
from jax.flatten_util import ravel_pytree
from jax.sharding import Mesh

from mg_jax.models import create_model
from mg_jax.models.parts import first_clip
from mg_jax.runtime import parallel
from mg_jax.runtime.executables import Program
from mg_jax.runtime.state import TrainState
from mg_jax.training.accumulation import mean_over_parts
from mg_jax.training.arguments import argument_shapes
from mg_jax.training.augment.batch import augmented
from mg_jax.training.average import with_average
from mg_jax.training.loss import batch_metrics
from mg_jax.training.network_stages import frozen
from mg_jax.training.optimizer import create_optimizer, with_learning_rate
from mg_jax.training_settings import changes_pixels


def lower_train_step(
    config,
    mesh: Mesh,
    state: TrainState,
    program: Program,
    class_weights: Sequence[float] | None = None,
) -> jax.stages.Lowered:
    """The step (state, batch, arguments) -> (state, metrics), lowered for compilation.

    `batch` is as in `batch_shapes`, `arguments` as in `step_arguments`. Metrics are scalars: means
    over the global batch, and `finite`, whether all new parameters and statistics are. The state is
    donated.

    Args:
      config: of the run.
      mesh: the devices.
      state: shapes of the state.
      program: batch, frames, size and sub_batch.
      class_weights: of the loss of each class; None for 1.
    """
    optimizer = create_optimizer(config.optimizer)
    parts = config.run.accumulate

    def loss(logits_BK, label):
        return batch_metrics(logits_BK, label, config.loss.label_smoothing, class_weights)

    def gradients(state, batch, seed):
        if parts == 1:
            return _gradients(config, mesh, program, loss, state, batch, seed)
        clips = program.batch // mesh.size
        batch = {**batch, "index": first_clip(parallel.AXIS, clips) + jnp.arange(clips)}
        return mean_over_parts(
            lambda part: _gradients(config, mesh, program, loss, state, part, seed), parts, batch
        )

    def step(state, batch, arguments):
        of_device = gradients(state, batch, arguments["seed"])
        grads, batch_stats, metrics = lax.pmean(of_device, parallel.AXIS)
        opt_state = with_learning_rate(state.opt_state, arguments["learning_rate"])
        updates, opt_state = optimizer.update(grads, opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        # Parameters and statistics may be infinite or NaN though the loss is finite.
        metrics["finite"] = all_finite((params, batch_stats))
        if config.run.log_norms:
            norms = {"gradient_norm": grads, "parameter_norm": params}
            metrics |= {name: optax.tree.norm(tree) for name, tree in norms.items()}
        state = state.replace(
            step=state.step + 1, params=params, batch_stats=batch_stats, opt_state=opt_state
        )
        return with_average(config, state, program.batch), metrics

    mapped = parallel.pmap(
        step,
        mesh,
        in_specs=(parallel.REPLICATED, parallel.SPLIT, parallel.REPLICATED),
        out_specs=(parallel.REPLICATED, parallel.REPLICATED),
        donate=(0,),
    )
    return mapped.lower(
        parallel.abstract(state, mesh, parallel.REPLICATED),
        parallel.abstract(batch_shapes(config, program), mesh, parallel.SPLIT),
        parallel.abstract(argument_shapes(), mesh, parallel.REPLICATED),
    )


def batch_shapes(config, program: Program) -> dict[str, jax.ShapeDtypeStruct]:
    """Shapes of a global batch: clips `B t h h 3` uint8, flip `B` bool, label.

    The label is `B` int32, or `B K` uint8 if videos have any number of labels. To train with pixels
    that are changed at random there is also position `B` uint32, modulo 2^32.
    """
    B, t, h = program.batch, program.frames, program.size
    label = jax.ShapeDtypeStruct((B,), jnp.int32)
    if config.data.multi_label:
        label = jax.ShapeDtypeStruct((B, config.model.num_classes), jnp.uint8)
    shapes = {
        "clips": jax.ShapeDtypeStruct((B, t, h, h, 3), jnp.uint8),
        "flip": jax.ShapeDtypeStruct((B,), jnp.bool_),
        "label": label,
    }
    if program.kind == "train" and changes_pixels(config.augment):
        shapes["position"] = jax.ShapeDtypeStruct((B,), jnp.uint32)
    return shapes


def training_model(settings, mesh: Mesh, program: Program, **use: Any) -> nn.Module:
    """The model with the statistics of a program's sub-batches, which devices share.

    Args:
      settings: the `model` section of a config.
      mesh: the devices.
      program: gives sub_batch.
      **use: further arguments of `create_model`.
    """
    return create_model(
        settings,
        train=True,
        sub_batch=program.sub_batch,
        axis_name=parallel.AXIS,
        platform=parallel.platform(mesh),
        **use,
    )


def _gradients(
    config,
    mesh: Mesh,
    program: Program,
    loss: Callable[[jax.Array, jax.Array], dict[str, jax.Array]],
    state: TrainState,
    batch: dict[str, jax.Array],
    seed: jax.Array,
) -> tuple[Any, Any, dict[str, jax.Array]]:
    """Gradients, new running statistics and metrics of some of this device's clips: their means.

    Args:
      config: of the run.
      mesh: the devices.
      program: gives sub_batch.
      loss: of logits and label, gives the metrics.
      state: to train.
      batch: all of the device's clips, or a part of them with their `index` in the global batch.
      seed: of the run, int32.
    """
    first_index = batch["index"][0] if "index" in batch else None
    model = training_model(
        config.model, mesh, program, remat=config.run.remat, first_index=first_index
    )
    clips_BTHWC, label = augmented(config, program.batch, batch, seed)
    dropout_key = jax.random.fold_in(jax.random.key(seed), state.step)

    def loss_fn(params):
        logits_BK, updated = model.apply(
            {"params": frozen(params, config.optimizer.freeze), "batch_stats": state.batch_stats},
            clips_BTHWC,
            rngs={"dropout": dropout_key},
            mutable=["batch_stats"],
        )
        metrics = loss(logits_BK, label)
        return metrics["loss"], (metrics, updated["batch_stats"])

    (_, (metrics, batch_stats)), grads = jax.value_and_grad(loss_fn, has_aux=True)(state.params)
    return grads, batch_stats, metrics


def all_finite(tree: Any) -> jax.Array:
    """Whether all elements of all arrays of a tree are finite, a bool scalar."""
    # One vector: the leaves one by one take two kernels each.
    return jnp.all(jnp.isfinite(ravel_pytree(tree)[0]))
