"""A batch in parts, one after the other: a device holds the activations of one at a time."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax


def mean_over_parts(function: Callable[[Any], Any], parts: int, batch: Any) -> Any:
    """The mean of a function over equal parts of a batch, computed one after the other.

    Args:
      function: of a part, gives a tree of floating-point arrays.
      parts: their number; divides the batch.
      batch: tree of arrays `B ...`; part i has the i-th of `parts` runs of neighbouring rows.
    """
    function = jax.jit(function, inline=True)  # so that it is traced once
    split = jax.tree.map(lambda x: x.reshape(parts, -1, *x.shape[1:]), batch)
    shapes = jax.eval_shape(function, jax.tree.map(lambda x: x[0], split))
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)

    def add(total, part):
        return jax.tree.map(jnp.add, total, function(part)), None

    total, _ = lax.scan(add, zeros, split)
    return jax.tree.map(lambda x: x / parts, total)
