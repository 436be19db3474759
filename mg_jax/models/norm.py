"""Sub-batch batch normalisation (paper, Sec. 3.3).

Statistics are computed over sub-batches: runs of `sub_batch` neighbouring clips of the *global*
batch, wherever devices cut it. What a clip is normalised with depends on its position in the batch
alone, never on the number of devices.
"""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax


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
    """

    sub_batch: int
    train: bool
    axis_name: str | None = None
    momentum: float = 0.9
    epsilon: float = 1e-5
    dtype: jnp.dtype = jnp.float32
    scale_init: nn.initializers.Initializer = nn.initializers.ones

    @nn.compact
    def __call__(self, x_BTHWC: jax.Array) -> jax.Array:
        C = x_BTHWC.shape[-1]
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, (C,), jnp.float32)
        running_var = self.variable("batch_stats", "var", jnp.ones, (C,), jnp.float32)
        scale_C = self.param("scale", self.scale_init, (C,), jnp.float32)
        bias_C = self.param("bias", nn.initializers.zeros, (C,), jnp.float32)

        if self.train:
            mean_BC, var_BC = sub_batch_moments(x_BTHWC, self.sub_batch, self.axis_name)
            if not self.is_initializing():
                count = self.sub_batch * math.prod(x_BTHWC.shape[1:4])
                unbiased = count / max(count - 1, 1)
                running_mean.value = self._update(running_mean.value, mean_BC.mean(0))
                running_var.value = self._update(running_var.value, var_BC.mean(0) * unbiased)
        else:
            mean_BC, var_BC = running_mean.value[None], running_var.value[None]

        factor_BC = scale_C * lax.rsqrt(var_BC + self.epsilon)
        offset_BC = bias_C - mean_BC * factor_BC
        factor, offset = (v[:, None, None, None, :] for v in (factor_BC, offset_BC))
        return (at_least_float32(x_BTHWC) * factor + offset).astype(self.dtype)

    def _update(self, running_C: jax.Array, batch_C: jax.Array) -> jax.Array:
        return self.momentum * running_C + (1 - self.momentum) * lax.stop_gradient(batch_C)


def at_least_float32(x: jax.Array) -> jax.Array:
    """Half precisions widened, so that sums over many positions keep their digits."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def sub_batch_moments(
    x_BTHWC: jax.Array, sub_batch: int, axis_name: str | None
) -> tuple[jax.Array, jax.Array]:
    """Mean and biased variance of each clip's sub-batch, in float32 at least.

    Args:
      x_BTHWC: this device's clips, p of them; clip j of device d is clip d * p + j of the batch.
      sub_batch: s, clips of a sub-batch; divides the global batch.
      axis_name: the mapped axis, or None on a single device.

    Returns:
      mean_BC and var_BC, a row for each of this device's clips.

    Sub-batches and devices meet every m = lcm(p, s) clips. Such a block of m clips lies on m / p
    neighbouring devices and holds m / s sub-batches; sums are taken within it.
    """
    x_BTHWC = at_least_float32(x_BTHWC)
    clip_means = jnp.mean(x_BTHWC, (1, 2, 3)), jnp.mean(jnp.square(x_BTHWC), (1, 2, 3))
    moments_B2C = jnp.stack(clip_means, 1)
    p = x_BTHWC.shape[0]
    block = math.lcm(p, sub_batch)
    if block == p:
        moments_G2C = moments_B2C.reshape(p // sub_batch, sub_batch, *moments_B2C.shape[1:]).mean(1)
        moments_B2C = jnp.repeat(moments_G2C, sub_batch, 0)
    else:
        moments_B2C = _moments_across_devices(moments_B2C, sub_batch, block, axis_name)
    mean_BC, square_BC = moments_B2C[:, 0], moments_B2C[:, 1]
    return mean_BC, jnp.maximum(square_BC - jnp.square(mean_BC), 0.0)


def _moments_across_devices(
    moments_B2C: jax.Array, sub_batch: int, block: int, axis_name: str | None
) -> jax.Array:
    p = moments_B2C.shape[0]
    neighbours = block // p
    devices = 1 if axis_name is None else lax.axis_size(axis_name)
    if devices % neighbours:
        raise ValueError(
            f"a sub-batch of {sub_batch} does not divide the batch of {p * devices} clips "
            f"({devices} devices with {p} each)"
        )
    groups = [list(range(i, i + neighbours)) for i in range(0, devices, neighbours)]
    first = lax.axis_index(axis_name) % neighbours * p
    group_B = (first + jnp.arange(p)) // sub_batch
    sums_G2C = jnp.zeros((block // sub_batch, *moments_B2C.shape[1:])).at[group_B].add(moments_B2C)
    sums_G2C = lax.psum(sums_G2C, axis_name, axis_index_groups=groups)
    return sums_G2C[group_B] / sub_batch
