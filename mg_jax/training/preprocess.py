"""Preprocessing of pixels on the devices."""

import jax
import jax.numpy as jnp

# Mean and standard deviation of x / 255 that the published models were trained with.
PIXEL_MEAN = 0.45
PIXEL_STD = 0.225


def preprocess(batch: dict[str, jax.Array]) -> jax.Array:
    """What the network takes of a batch of training: its clips, augmented and normalised, float32.

    Args:
      batch: of `step.batch_shapes`.
    """
    return normalize(flip(batch["clips"], batch["flip"]))


def normalize(clips_BTHWC: jax.Array) -> jax.Array:
    """Network input of uint8 pixels: (x / 255 - mean) / std in float32, of the same shape."""
    return (clips_BTHWC.astype(jnp.float32) / 255 - PIXEL_MEAN) / PIXEL_STD


def flip(clips_BTHWC: jax.Array, flip_B: jax.Array) -> jax.Array:
    """Mirrors left and right the clips whose entry of `flip_B`, bool, is true."""
    mirror = flip_B[:, None, None, None, None]
    return jnp.where(mirror, clips_BTHWC[:, :, :, ::-1], clips_BTHWC)
