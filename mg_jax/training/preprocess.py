"""Preprocessing of pixels on the devices."""

import jax
import jax.numpy as jnp

# Mean and standard deviation of x / 255 that the published models were trained with.
PIXEL_MEAN = 0.45
PIXEL_STD = 0.225


def normalize(clips_BTHWC: jax.Array) -> jax.Array:
    """Network input of uint8 pixels: (x / 255 - mean) / std in float32, of the same shape."""
    return (clips_BTHWC.astype(jnp.float32) / 255 - PIXEL_MEAN) / PIXEL_STD


def flip(clips_BTHWC: jax.Array, flip_B: jax.Array) -> jax.Array:
    """Mirrors left and right the clips whose entry of `flip_B`, bool, is true."""
    mirror = flip_B[:, None, None, None, None]
    return jnp.where(mirror, clips_BTHWC[:, :, :, ::-1], clips_BTHWC)
