"""The stems' convolution, t x 7 x 7 with spatial stride 2, of blocks of 2 x 2 pixels."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from mg_jax.models.conv2d import conv2d, stack_frames

# Bytes of channels come to a multiple of this, or cuDNN makes it so, which takes longer.
_CHANNEL_BYTES = 16


def convolve_7x7_by_2(
    x_BTHWC: jax.Array,
    kernel_THWIO: jax.Array,
    *,
    pad_first: bool,
    frames_at_once: int = 1,
    by_words: bool = False,
) -> jax.Array:
    """A t x 7 x 7 convolution with spatial stride 2, of blocks of 2 x 2 pixels as channels.

    Args:
      x_BTHWC: frames of even sides.
      kernel_THWIO: t x 7 x 7, with odd t.
      pad_first: pad pixels before frames are stacked, and channels to what tensor cores take. On
        GPUs the convolution then needs no padded copy of the stack, and its gradient none either;
        on CPUs it takes twice as long. Otherwise frames are stacked in the form for CPUs.
      frames_at_once: n, a divisor of T: so many frames come out side by side as channels, see
        `frames_apart`. They lie under t + n - 1 frames instead of n t, and products of tensor cores
        get wider; what the kernel does not reach is multiplied by zeros.
      by_words: stack numbers of two bytes in pairs, for GPUs.

    Returns:
      `B T/n H/2 W/2 nO`.
    """
    B, T, H, W = x_BTHWC.shape[:4]
    time, n = kernel_THWIO.shape[0], frames_at_once
    # Taps -3 ... 3 around pixel 2 i lie in the pairs i - 2 ... i + 1, which begin at tap -4.
    pairs = (0, 0) if pad_first else (2, 1)
    if pad_first:
        x_BTHWC = jnp.pad(x_BTHWC, ((0, 0), (0, 0), (4, 2), (4, 2), (0, 0)))
    h, w = x_BTHWC.shape[2] // 2, x_BTHWC.shape[3] // 2
    if not pad_first:
        stack = _gather_blocks
    elif by_words and x_BTHWC.dtype.itemsize == 2:
        stack = _stack_blocks_by_words
    else:
        stack = _stack_blocks
    x = stack(x_BTHWC, time + n - 1, n, time // 2)
    kernel = _kernel_of_blocks(kernel_THWIO, n)
    if pad_first:
        more = ((0, 0), (0, -x.shape[-1] % (_CHANNEL_BYTES // x.dtype.itemsize)))
        x = jnp.pad(x, ((0, 0), (0, 0), (0, 0), *more))
        kernel = jnp.pad(kernel, ((0, 0), *more, (0, 0)))
    y = conv2d(x.reshape(B * T // n, h, w, -1), kernel, (1, 1), (pairs, pairs))
    return y.reshape(B, T // n, H // 2, W // 2, -1)


def frames_apart(x_BTHWN: jax.Array, frames: int) -> jax.Array:
    """Puts n frames that lie side by side as channels back on their axis.

    Args:
      x_BTHWN: `B T H W nC`.
      frames: n.

    Returns:
      `B nT H W C`.
    """
    if frames == 1:
        return x_BTHWN
    B, T, H, W, _ = x_BTHWN.shape
    x_BTNHWC = x_BTHWN.reshape(B, T, H, W, frames, -1).transpose(0, 1, 4, 2, 3, 5)
    return x_BTNHWC.reshape(B, T * frames, H, W, -1)


def _stack_blocks(x_BTHWC: jax.Array, time: int, stride: int, pad: int) -> jax.Array:
    """`stack_frames` of frames whose blocks of 2 x 2 pixels are channels, `B T/n H/2 W/2 4tC`."""
    return stack_frames(_blocks(x_BTHWC), time, stride, pad)


def _gather_blocks(x_BTHWC: jax.Array, time: int, stride: int, pad: int) -> jax.Array:
    """`_stack_blocks` as a gather: on CPUs XLA puts a concatenation together anew for each use."""
    T = x_BTHWC.shape[1]
    x = _blocks(jnp.pad(x_BTHWC, ((0, 0), (pad, pad), (0, 0), (0, 0), (0, 0))))
    frames = np.arange(0, T, stride)[:, None] + np.arange(time)
    x = x[:, frames].transpose(0, 1, 3, 4, 2, 5)
    return x.reshape(*x.shape[:4], -1)


def _blocks(x_BTHWC: jax.Array) -> jax.Array:
    """Blocks of 2 x 2 pixels as channels, `B T H/2 W/2 4C`."""
    B, T, H, W, C = x_BTHWC.shape
    x = x_BTHWC.reshape(B, T, H // 2, 2, W // 2, 2, C).transpose(0, 1, 2, 4, 3, 5, 6)
    return x.reshape(B, T, H // 2, W // 2, 4 * C)


@partial(jax.custom_jvp, nondiff_argnums=(1, 2, 3))
def _stack_blocks_by_words(x_BTHWC: jax.Array, time: int, stride: int, pad: int) -> jax.Array:
    """`_stack_blocks` of numbers of two bytes, which moves two of them at a time.

    GPUs spend the time on where each comes from, so what precedes is not to be fused into it.
    """
    B, T, H, W, C = x_BTHWC.shape
    # Two pixels of a row are 2 C numbers that follow each other in every stack, too.
    pairs = lax.optimization_barrier(x_BTHWC).reshape(B, T, H, W // 2, C, 2)
    words = lax.bitcast_convert_type(pairs, jnp.uint32)
    words = words.reshape(B, T, H // 2, 2, W // 2, C).transpose(0, 1, 2, 4, 3, 5)
    words = stack_frames(words.reshape(B, T, H // 2, W // 2, 2 * C), time, stride, pad)
    x = lax.bitcast_convert_type(words, x_BTHWC.dtype)
    return x.reshape(*words.shape[:-1], -1)


@_stack_blocks_by_words.defjvp
def _stack_blocks_by_words_jvp(time, stride, pad, primals, tangents):
    # Of words there are no derivatives, but what is moved is linear.
    moved = partial(_stack_blocks, time=time, stride=stride, pad=pad)
    return _stack_blocks_by_words(*primals, time, stride, pad), moved(*tangents)


def _kernel_of_blocks(kernel_THWIO: jax.Array, frames: int) -> jax.Array:
    """The 4 x 4 kernel over blocks of 2 x 2 pixels, `4 4 (t + n - 1) 4I n O`, last axes merged.

    Args:
      kernel_THWIO: t x 7 x 7.
      frames: n, that come out at once; for each the kernel lies one frame further.
    """
    time, _, _, C, features = kernel_THWIO.shape
    kernel = jnp.pad(kernel_THWIO, ((0, 0), (1, 0), (1, 0), (0, 0), (0, 0)))
    kernel = kernel.reshape(time, 4, 2, 4, 2, C, features).transpose(1, 3, 0, 2, 4, 5, 6)
    kernel = kernel.reshape(4, 4, time, 4 * C, features)
    later = [
        jnp.pad(kernel, ((0, 0), (0, 0), (i, frames - 1 - i), (0, 0), (0, 0)))
        for i in range(frames)
    ]
    return jnp.stack(later, -2).reshape(4, 4, (time + frames - 1) * 4 * C, frames * features)
