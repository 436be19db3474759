"""3-D convolution and max-pooling, in the forms that XLA runs fast.

XLA's 3-D convolutions are slow, their strided backward passes most of all. Every kernel of the
paper's models is flat in time (1 x k x k), flat in space (k x 1 x 1) or the fast pathway's stem
(5 x 7 x 7), so each has an equal 2-D form:

 - 1 x k x k: frames fold into the batch;
 - k x 1 x 1: rows and columns fold into one axis;
 - k x k x k: the k time-shifted frames lie side by side as channels, then as 1 x k x k;
 - 5 x 7 x 7 with stride 2, once its frames lie side by side: 2 x 2 pixels do so as well, then as
   4 x 4 with stride 1, for several frames at once; on GPUs 1 x 7 x 7 likewise;
 - 1 x 3 x 3 of few channels on GPUs: neighbouring columns lie side by side as channels;
 - k x 1 x 1 of so few frames that each reaches every other, on GPUs: all frames lie side by side.

On CPUs XLA is slow in the gradient of a k x 1 x 1 kernel, so there these are matrix products, as
1 x 1 x 1 is everywhere.
"""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

# Bytes of channels come to a multiple of this, or cuDNN makes it so, which takes longer.
_CHANNEL_BYTES = 16
# As many output channels fill a product of tensor cores (H200: 4 times 8 as fast as 8 times 8). On
# CPUs, too, the fast stem's 8 are fastest for 4 frames at once.
_WIDE = 32

# He et al. 2015: a normal of variance 2 / fan_out.
he_fan_out = nn.initializers.variance_scaling(2.0, "fan_out", "normal")


class Conv(nn.Module):
    """A convolution over time, height and width, padded by half a kernel on every side.

    Attributes:
      features: output channels.
      kernel: (time, height, width), odd.
      strides: (time, height, width).
      use_bias: add a bias, initialised to zero.
      dtype: compute dtype; parameters are stored as float32.
      platform: that it is compiled for: cpu, gpu or tpu.
      side_by_side: so many frames of a position lie side by side, and kernels over time, k x 1 x 1
        of stride 1, are for `convolve_all_frames`; 0 where frames lie apart.

    Input and output: `B T H W C`.
    """

    features: int
    kernel: tuple[int, int, int]
    strides: tuple[int, int, int] = (1, 1, 1)
    use_bias: bool = False
    dtype: jnp.dtype = jnp.float32
    platform: str = "cpu"
    side_by_side: int = 0

    @nn.compact
    def __call__(self, x_BTHWC: jax.Array) -> jax.Array:
        shape = (*self.kernel, x_BTHWC.shape[-1], self.features)
        kernel = self.param("kernel", he_fan_out, shape, jnp.float32).astype(self.dtype)
        x_BTHWC = x_BTHWC.astype(self.dtype)
        if self.side_by_side and self.kernel[0] > 1:
            y_BTHWC = convolve_all_frames(x_BTHWC, kernel[:, 0, 0], self.side_by_side)
        else:
            y_BTHWC = convolve(x_BTHWC, kernel, self.strides, self.platform)
        if self.use_bias:
            bias_C = self.param("bias", nn.initializers.zeros, (self.features,), jnp.float32)
            y_BTHWC = y_BTHWC + bias_C.astype(self.dtype)
        return y_BTHWC


class Kernel(nn.Module):
    """The kernel `I O` of a 1 x 1 x 1 convolution, stored as Conv stores it, float32."""

    features: int

    @nn.compact
    def __call__(self, channels: int) -> jax.Array:
        shape = (1, 1, 1, channels, self.features)
        return self.param("kernel", he_fan_out, shape, jnp.float32)[0, 0, 0]


