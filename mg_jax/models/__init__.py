"""The models, built by the name that a config gives."""

import importlib
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp

from mg_jax.architectures import MODELS, check_model, missing_settings_named
from mg_jax.errors import UserError
from mg_jax.models.conv import Conv
from mg_jax.models.norm import SubBatchNorm
from mg_jax.models.parts import Parts, first_clip


def create_model(
    config,
    *,
    train: bool,
    sub_batch: int = 1,
    axis_name: str | None = None,
    momentum: float = 0.9,
    remat: bool = False,
    platform: str = "cpu",
    first_index: jax.Array | None = None,
) -> nn.Module:
    """The model of a config for one use; all uses share the same variables.

    Args:
      config: the `model` section of a config.
      train: whether dropout is applied and batch norm takes the statistics of sub-batches instead
        of the running ones.
      sub_batch: clips that share batch-norm statistics in training.
      axis_name: the mapped axis over which the batch is split, or None.
      momentum: of the running statistics.
      remat: keep only the inputs of residual blocks for the backward pass, which computes the rest
        again.
      platform: that it is compiled for, cpu, gpu or tpu: some convolutions and batch norm's sums
        take another form.
      first_index: of the clips, in the global batch; None where they are all of this device's.

    Raises:
      UserError: for invalid or missing settings, or without classes.
    """
    check_model(config)
    if config.num_classes < 1:
        raise UserError(f"model.num_classes={config.num_classes} must be at least 1 to build it")
    dtype = jnp.dtype(config.dtype)
    norm = partial(
        SubBatchNorm,
        sub_batch=sub_batch,
        train=train,
        axis_name=axis_name,
        momentum=momentum,
        dtype=dtype,
        platform=platform,
    )
    first = partial(first_clip, axis_name) if first_index is None else lambda _: first_index
    conv = partial(Conv, dtype=dtype, platform=platform)
    parts = Parts(conv, norm, remat, train, first, platform)
    module = importlib.import_module(MODELS[config.name].module)
    with missing_settings_named(config):
        return module.create(config, parts)
