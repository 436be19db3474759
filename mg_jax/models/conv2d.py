"""XLA's 2-D convolution, and frames that become its channels."""

import jax
import jax.numpy as jnp
from jax import lax

Pads = tuple[tuple[int, int], tuple[int, int]]


def conv2d(
    x_BHWC: jax.Array, kernel_HWIO: jax.Array, strides: tuple[int, int], pads: Pads
) -> jax.Array:
    """XLA's convolution, `B H' W' O`.

    Args:
      x_BHWC: pictures.
      kernel_HWIO: of the same dtype.
      strides: (height, width).
      pads: of each of both axes, before and after.
    """
    return lax.conv_general_dilated(
        x_BHWC, kernel_HWIO, strides, pads, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def stack_frames(x_BTHWC: jax.Array, time: int, stride: int, pad: int | None = None) -> jax.Array:
    """Lays frames that lie under a temporal kernel side by side as channels.

    Args:
      x_BTHWC: frames.
      time: how many lie side by side.
      stride: from one of the T / stride stacks to the next.
      pad: black frames before the first and after the last; by default half of `time`.

    Returns:
      `B T/stride H W tC` for t frames side by side.
    """
    T, pad = x_BTHWC.shape[1], time // 2 if pad is None else pad
    x_BTHWC = jnp.pad(x_BTHWC, ((0, 0), (pad, pad), (0, 0), (0, 0), (0, 0)))
    return jnp.concatenate([x_BTHWC[:, i : i + T : stride] for i in range(time)], axis=-1)
