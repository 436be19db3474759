"""Max-pooling whose backward pass reads which pixel was the maximum."""

import functools
import itertools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def max_pool_3x3(x_BTHWC: jax.Array, platform: str) -> jax.Array:
    """Max-pooling over 1 x 3 x 3 with stride 2 and padding 1, as the maximum of nine slices.

    The backward pass of a windowed reduction (select-and-scatter) is slow; that of slices is not.
    Here it reads which of the nine was the maximum (the first, where several are), a byte each,
    where automatic differentiation keeps eight masks and as many partial maxima.

    Args:
      x_BTHWC: pictures.
      platform: that it is compiled for: cpu, gpu or tpu.

    Returns:
      `B T (H+1)//2 (W+1)//2 C`.
    """
    return _max_pool_3x3(x_BTHWC)[0]


def max_pool_3x3_unpadded(x_BTHWC: jax.Array, platform: str) -> jax.Array:
    """Max-pooling over 1 x 3 x 3 with stride 2 of whole windows only.

    The padded one of pictures that begin a pixel earlier, without its first row and column.

    Args:
      x_BTHWC: pictures.
      platform: as in `max_pool_3x3`.

    Returns:
      `B T (H-1)//2 (W-1)//2 C`.
    """
    H, W = x_BTHWC.shape[2:4]
    lowest = jnp.array(jnp.finfo(x_BTHWC.dtype).min, x_BTHWC.dtype)
    x_BTHWC = lax.pad(x_BTHWC, lowest, ((0, 0, 0), (0, 0, 0), (1, 0, 0), (1, 0, 0), (0, 0, 0)))
    return max_pool_3x3(x_BTHWC, platform)[:, :, 1 : (H + 1) // 2, 1 : (W + 1) // 2]


def _max_pool_3x3(x_BTHWC: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The maxima, and the index of each among its nine pixels as uint8."""
    lowest = jnp.array(jnp.finfo(x_BTHWC.dtype).min, x_BTHWC.dtype)
    padded = lax.pad(x_BTHWC, lowest, ((0, 0, 0), (0, 0, 0), (1, 1, 0), (1, 1, 0), (0, 0, 0)))
    H, W = x_BTHWC.shape[2:4]
    offsets = itertools.product(range(3), range(3))
    return _first_maximum([padded[:, :, i : i + H : 2, j : j + W : 2] for i, j in offsets])


def _first_maximum(taps: list[jax.Array]) -> tuple[jax.Array, jax.Array]:
    """Element by element the maximum of arrays of one shape, and the index of the first with it.

    The index has the smallest unsigned dtype that holds it.
    """
    dtype = _index_dtype(len(taps))
    out, *others = taps
    index = jnp.zeros(out.shape, dtype)
    for k, tap in enumerate(others, 1):
        index = jnp.where(tap > out, dtype.type(k), index)
        out = jnp.maximum(out, tap)
    return out, index


def _index_dtype(count: int) -> np.dtype:
    return np.min_scalar_type(count - 1)


def _max_pool_3x3_forward(
    x_BTHWC: jax.Array, platform: str
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    # Those that read the maxima are not to compute them again.
    out, index = lax.optimization_barrier(_max_pool_3x3(x_BTHWC))
    # Of the input only the shape is used.
    return out, (index, x_BTHWC)


def _max_pool_3x3_backward(
    platform: str, kept: tuple[jax.Array, jax.Array], g_BTHWC: jax.Array
) -> tuple[jax.Array]:
    index, x_BTHWC = kept
    zero = jnp.zeros((), g_BTHWC.dtype)

    def tap(i: int, j: int) -> jax.Array:
        # Output (a, b) took pixel (2 a + i - 1, 2 b + j - 1).
        return jnp.where(index == 3 * i + j, g_BTHWC, zero)

    gradient = _spread if platform == "cpu" else _interleaved
    return (gradient(tap, x_BTHWC.shape, g_BTHWC.shape),)


max_pool_3x3.defvjp(_max_pool_3x3_forward, _max_pool_3x3_backward)

# Gives the gradient of the pixels at offsets i and j.
Tap = Callable[[int, int], jax.Array]


def _spread(tap: Tap, shape: tuple[int, ...], taps_shape: tuple[int, ...]) -> jax.Array:
    """The sum of the nine taps, each spread over all pixels: fast on CPUs."""
    (H, W), (h, w) = shape[2:4], taps_shape[2:4]
    total = None
    for k in range(9):
        i, j = divmod(k, 3)
        part = tap(i, j)
        rows, columns = (i - 1, H - (2 * h - 2 + i), 1), (j - 1, W - (2 * w - 2 + j), 1)
        pads = ((0, 0, 0), (0, 0, 0), rows, columns, (0, 0, 0))
        part = lax.pad(part, jnp.zeros((), part.dtype), pads)
        total = part if total is None else total + part
    return total


def _interleaved(tap: Tap, shape: tuple[int, ...], taps_shape: tuple[int, ...]) -> jax.Array:
    """The same sum, of four pixels at a time: fast on GPUs; on TPUs it moves fewer bytes by count.

    Pixels of even and odd rows and columns come from one, two, two and four outputs.
    """
    B, T, H, W, C = shape
    h, w = taps_shape[2:4]
    even_even = tap(1, 1)
    even_odd = _next(tap(1, 0), 3) + tap(1, 2)
    odd_even = _next(tap(0, 1), 2) + tap(2, 1)
    odd_odd = _next(_next(tap(0, 0), 3), 2) + _next(tap(0, 2), 2)
    odd_odd = odd_odd + _next(tap(2, 0), 3) + tap(2, 2)
    rows = [jnp.stack(row, 4) for row in ((even_even, even_odd), (odd_even, odd_odd))]
    return jnp.stack(rows, 3).reshape(B, T, 2 * h, 2 * w, C)[:, :, :H, :W]


def _next(x_BTHWC: jax.Array, axis: int) -> jax.Array:
    """Each pixel's next one along an axis; zero after the last."""
    ends = [(0, 0, 0)] * x_BTHWC.ndim
    ends[axis] = (-1, 1, 0)
    return lax.pad(x_BTHWC, jnp.zeros((), x_BTHWC.dtype), ends)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def max_pool(x_BTHWC: jax.Array, size: tuple[int, int, int]) -> jax.Array:
    """Max-pooling with stride equal to its size; what is left over at an axis' end is dropped.

    The backward pass reads which pixel was the maximum (the first, where several are). Automatic
    differentiation compares the input with the maxima instead, and divides by how many are equal:
    none, where XLA computes the input anew and rounds otherwise, and the gradient is NaN.

    Args:
      x_BTHWC: pictures.
      size: (time, height, width) of a block; an axis that is shorter is pooled to one position.

    Returns:
      `B T/time H/height W/width C`, rounded down.
    """
    if _are_few(x_BTHWC.shape, size):
        return functools.reduce(jnp.maximum, _slices(x_BTHWC, size))
    return jnp.max(_pixels(x_BTHWC, size), -1)


def _are_few(shape: tuple[int, ...], size: tuple[int, int, int]) -> bool:
    """Whether the pixels of a block are slices; of large blocks programs would be large as well."""
    return math.prod(_blocks(shape, size)[1]) <= 16


def _slices(x_BTHWC: jax.Array, size: tuple[int, int, int]) -> list[jax.Array]:
    """For each pixel of a block those of all blocks, `B T H W C` with counts of blocks."""
    counts, (t, h, w) = _blocks(x_BTHWC.shape, size)
    T, H, W = counts[0] * t, counts[1] * h, counts[2] * w
    places = itertools.product(range(t), range(h), range(w))
    return [x_BTHWC[:, i:T:t, j:H:h, k:W:w] for i, j, k in places]


def _pixels(x_BTHWC: jax.Array, size: tuple[int, int, int]) -> jax.Array:
    """The same in one array, with the pixels of a block as the last axis."""
    counts, size = _blocks(x_BTHWC.shape, size)
    B, *_, C = x_BTHWC.shape
    T, H, W = (n * s for n, s in zip(counts, size, strict=True))
    axes = [axis for pair in zip(counts, size, strict=True) for axis in pair]
    blocks = x_BTHWC[:, :T, :H, :W].reshape(B, *axes, C)
    return jnp.moveaxis(blocks, (2, 4, 6), (5, 6, 7)).reshape(B, *counts, C, math.prod(size))


def _blocks(shape: tuple[int, ...], size: tuple[int, int, int]) -> tuple[list[int], list[int]]:
    """How many blocks there are along time, height and width, and the extent of one."""
    size = [min(s, extent) for s, extent in zip(size, shape[1:4], strict=True)]
    return [extent // s for s, extent in zip(size, shape[1:4], strict=True)], size


def _max_pool_forward(
    x_BTHWC: jax.Array, size: tuple[int, int, int]
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    if _are_few(x_BTHWC.shape, size):
        out, index = _first_maximum(_slices(x_BTHWC, size))
    else:
        pixels = _pixels(x_BTHWC, size)
        out, index = jnp.max(pixels, -1), jnp.argmax(pixels, -1)
        index = index.astype(_index_dtype(pixels.shape[-1]))
    # Of the input only the shape is used.
    return out, (index, x_BTHWC)


def _max_pool_backward(
    size: tuple[int, int, int], kept: tuple[jax.Array, jax.Array], g_BTHWC: jax.Array
) -> tuple[jax.Array]:
    index_BTHWC, x_BTHWC = kept
    B, *extent, C = x_BTHWC.shape
    counts, size = _blocks(x_BTHWC.shape, size)
    # B, then for each of three axes its blocks and the pixels of one, then C.
    pixels, within = (0, 1, 3, 5, 7), (2, 4, 6)
    place = np.arange(math.prod(size), dtype=index_BTHWC.dtype).reshape(size)
    is_first = jnp.expand_dims(index_BTHWC, within) == np.expand_dims(place, pixels)
    blocks = jnp.where(is_first, jnp.expand_dims(g_BTHWC, within), 0)
    whole = [n * s for n, s in zip(counts, size, strict=True)]
    dropped = [(0, e - n, 0) for e, n in zip(extent, whole, strict=True)]
    pads = ((0, 0, 0), *dropped, (0, 0, 0))
    zero = jnp.zeros((), g_BTHWC.dtype)
    return (lax.pad(blocks.reshape(B, *whole, C), zero, pads),)


max_pool.defvjp(_max_pool_forward, _max_pool_backward)
