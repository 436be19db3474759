"""What networks are built from, the same for every architecture."""

import dataclasses
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.errors import ScopeParamShapeError
from jax import lax

# A module's class, or a function that makes a module of it.
ModuleDef = Any


@dataclasses.dataclass(frozen=True)
class Parts:
    """What a network's `create` is given beside its settings.

    Attributes:
      conv: convolution, called with (features, kernel, strides).
      norm: normalisation.
      remat: keep only the inputs of blocks for the backward pass, which computes the rest again.
      train: training or inference.
      first_clip: called with how many clips the network is given, gives the index of the first of
        them in the global batch.
      platform: that it is compiled for: cpu, gpu or tpu.
    """

    conv: ModuleDef
    norm: ModuleDef
    remat: bool
    train: bool
    first_clip: Callable[[int], jax.Array | int]
    platform: str


def parameter(
    module: nn.Module, name: str, init: nn.initializers.Initializer, shape: tuple[int, ...]
) -> jax.Array:
    """A module's parameter, which `init` draws as float32 when the network is initialised.

    `nn.Module.param` does the same, but traces the initialiser each time to compare shapes, which
    takes a third of the time in which an inference is traced. That names differ within a module is
    checked when it is initialised.

    Raises:
      ScopeParamShapeError: if the parameter that there is has another shape.
    """
    if module.is_initializing() or not module.has_variable("params", name):
        return module.param(name, init, shape, jnp.float32)
    value = module.get_variable("params", name)
    if value.shape != shape:
        raise ScopeParamShapeError(name, module.scope.path_text, value.shape, shape)
    return value


def first_clip(axis_name: str | None, B: int) -> jax.Array | int:
    """The index, in the global batch, of the first of this device's B clips.

    Args:
      axis_name: the mapped axis over which the batch is split, or None on a single device.
      B: clips.
    """
    return 0 if axis_name is None else lax.axis_index(axis_name) * B


def clip_keys(key: jax.Array, first_clip: Callable[[int], jax.Array | int], B: int) -> jax.Array:
    """A key for each of B clips by its index in the global batch, however devices divide that.

    Args:
      key: of the batch.
      first_clip: see `Parts`.
      B: clips.
    """
    return jax.vmap(jax.random.fold_in, (None, 0))(key, first_clip(B) + jnp.arange(B))
