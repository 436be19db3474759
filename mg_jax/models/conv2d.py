"""XLA's 2-D convolution, and frames that become its channels."""

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

# On CPUs the gradient of a kernel with so many outputs is summed over parts of the batch; a part
# should have at most so many pixels, and there are at most so many: each has to be compiled.
_LEAST_FEATURES, _PART_PIXELS, _MOST_PARTS = 32, 2000, 4

Pads = tuple[tuple[int, int], tuple[int, int]]


def conv2d(
    x_BHWC: jax.Array,
    kernel_HWIO: jax.Array,
    strides: tuple[int, int],
    pads: Sequence[tuple[int, int]],
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


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def conv2d_on_cpu(
    x_BHWC: jax.Array, kernel_HWIO: jax.Array, strides: tuple[int, int], pads: Pads
) -> jax.Array:
    """`conv2d`, with the kernel's gradient as a sum over parts of the batch.

    That gradient is a convolution whose windows are as large as the pictures; over all of them at
    once XLA's takes up to three times as long (`docs/programs.md`).
    """
    return conv2d(x_BHWC, kernel_HWIO, strides, pads)


def _forward(x_BHWC, kernel_HWIO, strides, pads):
    return conv2d(x_BHWC, kernel_HWIO, strides, pads), (x_BHWC, kernel_HWIO)


def _backward(strides, pads, kept, g_BHWO):
    x_BHWC, kernel_HWIO = kept
    conv = partial(conv2d, strides=strides, pads=pads)
    (in_x_BHWC,) = jax.linear_transpose(lambda x: conv(x, kernel_HWIO), x_BHWC)(g_BHWO)
    parts = _parts(x_BHWC.shape, g_BHWO.shape[-1])
    in_kernel_HWIO = sum(
        jax.linear_transpose(partial(conv, x), kernel_HWIO)(g)[0]
        for x, g in zip(jnp.split(x_BHWC, parts), jnp.split(g_BHWO, parts), strict=True)
    )
    return in_x_BHWC, in_kernel_HWIO


conv2d_on_cpu.defvjp(_forward, _backward)


def _parts(shape: tuple[int, int, int, int], features: int) -> int:
    """Into how many parts a batch of pictures `B H W C` is divided, a power of two."""
    B, H, W, _ = shape
    parts = 1
    if features >= _LEAST_FEATURES:
        while parts < _MOST_PARTS and B % (2 * parts) == 0 and parts * _PART_PIXELS < B * H * W:
            parts *= 2
    return parts


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
