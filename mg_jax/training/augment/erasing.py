"""Random erasing (Zhong et al., 2020): a rectangle of a clip, the same in all frames."""

import math

import jax
import jax.numpy as jnp

# Of the rectangle: share of the frame, and height to width.
AREA = (0.02, 1 / 3)
ASPECT = (0.3, 1 / 0.3)


def erase(probability: float, key: jax.Array, x_THWC: jax.Array, fill_C: jax.Array) -> jax.Array:
    """Fills a random rectangle of the clip, with a probability.

    Args:
      probability: of a clip.
      key: of the clip.
      x_THWC: float32.
      fill_C: the new colour.
    """
    _, H, W, _ = x_THWC.shape
    happens, area, aspect, top, left = jax.random.uniform(key, (5,))
    area = (AREA[0] + area * (AREA[1] - AREA[0])) * H * W
    low, high = map(math.log, ASPECT)
    aspect = jnp.exp(low + aspect * (high - low))
    height = jnp.clip(jnp.round(jnp.sqrt(area * aspect)), 1, H)
    width = jnp.clip(jnp.round(jnp.sqrt(area / aspect)), 1, W)
    top, left = jnp.floor(top * (H - height + 1)), jnp.floor(left * (W - width + 1))
    inside_HW1 = rectangle(H, W, top, left, top + height, left + width)
    return jnp.where(inside_HW1 & (happens < probability), fill_C, x_THWC)


def rectangle(H: int, W: int, top, left, bottom, right) -> jax.Array:
    """A mask `H W 1`, true in rows `top` to `bottom` and columns `left` to `right`, exclusive."""
    y_H1, x_W = jnp.arange(H)[:, None], jnp.arange(W)
    return ((y_H1 >= top) & (y_H1 < bottom) & (x_W >= left) & (x_W < right))[..., None]
