"""Sub-batch batch normalisation (paper, Sec. 3.3).

Statistics are computed over sub-batches: runs of `sub_batch` neighbouring clips of the *global*
batch, wherever devices cut it. What a clip is normalised with depends on its position in the batch
alone, never on the number of devices.
"""

import math
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from mg_jax.errors import UserError
from mg_jax.models import product_norm
from mg_jax.models.conv import pointwise
from mg_jax.models.parts import parameter
from mg_jax.models.precision import at_least_float32


class SubBatchNorm(nn.Module):
    """Batch normalisation over sub-batches of the global batch.

    Attributes:
      sub_batch: clips that share statistics.
      train: use the statistics of the sub-batch and update the running ones; otherwise use the
        running statistics.
      axis_name: the mapped axis over which the batch is split; None on a single device.
      momentum: of the running statistics, which average the groups' means and unbiased variances.
        Each device updates with the groups of its own clips, so the caller averages batch_stats
        over the devices, once for all layers.
      epsilon: added to the variance.
      dtype: of the output; statistics and parameters are float32.
      scale_init: initialiser of the scale.
      platform: that it is compiled for: cpu, gpu or tpu.
    """

    sub_batch: int
    train: bool
    axis_name: str | None = None
    momentum: float = 0.9
    epsilon: float = 1e-5
    dtype: jnp.dtype = jnp.float32
    scale_init: nn.initializers.Initializer = nn.initializers.ones
    platform: str = "cpu"

    @nn.compact
    def __call__(self, x_BTHWC: jax.Array, kernel_IC: jax.Array | None = None) -> jax.Array:
        """Normalises x, or with a kernel the product of both."""
        C = x_BTHWC.shape[-1] if kernel_IC is None else kernel_IC.shape[-1]
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, (C,), jnp.float32)
        running_var = self.variable("batch_stats", "var", jnp.ones, (C,), jnp.float32)
        scale_C = parameter(self, "scale", self.scale_init, (C,))
        bias_C = parameter(self, "bias", nn.initializers.zeros, (C,))

        plain = self.is_initializing() or not self.train
        positions = math.prod(x_BTHWC.shape[1:4])
        if kernel_IC is not None:
            kernel_IC = kernel_IC.astype(x_BTHWC.dtype)
            shape = x_BTHWC.shape[0], positions, x_BTHWC.shape[-1]
            if plain or not product_norm.pays(*shape, self.sub_batch):
                x_BTHWC, kernel_IC = pointwise(x_BTHWC, kernel_IC), None
        if plain:
            inverse_std_C = lax.rsqrt(running_var.value + self.epsilon)
            moments_1C = running_mean.value[None], inverse_std_C[None]
            return _normalize(x_BTHWC, *moments_1C, scale_C, bias_C).astype(self.dtype)
        if kernel_IC is None:
            y_BTHWC, mean_RC, var_RC = batch_norm(
                x_BTHWC,
                scale_C,
                bias_C,
                self.sub_batch,
                self.axis_name,
                self.epsilon,
                self.platform,
            )
        else:
            y_BTHWC, mean_RC, var_RC = product_norm.product_norm(
                x_BTHWC, kernel_IC, scale_C, bias_C, self.sub_batch, self.epsilon
            )
        count = self.sub_batch * positions
        unbiased = count / max(count - 1, 1)
        running_mean.value = self._update(running_mean.value, mean_RC.mean(0))
        running_var.value = self._update(running_var.value, var_RC.mean(0) * unbiased)
        return y_BTHWC.astype(self.dtype)

    def _update(self, running_C: jax.Array, batch_C: jax.Array) -> jax.Array:
        return self.momentum * running_C + (1 - self.momentum) * batch_C


