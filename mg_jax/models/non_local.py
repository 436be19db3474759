"""Non-local blocks (Wang et al., *Non-local Neural Networks*, CVPR 2018)."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from mg_jax.models.parts import ModuleDef


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
        wide = jnp.promote_types(theta_BND.dtype, jnp.float32)
        affinity_BNP = jnp.einsum("bnd,bpd->bnp", theta_BND, phi_BPD, preferred_element_type=wide)
        if self.instantiation == "softmax":
            affinity_BNP = jax.nn.softmax(affinity_BNP * theta_BND.shape[-1] ** -0.5)
        elif self.instantiation == "unscaled_softmax":
            affinity_BNP = jax.nn.softmax(affinity_BNP)
        else:
            affinity_BNP = affinity_BNP / phi_BPD.shape[1]
        y_BND = jnp.einsum(
            "bnp,bpd->bnd",
            affinity_BNP.astype(g_BPD.dtype),
            g_BPD,
            preferred_element_type=wide,
        )
        y_BTHWD = y_BND.reshape(B, *extent, -1)
        y_BTHWC = self.conv(C, (1, 1, 1), use_bias=True, name="conv_out")(y_BTHWD)
        return x_BTHWC + self.norm(name="bn", scale_init=nn.initializers.zeros)(y_BTHWC)

    def _positions(
        self, x_BTHWC: jax.Array, name: str, pool: tuple[int, int, int] | None = None
    ) -> jax.Array:
        """Projects to half the channels, pools if asked; `B positions C/2`."""
        B, C = x_BTHWC.shape[0], x_BTHWC.shape[-1]
        y_BTHWD = self.conv(C // 2, (1, 1, 1), use_bias=True, name=name)(x_BTHWC)
        if pool is not None:
            y_BTHWD = max_pool(y_BTHWD, pool)
        return y_BTHWD.reshape(B, -1, C // 2)


def max_pool(x_BTHWC: jax.Array, size: tuple[int, int, int]) -> jax.Array:
    """Max-pooling with stride equal to its size; what is left over at an axis' end is dropped."""
    size = tuple(min(s, extent) for s, extent in zip(size, x_BTHWC.shape[1:4], strict=True))
    # Blocks along axes of their own, since the backward pass of windowed maxima is slow.
    B, *extent, C = x_BTHWC.shape
    counts = [n // s for n, s in zip(extent, size, strict=True)]
    T, H, W = (n * s for n, s in zip(counts, size, strict=True))
    blocks = [axis for pair in zip(counts, size, strict=True) for axis in pair]
    return jnp.max(x_BTHWC[:, :T, :H, :W].reshape(B, *blocks, C), (2, 4, 6))
