"""The models and how a config names them."""

from functools import partial

import flax.linen as nn
import jax.numpy as jnp

from mg_jax.architectures import check_model
from mg_jax.errors import UserError
from mg_jax.models.conv import Conv
from mg_jax.models.non_local import NonLocal
from mg_jax.models.norm import SubBatchNorm
from mg_jax.models.resnet3d import I3D, ResBlock
from mg_jax.models.slowfast import SlowFast


def create_model(
    config,
    *,
    train: bool,
    sub_batch: int = 1,
    axis_name: str | None = None,
    momentum: float = 0.9,
    remat: bool = False,
) -> nn.Module:
    """The model of a config for one use; all uses share the same variables.

    Args:
      config: the `model` section of a config: name, num_classes, depth, width, alpha, beta,
        dropout, dtype, non_local.
      train: statistics of sub-batches and dropout, or running statistics.
      sub_batch: clips that share batch-norm statistics in training.
      axis_name: the mapped axis over which the batch is split, or None.
      momentum: of the running statistics.
      remat: keep only what goes into residual blocks, and compute the rest again for gradients.

    Raises:
      UserError: for a model, depth or dtype that does not exist, or without classes.
    """
    check_model(config)
    if config.num_classes < 1:
        raise UserError(f"model.num_classes={config.num_classes} must be at least 1 to build it")
    dtype = jnp.dtype(config.dtype)
    common = {
        "num_classes": config.num_classes,
        "depth": config.depth,
        "width": config.width,
        "dropout": config.dropout,
        "positions": tuple(map(tuple, config.non_local.positions)),
        "conv": partial(Conv, dtype=dtype),
        "norm": partial(
            SubBatchNorm,
            sub_batch=sub_batch,
            train=train,
            axis_name=axis_name,
            momentum=momentum,
            dtype=dtype,
        ),
        "non_local": partial(
            NonLocal,
            instantiation=config.non_local.instantiation,
            pool=tuple(config.non_local.pool),
        ),
        "block": nn.remat(ResBlock) if remat else ResBlock,
        "train": train,
        "axis_name": axis_name,
    }
    if config.name == "i3d":
        return I3D(**common)
    return SlowFast(alpha=config.alpha, beta=config.beta, **common)
