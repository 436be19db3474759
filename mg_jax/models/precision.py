"""In which precision sums are taken."""

import jax
import jax.numpy as jnp


def at_least_float32(x: jax.Array) -> jax.Array:
    """Half precisions widened, so that sums over many positions keep their digits."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))
