"""XLA's 2-D convolution, and frames that become its channels."""

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

from mg_jax.models.precision import at_least_float32

# When `conv2d_on_cpu` divides a batch (docs/programs.md has the times): kernels of fewer features
# gain little,
_LEAST_FEATURES = 32
# nor does a share with fewer pixels,
_SHARE_PIXELS = 2000
# and each share is one more convolution to compile.
_MOST_SHARES = 4

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


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def conv2d_on_cpu(
    x_BHWC: jax.Array, kernel_HWIO: jax.Array, strides: tuple[int, int], pads: Pads
) -> jax.Array:
    """`conv2d`, whose kernel's gradient is a sum over shares of the batch.

    That gradient is a convolution with windows as large as the pictures; over all of them at once
    XLA takes up to three times as long on CPUs. Arguments and result are those of `conv2d`.
    """
    return _forward(x_BHWC, kernel_HWIO, strides, pads)[0]


def _forward(x_BHWC, kernel_HWIO, strides, pads):
    return conv2d(x_BHWC, kernel_HWIO, strides, pads), (x_BHWC, kernel_HWIO)


def _backward(strides, pads, kept, g_BHWO):
    x_BHWC, kernel_HWIO = kept
    conv = partial(conv2d, strides=strides, pads=pads)
    (in_x_BHWC,) = jax.linear_transpose(lambda x: conv(x, kernel_HWIO), x_BHWC)(g_BHWO)
    shares = _shares(x_BHWC.shape, g_BHWO.shape[-1])
    in_kernels_HWIO = (
        jax.linear_transpose(partial(conv, x), kernel_HWIO)(g)[0]
        for x, g in zip(jnp.split(x_BHWC, shares), jnp.split(g_BHWO, shares), strict=True)
    )
    in_kernel_HWIO = sum(map(at_least_float32, in_kernels_HWIO))
    return in_x_BHWC, in_kernel_HWIO.astype(kernel_HWIO.dtype)


conv2d_on_cpu.defvjp(_forward, _backward)


def _shares(shape: tuple[int, int, int, int], features: int) -> int:
    """Into how many shares a batch of pictures `B H W C` is divided, a power of two."""
    B, H, W, _ = shape
    most = _MOST_SHARES if features >= _LEAST_FEATURES else 1
    shares = 1
    while shares < most and B % (2 * shares) == 0 and shares * _SHARE_PIXELS < B * H * W:
        shares *= 2
    return shares


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