@partial(jax.custom_vjp, nondiff_argnums=(3, 4, 5, 6))
def batch_norm(
    x_BTHWC: jax.Array,
    scale_C: jax.Array,
    bias_C: jax.Array,
    sub_batch: int,
    axis_name: str | None,
    epsilon: float,
    platform: str,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Normalises each clip with the moments of its sub-batch.

    Forward and backward read their inputs twice, once for sums and once for the result, and keep
    nothing large between them but `x` as it is.

    Args:
      x_BTHWC: this device's clips, p of them; clip j of device d is clip d * p + j of the batch.
      scale_C: factors, float32.
      bias_C: offsets, float32.
      sub_batch: s, clips of a sub-batch; divides the global batch.
      axis_name: the mapped axis, or None on a single device.
      epsilon: added to the variance.
      platform: that it is compiled for: cpu, gpu or tpu.

    Returns:
      The normalised clips in the dtype of `x`, and mean_RC and biased var_RC in float32 at least: a
      row for each sub-batch, or for each clip where sub-batches reach over devices. Gradients do
      not pass through these two.
    """
    return _forward(x_BTHWC, scale_C, bias_C, sub_batch, axis_name, epsilon, platform)[0]


def _forward(x_BTHWC, scale_C, bias_C, sub_batch, axis_name, epsilon, platform):
    clips, wide_BTHWC = x_BTHWC.shape[0], at_least_float32(x_BTHWC)
    rows = _rows(clips, sub_batch, platform)
    mean_RC, square_RC = _sub_batch_means(
        _means(wide_BTHWC, rows),
        _means(wide_BTHWC * wide_BTHWC, rows),
        clips,
        sub_batch,
        axis_name,
    )
    var_RC = jnp.maximum(square_RC - mean_RC * mean_RC, 0.0)
    inverse_std_RC = lax.rsqrt(var_RC + epsilon)
    y_BTHWC = _normalize(x_BTHWC, mean_RC, inverse_std_RC, scale_C, bias_C).astype(x_BTHWC.dtype)
    return (y_BTHWC, mean_RC, var_RC), (x_BTHWC, mean_RC, inverse_std_RC, scale_C)


def _backward(sub_batch, axis_name, epsilon, platform, kept, cotangents):
    """With g the gradient of y, x' = (x - mean) / std, and <> the mean over a sub-batch:

    dx = scale / std (g - <g> - x' <g x'>).
    """
    x_BTHWC, mean_RC, inverse_std_RC, scale_C = kept
    wide_BTHWC, g_BTHWC = at_least_float32(x_BTHWC), at_least_float32(cotangents[0])
    clips, positions = x_BTHWC.shape[0], math.prod(x_BTHWC.shape[1:4])
    rows = _rows(clips, sub_batch, platform)
    mean_DC, inverse_std_DC = (
        product_norm.of_clips(x_RC, rows) for x_RC in (mean_RC, inverse_std_RC)
    )
    g_DC = _means(g_BTHWC, rows)
    gx_DC = inverse_std_DC * (_means(g_BTHWC * wide_BTHWC, rows) - mean_DC * g_DC)
    count = positions * clips // rows
    in_scale_C, in_bias_C = count * gx_DC.sum(0), count * g_DC.sum(0)
    g_RC, gx_RC = _sub_batch_means(g_DC, gx_DC, clips, sub_batch, axis_name)
    factor_RC, slope_RC = scale_C * inverse_std_RC, inverse_std_RC * gx_RC
    in_x_BTHWC = product_norm.over_positions(factor_RC, clips) * (
        g_BTHWC
        - product_norm.over_positions(slope_RC, clips) * wide_BTHWC
        + product_norm.over_positions(slope_RC * mean_RC - g_RC, clips)
    )
    dtype = scale_C.dtype
    return in_x_BTHWC.astype(x_BTHWC.dtype), in_scale_C.astype(dtype), in_bias_C.astype(dtype)


batch_norm.defvjp(_forward, _backward)


def _normalize(x_BTHWC, mean_RC, inverse_std_RC, scale_C, bias_C) -> jax.Array:
    factor_RC = scale_C * inverse_std_RC
    offset_RC = bias_C - mean_RC * factor_RC
    clips = x_BTHWC.shape[0]
    y_BTHWC = at_least_float32(x_BTHWC) * product_norm.over_positions(factor_RC, clips)
    return y_BTHWC + product_norm.over_positions(offset_RC, clips)


def _rows(clips: int, sub_batch: int, platform: str) -> int:
    """D, of how many runs of clips a device takes means first: whole sub-batches or single clips.

    On CPUs it is sub-batches, if none reaches over devices: a layer then has half as many kernels.
    Elsewhere it is single clips: on a GPU with one sub-batch ReLU's gradient would otherwise be a
    pass of its own (docs/programs.md). Where devices cut sub-batches it is so everywhere.
    """
    return clips // sub_batch if platform == "cpu" and clips % sub_batch == 0 else clips


def _means(x_BTHWC: jax.Array, rows: int) -> jax.Array:
    """`D C`, means over all positions of each run of B / D neighbouring clips."""
    # Without a reshape the programs for GPUs are those whose costs are recorded.
    if rows == x_BTHWC.shape[0]:
        return jnp.mean(x_BTHWC, (1, 2, 3))
    return jnp.mean(x_BTHWC.reshape(rows, -1, x_BTHWC.shape[-1]), 1)


def _sub_batch_means(
    a_DC: jax.Array, b_DC: jax.Array, clips: int, sub_batch: int, axis_name: str | None
) -> tuple[jax.Array, jax.Array]:
    """The means over sub-batches: a row for each, or for each clip where devices cut them.

    These rows are what is kept for the backward pass. As a map from means of clips to a row for
    each clip it is its own transpose, so the backward pass uses it too.

    Args:
      a_DC: means of sub-batches, which stay as they are, or of clips.
      b_DC: the same of another quantity; both go in one sum over devices.
      clips: of this device.
      sub_batch: clips that share statistics.
      axis_name: the mapped axis, or None on a single device.
    """
    D, C = a_DC.shape
    if D * sub_batch == clips:
        return a_DC, b_DC
    ab_DK = jnp.concatenate([a_DC, b_DC], 1)
    if clips % sub_batch == 0:
        ab_RK = ab_DK.reshape(-1, sub_batch, 2 * C).mean(1)
    else:
        ab_RK = _means_across_devices(ab_DK, sub_batch, axis_name)
    return ab_RK[:, :C], ab_RK[:, C:]


def _means_across_devices(x_BK: jax.Array, sub_batch: int, axis_name: str | None) -> jax.Array:
    """For each clip the mean over its sub-batch, of which other devices have a part.

    Sub-batches and devices meet every m = lcm(p, s) clips. Such a block of m clips lies on m / p
    neighbouring devices and holds m / s sub-batches; sums are taken within it.
    """
    p = x_BK.shape[0]
    block = math.lcm(p, sub_batch)
    neighbours = block // p
    devices = 1 if axis_name is None else lax.axis_size(axis_name)
    if devices % neighbours:
        raise UserError(
            f"a sub-batch of {sub_batch} does not divide the batch of {p * devices} clips "
            f"({devices} devices with {p} each)"
        )
    groups = [list(range(i, i + neighbours)) for i in range(0, devices, neighbours)]
    first = lax.axis_index(axis_name) % neighbours * p
    group_B = (first + jnp.arange(p)) // sub_batch
    # By masks: on GPUs additions to indices are atomic, in an order that changes from run to run.
    members_GB1 = group_B[:, None] == jnp.arange(block // sub_batch)[:, None, None]
    sums_GK = jnp.sum(jnp.where(members_GB1, x_BK, 0), 1)
    sums_GK = lax.psum(sums_GK, axis_name, axis_index_groups=groups)
    return sums_GK[group_B] / sub_batch
