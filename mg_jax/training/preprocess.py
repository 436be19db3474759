"""What is done to every clip on the devices: it is normalised, in training some are mirrored."""

import jax
import jax.numpy as jnp


def normalize(clips_BTHWC: jax.Array, data) -> jax.Array:
    """Network input of uint8 pixels: (x / 255 - mean) / std in float32, of the same shape.

    Args:
      clips_BTHWC: red, green and blue.
      data: the `data` section of the config, with mean and std.
    """
    return (clips_BTHWC.astype(jnp.float32) / 255 - _colours(data.mean)) / _colours(data.std)


def _colours(values_C: tuple[float, float, float]) -> jax.Array | float:
    """A number for each colour; one number if they are equal, which compiles to less."""
    return values_C[0] if len(set(values_C)) == 1 else jnp.array(values_C, jnp.float32)


def flip(clips_BTHWC: jax.Array, flip_B: jax.Array) -> jax.Array:
    """Mirrors left and right the clips whose entry of `flip_B`, bool, is true."""
    mirror = flip_B[:, None, None, None, None]
    return jnp.where(mirror, clips_BTHWC[:, :, :, ::-1], clips_BTHWC)
