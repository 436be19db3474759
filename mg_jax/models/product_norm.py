"""Batch normalisation of a product x K from the moments of x, without a pass over the product.

The last convolution of a bottleneck, 1 x 1 x 1, has four times as many channels as its input. With
m and S the mean and the covariance of x over a sub-batch, its output c = x K has

    mean(c) = m K,   var(c)_o = sum_ij K_io S_ij K_jo,

so statistics take one product x'x of the narrow input. With g the gradient of the result,
<> the mean over a sub-batch and c' = (c - mean) / std,

    dc = scale / std (g - <g> - c' <g c'>),   <g c>_o = sum_i K_io <x_i g_o>,

and dx = dc K' and dK = x'dc follow from products of g and x: c is neither kept nor computed again.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

from mg_jax.models.conv import pointwise
from mg_jax.models.precision import at_least_float32

# Products of statistics are small, and their rounding would be every position's.
_einsum = partial(jnp.einsum, precision=lax.Precision.HIGHEST)


def pays(clips: int, positions: int, channels: int, sub_batch: int) -> bool:
    """Whether `product_norm` can be used and moves fewer bytes than a pass over the product.

    Args:
      clips: of this device.
      positions: of a clip.
      channels: of x.
      sub_batch: clips that share statistics; none may lie on another device.
    """
    # Its matrices, channels^2 for each sub-batch, are to be small beside x.
    return clips % sub_batch == 0 and sub_batch * positions >= 4 * channels


@partial(jax.custom_vjp, nondiff_argnums=(4, 5))
def product_norm(
    x_BTHWI: jax.Array,
    kernel_IO: jax.Array,
    scale_O: jax.Array,
    bias_O: jax.Array,
    sub_batch: int,
    epsilon: float,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Normalises x K with the moments of each sub-batch.

    Args:
      x_BTHWI: this device's clips, whole sub-batches of them.
      kernel_IO: K, in the dtype of x.
      scale_O: factors, float32.
      bias_O: offsets, float32.
      sub_batch: clips that share statistics.
      epsilon: added to the variance.

    Returns:
      The normalised product `B T H W O` in the dtype of x, and mean_GO and biased var_GO, a row for
      each sub-batch, in float32 at least. Gradients do not pass through these two.
    """
    return _forward(x_BTHWI, kernel_IO, scale_O, bias_O, sub_batch, epsilon)[0]


def _forward(x_BTHWI, kernel_IO, scale_O, bias_O, sub_batch, epsilon):
    x_GNI = _grouped(x_BTHWI, sub_batch)
    wide_IO = at_least_float32(kernel_IO)
    mean_GI = jnp.mean(at_least_float32(x_GNI), 1)
    square_GIJ = _sums(x_GNI, x_GNI) / x_GNI.shape[1]
    covariance_GIJ = square_GIJ - mean_GI[:, :, None] * mean_GI[:, None, :]
    mean_GO = _einsum("gi,io->go", mean_GI, wide_IO)
    var_GO = jnp.sum(_einsum("gij,jo->gio", covariance_GIJ, wide_IO) * wide_IO, 1)
    var_GO = jnp.maximum(var_GO, 0.0)
    inverse_std_GO = lax.rsqrt(var_GO + epsilon)
    factor_GO = scale_O * inverse_std_GO
    offset_GO = bias_O - mean_GO * factor_GO
    product, clips = pointwise(x_BTHWI, kernel_IO), len(x_BTHWI)
    y_BTHWO = at_least_float32(product) * over_positions(factor_GO, clips)
    y_BTHWO = (y_BTHWO + over_positions(offset_GO, clips)).astype(x_BTHWI.dtype)
    kept = x_BTHWI, kernel_IO, scale_O, mean_GI, covariance_GIJ, mean_GO, inverse_std_GO
    return (y_BTHWO, mean_GO, var_GO), kept


def _backward(sub_batch, epsilon, kept, cotangents):
    x_BTHWI, kernel_IO, scale_O, mean_GI, covariance_GIJ, mean_GO, inverse_std_GO = kept
    x_GNI, g_GNO = _grouped(x_BTHWI, sub_batch), _grouped(cotangents[0], sub_batch)
    wide_IO, positions = at_least_float32(kernel_IO), x_GNI.shape[1]
    g_GO = jnp.mean(at_least_float32(g_GNO), 1)
    xg_GIO = _sums(x_GNI, g_GNO) / positions
    gc_GO = inverse_std_GO * (jnp.sum(wide_IO * xg_GIO, 1) - mean_GO * g_GO)
    # dc = factor g - slope c + offset.
    factor_GO = scale_O * inverse_std_GO
    slope_GO = factor_GO * inverse_std_GO * gc_GO
    offset_GO = slope_GO * mean_GO - factor_GO * g_GO

    xc_GIO = _einsum("gij,jo->gio", covariance_GIJ, wide_IO)
    xc_GIO = xc_GIO + mean_GI[:, :, None] * mean_GO[:, None, :]
    in_kernel_IO = positions * jnp.sum(
        factor_GO[:, None] * xg_GIO
        - slope_GO[:, None] * xc_GIO
        + mean_GI[:, :, None] * offset_GO[:, None],
        0,
    )
    by_g_GIO = (factor_GO[:, None] * wide_IO).astype(x_BTHWI.dtype)
    by_x_GIJ = _einsum("gio,jo->gij", slope_GO[:, None] * wide_IO, wide_IO).astype(x_BTHWI.dtype)
    in_x_GNI = at_least_float32(jnp.einsum("gno,gio->gni", g_GNO, by_g_GIO))
    in_x_GNI = in_x_GNI - at_least_float32(jnp.einsum("gni,gij->gnj", x_GNI, by_x_GIJ))
    in_x_GNI = in_x_GNI + _einsum("go,io->gi", offset_GO, wide_IO)[:, None]
    dtype = scale_O.dtype
    return (
        in_x_GNI.astype(x_BTHWI.dtype).reshape(x_BTHWI.shape),
        in_kernel_IO.astype(kernel_IO.dtype),
        (positions * gc_GO.sum(0)).astype(dtype),
        (positions * g_GO.sum(0)).astype(dtype),
    )


product_norm.defvjp(_forward, _backward)


def _grouped(x_BTHWC: jax.Array, sub_batch: int) -> jax.Array:
    return x_BTHWC.reshape(x_BTHWC.shape[0] // sub_batch, -1, x_BTHWC.shape[-1])


def _sums(a_GNI: jax.Array, b_GNO: jax.Array) -> jax.Array:
    """a'b of each sub-batch, in float32 at least."""
    wide = jnp.promote_types(a_GNI.dtype, jnp.float32)
    return _einsum("gni,gno->gio", a_GNI, b_GNO, preferred_element_type=wide)


def of_clips(x_RC: jax.Array, clips: int) -> jax.Array:
    """`B C`, a row for each of B clips, from one for each run of B / R neighbours."""
    # One row broadcasts by itself, for any number of clips.
    return x_RC if len(x_RC) in (1, clips) else jnp.repeat(x_RC, clips // len(x_RC), 0)


def over_positions(x_RC: jax.Array, clips: int) -> jax.Array:
    """`of_clips` as `B 1 1 1 C`, for all positions of a clip."""
    return lax.expand_dims(of_clips(x_RC, clips), (1, 2, 3))
