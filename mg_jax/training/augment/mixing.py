"""Mixup (Zhang et al., 2018) and CutMix (Yun et al., 2019) of neighbouring clips of a batch.

Clips 2i and 2i + 1 are partners: order is random anyway, and neighbours share a device and a
sub-batch however the batch is divided. Each clip draws how much of its partner it takes.
"""

import jax
import jax.numpy as jnp

from mg_jax.training.augment import beta
from mg_jax.training.augment.erasing import rectangle


def mix(
    config, strength: float, keys_B: jax.Array, clips_BTHWC: jax.Array, label_B: jax.Array, K: int
) -> tuple[jax.Array, jax.Array]:
    """Clips and labels, mixed with those of their partners.

    Where both kinds are on, each has half of the clips.

    Args:
      config: the `augment` section.
      strength: factor of the share of clips that are mixed.
      keys_B: of the clips.
      clips_BTHWC: float32; B is even.
      label_B: int32.
      K: classes.

    Returns:
      Clips as they came, and the shares of classes in each, `B K` float32.
    """
    H, W = clips_BTHWC.shape[2:4]
    own_BHW1, share_B = jax.vmap(lambda key: _own(config, strength, key, H, W))(keys_B)
    own_B1HW1 = own_BHW1[:, None]
    clips_BTHWC = own_B1HW1 * clips_BTHWC + (1 - own_B1HW1) * _partners(clips_BTHWC)
    label_BK = jax.nn.one_hot(label_B, K)
    share_B1 = share_B[:, None]
    return clips_BTHWC, share_B1 * label_BK + (1 - share_B1) * _partners(label_BK)


def _partners(x: jax.Array) -> jax.Array:
    return x.reshape(-1, 2, *x.shape[1:])[:, ::-1].reshape(x.shape)


def _own(config, strength: float, key: jax.Array, H: int, W: int) -> tuple[jax.Array, jax.Array]:
    """The share of a clip itself in each of its pixels, `H W 1` in 0 ... 1, and their mean."""
    draw_key, mixup_key, cutmix_key = jax.random.split(key, 3)
    mixed, kind, row, column = jax.random.uniform(draw_key, (4,))
    own_HW1, share = jnp.ones((H, W, 1)), jnp.ones(())
    if config.mixup:
        share = beta.draw(mixup_key, config.mixup)
        own_HW1 = share * own_HW1
    if config.cutmix:
        half = jnp.sqrt(1 - beta.draw(cutmix_key, config.cutmix)) / 2
        # Its centre lies anywhere in the frame, so part of it may lie outside.
        edges = [jnp.round((row - half) * H), jnp.round((column - half) * W)]
        edges += [jnp.round((row + half) * H), jnp.round((column + half) * W)]
        outside_HW1 = ~rectangle(H, W, *edges)
        cut = jnp.logical_or(kind < 0.5, not config.mixup)
        own_HW1 = jnp.where(cut, outside_HW1, own_HW1)
        share = jnp.where(cut, jnp.count_nonzero(outside_HW1) / (H * W), share)
    mixed = mixed < strength * config.mix
    return jnp.where(mixed, own_HW1, 1.0), jnp.where(mixed, share, 1.0)