def convolve(
    x_BTHWC: jax.Array,
    kernel_THWIO: jax.Array,
    strides: tuple[int, int, int],
    platform: str = "cpu",
) -> jax.Array:
    """The 3-D convolution of `x` in the form that suits the kernel's shape.

    Args:
      x_BTHWC: input.
      kernel_THWIO: kernel with odd sizes.
      strides: (time, height, width).
      platform: that it is compiled for: cpu, gpu or tpu.

    Returns:
      `B T' H' W' O`, with T' = ceil(T / stride) and so on.
    """
    time, height, width = kernel_THWIO.shape[:3]
    if platform == "cpu" and height == width == 1:
        for axis in (2, 3):
            x_BTHWC = lax.slice_in_dim(x_BTHWC, 0, None, strides[axis - 1], axis)
        return _convolve_time_by_products(x_BTHWC, kernel_THWIO[:, 0, 0], strides[0])
    if time == height == width == 1 and strides == (1, 1, 1):
        return pointwise(x_BTHWC, kernel_THWIO[0, 0, 0])
    if height == width == 1 and strides[1:] == (1, 1):
        return _convolve_time(x_BTHWC, kernel_THWIO[:, 0], strides[0])
    even = x_BTHWC.shape[2] % 2 == x_BTHWC.shape[3] % 2 == 0
    # On CPUs it does not pay for kernels of one frame.
    pays = time > 1 or platform != "cpu"
    if (height, width) == (7, 7) and strides == (1, 2, 2) and even and pays:
        wide = max(1, _WIDE // kernel_THWIO.shape[-1]) if time > 1 else 1
        at_once = math.gcd(x_BTHWC.shape[1], wide)
        pad_first = platform != "cpu"
        return convolve_7x7_by_2(x_BTHWC, kernel_THWIO, pad_first=pad_first, frames_at_once=at_once)
    if platform != "cpu" and kernel_THWIO.shape[:3] == (1, 3, 3) and strides == (1, 1, 1):
        columns = math.gcd(x_BTHWC.shape[3], max(1, _WIDE // kernel_THWIO.shape[-1]))
        if columns > 1:
            return convolve_3x3_by_columns(x_BTHWC, kernel_THWIO[0], columns)
    if time > 1 or strides[0] > 1:
        x_BTHWC = stack_frames(x_BTHWC, time, strides[0])
        kernel_THWIO = kernel_THWIO.transpose(1, 2, 0, 3, 4).reshape(
            1, height, width, -1, kernel_THWIO.shape[-1]
        )
    return _convolve_space(x_BTHWC, kernel_THWIO[0], strides[1:])


def convolve_3d(
    x_BTHWC: jax.Array, kernel_THWIO: jax.Array, strides: tuple[int, int, int]
) -> jax.Array:
    """What `convolve` returns, by XLA's 3-D convolution."""
    pads = tuple((k // 2, k // 2) for k in kernel_THWIO.shape[:3])
    numbers = ("NDHWC", "DHWIO", "NDHWC")
    return lax.conv_general_dilated(x_BTHWC, kernel_THWIO, strides, pads, dimension_numbers=numbers)


def pointwise(x_BTHWC: jax.Array, kernel_IO: jax.Array) -> jax.Array:
    """A 1 x 1 x 1 convolution as a product of two axes; of more XLA on CPUs copies the operands."""
    I, features = kernel_IO.shape
    return (x_BTHWC.reshape(-1, I) @ kernel_IO).reshape(*x_BTHWC.shape[:-1], features)


def _convolve_time_by_products(x_BTHWC: jax.Array, kernel_TIO: jax.Array, stride: int) -> jax.Array:
    """A k x 1 x 1 convolution as one product.

    With stride 1 of every frame with all k taps, whose results are added at their frames: cheap,
    since these kernels have fewer outputs than inputs. Else of k frames side by side.
    """
    B, T, H, W, C = x_BTHWC.shape
    time, _, features = kernel_TIO.shape
    if stride > 1:
        return pointwise(stack_frames(x_BTHWC, time, stride), kernel_TIO.reshape(-1, features))
    y = pointwise(x_BTHWC, kernel_TIO.transpose(1, 0, 2).reshape(C, -1))
    y = y.reshape(B, T, H, W, time, features)
    y = jnp.pad(y, ((0, 0), (time // 2, time // 2), *(4 * ((0, 0),))))
    taps = [lax.index_in_dim(y, i, 4, keepdims=False) for i in range(time)]
    return sum(lax.slice_in_dim(tap, i, i + T, axis=1) for i, tap in enumerate(taps))


def reaches_all(frames: int, taps: int) -> bool:
    """Whether a kernel over time, wherever its middle lies, covers all frames of a clip."""
    return frames <= taps // 2 + 1


def convolve_all_frames(x_B11NC: jax.Array, kernel_TIO: jax.Array, frames: int) -> jax.Array:
    """A k x 1 x 1 convolution as one product of all frames of a position, side by side.

    It multiplies by no padding. And of a kernel that is longer than the clip XLA on GPUs computes
    the gradient from transposed copies of both operands; that of a product needs none.

    Args:
      x_B11NC: positions N = H W T with the T frames of each together.
      kernel_TIO: that `reaches_all` frames.
      frames: T.

    Returns:
      `B 1 1 N O`.
    """
    B, _, _, N, C = x_B11NC.shape
    time, _, features = kernel_TIO.shape
    # Of each input frame, its taps for all output frames.
    kernel_TCTO = jnp.stack(
        [
            jnp.stack([kernel_TIO[time // 2 + i - o] for o in range(frames)], 1)
            for i in range(frames)
        ]
    )
    x = x_B11NC.reshape(B, N // frames, frames * C)
    y = pointwise(x, kernel_TCTO.reshape(frames * C, frames * features))
    return y.reshape(B, 1, 1, N, features)


def _convolve_time(x_BTHWC: jax.Array, kernel_T1IO: jax.Array, stride: int) -> jax.Array:
    B, T, H, W, C = x_BTHWC.shape
    pad = kernel_T1IO.shape[0] // 2
    y = _conv2d(x_BTHWC.reshape(B, T, H * W, C), kernel_T1IO, (stride, 1), ((pad, pad), (0, 0)))
    return y.reshape(B, y.shape[1], H, W, -1)


def _convolve_space(
    x_BTHWC: jax.Array, kernel_HWIO: jax.Array, strides: tuple[int, int]
) -> jax.Array:
    B, T, H, W, C = x_BTHWC.shape
    x_BHWC = x_BTHWC.reshape(B * T, H, W, C)
    pads = tuple((k // 2, k // 2) for k in kernel_HWIO.shape[:2])
    y = _conv2d(x_BHWC, kernel_HWIO, strides, pads)
    return y.reshape(B, T, *y.shape[1:])


def convolve_3x3_by_columns(x_BTHWC: jax.Array, kernel_HWIO: jax.Array, columns: int) -> jax.Array:
    """A 1 x 3 x 3 convolution of n columns side by side as channels, which moves nothing.

    Tensor cores idle over few channels. Of n times as many, what the kernel does not reach is
    multiplied by zeros: n times as many products, in wider ones.

    Args:
      x_BTHWC: its width a multiple of n.
      kernel_HWIO: 3 x 3.
      columns: n.

    Returns:
      `B T H W O`.
    """
    B, T, H, W, C = x_BTHWC.shape
    n, features = columns, kernel_HWIO.shape[-1]
    # By output column: its three taps among the 3 n columns of a block and its two neighbours.
    later = [
        jnp.pad(kernel_HWIO, ((0, 0), (n - 1 + i, 2 * n - 2 - i), (0, 0), (0, 0))) for i in range(n)
    ]
    kernel = jnp.stack(later, -2).reshape(3, 3, n * C, n * features)
    x = x_BTHWC.reshape(B * T, H, W // n, n * C)
    return _conv2d(x, kernel, (1, 1), ((1, 1), (1, 1))).reshape(B, T, H, W, features)


def convolve_7x7_by_2(
    x_BTHWC: jax.Array, kernel_THWIO: jax.Array, *, pad_first: bool, frames_at_once: int = 1
) -> jax.Array:
    """A t x 7 x 7 convolution with spatial stride 2, of blocks of 2 x 2 pixels as channels.

    Args:
      x_BTHWC: frames of even sides.
      kernel_THWIO: t x 7 x 7, with odd t.
      pad_first: pad pixels before frames are stacked, and channels to what tensor cores take. On
        GPUs the convolution then needs no padded copy of the stack, and its gradient none either;
        on CPUs it takes twice as long.
      frames_at_once: so many frames, a divisor of T, come out as channels of one, which are cut
        apart. n frames lie under t + n - 1 others instead of n t, and products of tensor cores get
        wider; what the kernel does not reach is multiplied by zeros.

    Returns:
      `B T H/2 W/2 O`.
    """
    B, T, H, W, C = x_BTHWC.shape
    time, n = kernel_THWIO.shape[0], frames_at_once
    # Taps -3 ... 3 around pixel 2 i lie in the pairs i - 2 ... i + 1, which begin at tap -4.
    pairs = (0, 0) if pad_first else (2, 1)
    if pad_first:
        x_BTHWC = jnp.pad(x_BTHWC, ((0, 0), (0, 0), (4, 2), (4, 2), (0, 0)))
    h, w = x_BTHWC.shape[2] // 2, x_BTHWC.shape[3] // 2
    x = x_BTHWC.reshape(B, T, h, 2, w, 2, C).transpose(0, 1, 2, 4, 3, 5, 6)
    x = stack_frames(x.reshape(B, T, h, w, 4 * C), time + n - 1, n, pad=time // 2)
    kernel = _kernel_of_blocks(kernel_THWIO, n)
    if pad_first:
        more = ((0, 0), (0, -x.shape[-1] % (_CHANNEL_BYTES // x.dtype.itemsize)))
        x = jnp.pad(x, ((0, 0), (0, 0), (0, 0), *more))
        kernel = jnp.pad(kernel, ((0, 0), *more, (0, 0)))
    y = _conv2d(x.reshape(B * T // n, h, w, -1), kernel, (1, 1), (pairs, pairs))
    y = y.reshape(B, T // n, H // 2, W // 2, n, -1).transpose(0, 1, 4, 2, 3, 5)
    return y.reshape(B, T, H // 2, W // 2, -1)


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


def stack_frames(x_BTHWC: jax.Array, time: int, stride: int, pad: int | None = None) -> jax.Array:
    """Lays frames that lie under a temporal kernel side by side as channels.

    Args:
      x_BTHWC: frames.
      time: how many lie side by side.
      stride: from one of the T / stride stacks to the next.
      pad: black frames before the first and after the last; by default half of `time`.
    """
    T, pad = x_BTHWC.shape[1], time // 2 if pad is None else pad
    x_BTHWC = jnp.pad(x_BTHWC, ((0, 0), (pad, pad), (0, 0), (0, 0), (0, 0)))
    return jnp.concatenate([x_BTHWC[:, i : i + T : stride] for i in range(time)], axis=-1)


def _conv2d(x_BHWC: jax.Array, kernel_HWIO: jax.Array, strides, pads) -> jax.Array:
    return lax.conv_general_dilated(
        x_BHWC, kernel_HWIO, strides, pads, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


@jax.custom_vjp
def max_pool_3x3(x_BTHWC: jax.Array) -> jax.Array:
    """Max-pooling over 1 x 3 x 3 with stride 2 and padding 1, as the maximum of nine slices.

    The backward pass of a windowed reduction (select-and-scatter) is slow; that of slices is not.
    Here it reads which of the nine was the maximum (the first, where several are), a byte each,
    where automatic differentiation keeps eight masks and as many partial maxima.
    """
    return _max_pool(x_BTHWC)[0]


def max_pool_3x3_unpadded(x_BTHWC: jax.Array) -> jax.Array:
    """Max-pooling over 1 x 3 x 3 with stride 2 of whole windows only, `B T (H-1)//2 (W-1)//2 C`.

    The padded one of pictures that begin a pixel earlier, without its first row and column.
    """
    H, W = x_BTHWC.shape[2:4]
    lowest = jnp.array(jnp.finfo(x_BTHWC.dtype).min, x_BTHWC.dtype)
    x_BTHWC = lax.pad(x_BTHWC, lowest, ((0, 0, 0), (0, 0, 0), (1, 0, 0), (1, 0, 0), (0, 0, 0)))
    return max_pool_3x3(x_BTHWC)[:, :, 1 : (H + 1) // 2, 1 : (W + 1) // 2]


def _max_pool(x_BTHWC: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The maxima, and the index of each among its nine pixels as uint8."""
    lowest = jnp.array(jnp.finfo(x_BTHWC.dtype).min, x_BTHWC.dtype)
    padded = lax.pad(x_BTHWC, lowest, ((0, 0, 0), (0, 0, 0), (1, 1, 0), (1, 1, 0), (0, 0, 0)))
    H, W = x_BTHWC.shape[2:4]
    out = padded[:, :, :H:2, :W:2]
    index = jnp.zeros(out.shape, jnp.uint8)
    for k in range(1, 9):
        i, j = divmod(k, 3)
        tap = padded[:, :, i : i + H : 2, j : j + W : 2]
        index = jnp.where(tap > out, jnp.uint8(k), index)
        out = jnp.maximum(out, tap)
    return out, index


def _max_pool_forward(x_BTHWC: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    # Those that read the maxima are not to compute them again.
    out, index = lax.optimization_barrier(_max_pool(x_BTHWC))
    # Of the input only the shape is used.
    return out, (index, x_BTHWC)


def _max_pool_backward(kept: tuple[jax.Array, jax.Array], g_BTHWC: jax.Array) -> tuple[jax.Array]:
    index, x_BTHWC = kept
    H, W = x_BTHWC.shape[2:4]
    h, w = g_BTHWC.shape[2:4]
    zero = jnp.zeros((), g_BTHWC.dtype)
    total = None
    for k in range(9):
        i, j = divmod(k, 3)
        tap = jnp.where(index == k, g_BTHWC, zero)
        # Output (a, b) took pixel (2 a + i - 1, 2 b + j - 1).
        rows, columns = (i - 1, H - (2 * h - 2 + i), 1), (j - 1, W - (2 * w - 2 + j), 1)
        tap = lax.pad(tap, zero, ((0, 0, 0), (0, 0, 0), rows, columns, (0, 0, 0)))
        total = tap if total is None else total + tap
    return (total,)


max_pool_3x3.defvjp(_max_pool_forward, _max_pool_backward)
