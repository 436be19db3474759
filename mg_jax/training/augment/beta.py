"""Draws from symmetric Beta distributions.

By the quantiles, of a table: `jax.random.beta` rejects in loops, whose instructions take longer to
compile than a small network's, and which a GPU cannot run ahead.
"""

import jax
import jax.numpy as jnp
import numpy as np
from scipy import special

_INTERVALS = 1024


def draw(key: jax.Array, alpha: float) -> jax.Array:
    """A number in 0 ... 1, float32, from Beta(alpha, alpha)."""
    half_key, side_key = jax.random.split(key)
    below = quantile(jax.random.uniform(half_key) / 2, alpha)
    return jnp.where(jax.random.bernoulli(side_key), below, 1 - below)


def quantile(u: jax.Array, alpha: float) -> jax.Array:
    """The number that a share u of the distribution lies below, to about 1e-5.

    Args:
      u: in 0 ... 1/2, float32.
      alpha: of the distribution, above 0.
    """
    # Near 0 the quantile grows as u ** (1 / alpha), so in steps of that it is all but straight.
    steps = np.linspace(0, 0.5 ** (1 / alpha), _INTERVALS + 1)
    table = jnp.asarray(special.betaincinv(alpha, alpha, steps**alpha), jnp.float32)
    at = u ** (1 / alpha) / steps[1]
    left = jnp.clip(at.astype(jnp.int32), 0, _INTERVALS - 1)
    return table[left] + (at - left) * (table[left + 1] - table[left])
