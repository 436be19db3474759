"""Non-local blocks (Wang et al., *Non-local Neural Networks*, CVPR 2018)."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp

from mg_jax.models.parts import ModuleDef
from mg_jax.models.pooling import max_pool


class NonLocal(nn.Module):
    """x + bn(W y): every position gathers values from all positions of the clip, by affinity.

    With N positions of theta, P of phi and g after pooling, and C / 2 channels in between,

        softmax:           f = softmax_p(theta_n . phi_p / sqrt(C / 2))
        unscaled_softmax:  f = softmax_p(theta_n . phi_p)
        dot_product:       f = theta_n . phi_p / P

    and y_n = sum_p f_np g_p. The affinity and its sums are computed in float32 at least. The
    last BN starts at zero, so that a new block passes its input on.

    Attributes:
      instantiation: of the affinity: softmax, unscaled_softmax or dot_product.
      pool: (time, height, width), by which phi and g are max-pooled; an axis that is shorter is
        pooled to one position.
      conv: convolution, called with (features, kernel).
      norm: normalisation.
      pool_first: pool their input, not them.
    """

    instantiation: str
    pool: tuple[int, int, int]
    conv: ModuleDef
    norm: ModuleDef
    pool_first: bool = True

    @nn.compact
    def __call__(self, x_BTHWC: jax.Array) -> jax.Array:
        B, *extent, C = x_BTHWC.shape
        if self.pool_first:
            pooled_BTHWC, pool = max_pool(x_BTHWC, self.pool), None
        else:
            pooled_BTHWC, pool = x_BTHWC, self.pool
        theta_BND = self._positions(x_BTHWC, "conv_theta")
        phi_BPD = self._positions(pooled_BTHWC, "conv_phi", pool)
        g_BPD = self._positions(pooled_BTHWC, "conv_g", pool)
        y_BND = self._gather(theta_BND, phi_BPD, g_BPD)
        y_BTHWD = y_BND.reshape(B, *extent, -1)
        y_BTHWC = self.conv(C, (1, 1, 1), use_bias=True, name="conv_out")(y_BTHWD)
        return x_BTHWC + self.norm(name="bn", scale_init=nn.initializers.zeros)(y_BTHWC)

    def _gather(self, theta_BND: jax.Array, phi_BPD: jax.Array, g_BPD: jax.Array) -> jax.Array:
        """Values of all positions by affinity, in float32 at least."""
        wide = jnp.promote_types(theta_BND.dtype, jnp.float32)
        product = partial(jnp.einsum, preferred_element_type=wide)
        (_, N, D), P = theta_BND.shape, phi_BPD.shape[1]
        if self.instantiation == "dot_product" and (N + P) * D < 2 * N * P:
            # (theta phi') g = theta (phi' g), with D x D numbers in between instead of N x P.
            sums_BDE = product("bpd,bpe->bde", phi_BPD, g_BPD) / P
            return product("bnd,bde->bne", theta_BND, sums_BDE.astype(theta_BND.dtype))
        affinity_BNP = product("bnd,bpd->bnp", theta_BND, phi_BPD)
        if self.instantiation == "softmax":
            affinity_BNP = jax.nn.softmax(affinity_BNP * D**-0.5)
        elif self.instantiation == "unscaled_softmax":
            affinity_BNP = jax.nn.softmax(affinity_BNP)
        else:
            affinity_BNP = affinity_BNP / P
        return product("bnp,bpd->bnd", affinity_BNP.astype(g_BPD.dtype), g_BPD)

    def _positions(
        self, x_BTHWC: jax.Array, name: str, pool: tuple[int, int, int] | None = None
    ) -> jax.Array:
        """Projects to half the channels, pools if asked; `B positions C/2`."""
        B, C = x_BTHWC.shape[0], x_BTHWC.shape[-1]
        y_BTHWD = self.conv(C // 2, (1, 1, 1), use_bias=True, name=name)(x_BTHWC)
        if pool is not None:
            y_BTHWD = max_pool(y_BTHWD, pool)
        return y_BTHWD.reshape(B, -1, C // 2)
