"""3-D convolution in the forms that XLA runs fast.

XLA's 3-D convolutions are slow, their strided backward passes most of all. Every kernel of the
paper's models is flat in time (1 x k x k), flat in space (k x 1 x 1) or the fast pathway's stem
(5 x 7 x 7), so each has an equal 2-D form:

 - 1 x k x k: frames fold into the batch;
 - k x 1 x 1: rows and columns fold into one axis;
 - k x k x k: the k time-shifted frames lie side by side as channels, then as 1 x k x k;
 - 5 x 7 x 7 with stride 2, once its frames lie side by side: 2 x 2 pixels do so as well, then as
   4 x 4 with stride 1, for several frames at once; on GPUs 1 x 7 x 7 likewise;
 - 1 x 3 x 3 and k x 1 x 1 of few channels on GPUs: neighbouring columns lie side by side as
   channels;
 - k x 1 x 1 of so few frames that each reaches every other, on GPUs: all frames lie side by side,
   as they then do for 1 x 1 x 1.

On CPUs XLA is slow in the gradient of a k x 1 x 1 kernel, so there these are matrix products, as
1 x 1 x 1 is everywhere.
"""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from mg_jax.models.conv2d import conv2d, stack_frames
from mg_jax.models.parts import parameter
from mg_jax.models.stem_conv import convolve_7x7_by_2, frames_apart

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
      extent: `T H W` of clips whose frames lie side by side, for `convolve_frames_last`, of kernels
        k x 1 x 1 that are strided, in space alone, only where k = 1; None where frames lie apart.
      cut_apart: put frames that come out at once as channels, see `convolve_7x7_by_2`, back on
        their axis; without a bias they may stay so.

    Input and output: `B T H W C`, with an extent `B 1 1 HWT C`; not cut apart, the output is
    `B T/n H W nC`.
    """

    features: int
    kernel: tuple[int, int, int]
    strides: tuple[int, int, int] = (1, 1, 1)
    use_bias: bool = False
    dtype: jnp.dtype = jnp.float32
    platform: str = "cpu"
    extent: tuple[int, int, int] | None = None
    cut_apart: bool = True

    @nn.compact
    def __call__(self, x_BTHWC: jax.Array) -> jax.Array:
        shape = (*self.kernel, x_BTHWC.shape[-1], self.features)
        kernel = parameter(self, "kernel", he_fan_out, shape).astype(self.dtype)
        x_BTHWC = x_BTHWC.astype(self.dtype)
        if self.extent:
            y_BTHWC = convolve_frames_last(x_BTHWC, kernel[:, 0, 0], self.strides[1], self.extent)
        else:
            y_BTHWC = convolve(
                x_BTHWC, kernel, self.strides, self.platform, cut_apart=self.cut_apart
            )
        if self.use_bias:
            bias_C = parameter(self, "bias", nn.initializers.zeros, (self.features,))
            y_BTHWC = y_BTHWC + bias_C.astype(self.dtype)
        return y_BTHWC


class Kernel(nn.Module):
    """The kernel `I O` of a 1 x 1 x 1 convolution, stored as Conv stores it, float32."""

    features: int

    @nn.compact
    def __call__(self, channels: int) -> jax.Array:
        shape = (1, 1, 1, channels, self.features)
        return parameter(self, "kernel", he_fan_out, shape)[0, 0, 0]


def convolve(
    x_BTHWC: jax.Array,
    kernel_THWIO: jax.Array,
    strides: tuple[int, int, int],
    platform: str = "cpu",
    *,
    cut_apart: bool = True,
) -> jax.Array:
    """The 3-D convolution of `x` in the form that suits the kernel's shape.

    Args:
      x_BTHWC: input.
      kernel_THWIO: kernel with odd sizes.
      strides: (time, height, width).
      platform: that it is compiled for: cpu, gpu or tpu.
      cut_apart: put frames that come out at once as channels back on their axis.

    Returns:
      `B T' H' W' O`, with T' = ceil(T / stride) and so on; not cut apart, `B T'/n H' W' nO`.
    """
    time, height, width = kernel_THWIO.shape[:3]
    if platform == "cpu" and height == width == 1:
        for axis in (2, 3):
            x_BTHWC = lax.slice_in_dim(x_BTHWC, 0, None, strides[axis - 1], axis)
        return _convolve_time_by_products(x_BTHWC, kernel_THWIO[:, 0, 0], strides[0])
    if time == height == width == 1 and strides == (1, 1, 1):
        return pointwise(x_BTHWC, kernel_THWIO[0, 0, 0])
    if height == width == 1 and strides[1:] == (1, 1):
        columns = 1
        if platform == "gpu" and kernel_THWIO.shape[-1] <= _WIDE:
            # Even of 32 channels an H200 takes two columns at once in two thirds of the time.
            columns = max(2, _WIDE // kernel_THWIO.shape[-1])
        return convolve_time(x_BTHWC, kernel_THWIO[:, 0], strides[0], columns)
    even = x_BTHWC.shape[2] % 2 == x_BTHWC.shape[3] % 2 == 0
    # On CPUs it does not pay for kernels of one frame.
    pays = time > 1 or platform != "cpu"
    if (height, width) == (7, 7) and strides == (1, 2, 2) and even and pays:
        wide = max(1, _WIDE // kernel_THWIO.shape[-1]) if time > 1 else 1
        at_once = math.gcd(x_BTHWC.shape[1], wide)
        y_BTHWN = convolve_7x7_by_2(
            x_BTHWC,
            kernel_THWIO,
            pad_first=platform != "cpu",
            frames_at_once=at_once,
            by_words=platform == "gpu" and time > 1,
        )
        return frames_apart(y_BTHWN, at_once) if cut_apart else y_BTHWN
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


def convolve_frames_last(
    x_B11NC: jax.Array, kernel_TIO: jax.Array, stride: int, extent: tuple[int, int, int]
) -> jax.Array:
    """A k x 1 x 1 convolution of clips whose frames lie side by side.

    Args:
      x_B11NC: positions N = H W T with the T frames of each together.
      kernel_TIO: of one frame, or one that `reaches_all` frames.
      stride: in space, of a kernel of one frame.
      extent: `T H W`.

    Returns:
      `B 1 1 N' O`, with N' = ceil(H / stride) ceil(W / stride) T.
    """
    T, H, W = extent
    if len(kernel_TIO) > 1:
        return convolve_all_frames(x_B11NC, kernel_TIO, T)

    def strided(x_B11NC, kernel_IO):
        x_BHWTC = x_B11NC.reshape(-1, H, W, T, x_B11NC.shape[-1])[:, ::stride, ::stride]
        return pointwise(x_BHWTC.reshape(len(x_BHWTC), 1, 1, -1, x_BHWTC.shape[-1]), kernel_IO)

    # Positions are taken again for the kernel's gradient: x is kept anyway, a copy need not be.
    return (jax.checkpoint(strided) if stride > 1 else strided)(x_B11NC, kernel_TIO[0])


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


def convolve_time(
    x_BTHWC: jax.Array, kernel_T1IO: jax.Array, stride: int, columns: int
) -> jax.Array:
    """A k x 1 x 1 convolution of columns side by side as channels, as `convolve_3x3_by_columns`.

    Args:
      x_BTHWC: of any extent.
      kernel_T1IO: k taps, odd.
      stride: over frames.
      columns: at most so many; their greatest common divisor with H W is taken.

    Returns:
      `B T/stride H W O`.
    """
    B, T, H, W, C = x_BTHWC.shape
    time, _, _, features = kernel_T1IO.shape
    n = math.gcd(H * W, columns)
    same_column_N1N1 = jnp.eye(n, dtype=bool)[:, None, :, None]
    kernel_TNINO = jnp.where(same_column_N1N1, kernel_T1IO[:, :, None, :, None], 0)[:, 0]
    kernel = kernel_TNINO.reshape(time, 1, n * C, n * features)
    x, pads = x_BTHWC.reshape(B, T, H * W // n, n * C), ((time // 2, time // 2), (0, 0))
    y = conv2d(x, kernel, (stride, 1), pads)
    return y.reshape(B, y.shape[1], H, W, features)


def _convolve_space(
    x_BTHWC: jax.Array, kernel_HWIO: jax.Array, strides: tuple[int, int]
) -> jax.Array:
    B, T, H, W, C = x_BTHWC.shape
    x_BHWC = x_BTHWC.reshape(B * T, H, W, C)
    pads = tuple((k // 2, k // 2) for k in kernel_HWIO.shape[:2])
    y = conv2d(x_BHWC, kernel_HWIO, strides, pads)
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
    return conv2d(x, kernel, (1, 1), ((1, 1), (1, 1))).reshape(B, T, H, W, features)
