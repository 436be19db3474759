"""Draws from symmetric Beta distributions, by a table of their quantiles.

`jax.random.beta` draws and rejects in loops. They take as long to compile as a small network, and a
GPU waits for the host at each turn (`docs/programs.md`).
"""

import jax
import jax.numpy as jnp
import numpy as np
from scipy import special

_INTERVALS = 1024
# With larger powers most of the table would lie where next to nothing is drawn.
_MOST = 8


def draw(key: jax.Array, alpha: float) -> jax.Array:
    """A scalar in 0 ... 1, float32, from Beta(alpha, alpha).

    Args:
      key: of this draw.
      alpha: of the distribution, above 0; a number of Python, since the table is made from it.
    """
    half_key, side_key = jax.random.split(key)
    below = quantile(jax.random.uniform(half_key) / 2, alpha)
    return jnp.where(jax.random.bernoulli(side_key), below, 1 - below)


def quantile(u: jax.Array, alpha: float) -> jax.Array:
    """The x with I_x(alpha, alpha) = u, the inverse of the regularised incomplete beta function.

    Args:
      u: in 0 ... 1/2, float32.
      alpha: of the distribution, above 0; a number of Python.

    Returns:
      Of u's shape, float32, to about 1e-6 for u = 0 and above 1e-7.
    """
    # Near 0 the quantile grows as u ** (1 / alpha), so in steps of that it is all but straight.
    power = min(alpha, _MOST)
    steps = np.linspace(0, 1, _INTERVALS + 1)
    table = jnp.asarray(special.betaincinv(alpha, alpha, steps**power / 2), jnp.float32)
    at = _INTERVALS * (2 * u) ** (1 / power)
    left = jnp.clip(at.astype(jnp.int32), 0, _INTERVALS - 1)
    return table[left] + (at - left) * (table[left + 1] - table[left])
