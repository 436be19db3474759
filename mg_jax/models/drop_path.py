"""Stochastic depth (Huang et al., 2016): residual blocks that some clips of a batch skip."""

from collections.abc import Callable
from functools import partial

import flax.linen as nn
import jax

from mg_jax.architectures import BLOCKS
from mg_jax.models.parts import clip_keys


class DropPath(nn.Module):
    """x / (1 - rate), or 0 for a random share `rate` of the clips.

    Attributes:
      rate: 0 ... 1.
      first_clip: see `Parts`.
    """

    rate: float
    first_clip: Callable[[int], jax.Array | int]

    @nn.compact
    def __call__(self, x_BTHWC: jax.Array) -> jax.Array:
        keys_B = clip_keys(self.make_rng("dropout"), self.first_clip, len(x_BTHWC))
        keep = 1 - self.rate
        kept_B = jax.vmap(partial(jax.random.bernoulli, p=keep))(keys_B)
        factor_B = (kept_B / keep).astype(x_BTHWC.dtype)
        return jax.lax.expand_dims(factor_B, (1, 2, 3, 4)) * x_BTHWC


def drop_path_at(
    last: float, depth: int, first_clip: Callable[[int], jax.Array | int], place: tuple[int, int]
) -> DropPath:
    """That of a block: the rate rises evenly from 0 at a network's first block to `last`.

    Args:
      last: rate of the last block.
      depth: of the network, a key of architectures.BLOCKS.
      first_clip: see `Parts`.
      place: index of the stage, 0 for res2, and of the block in it.
    """
    blocks, (stage, block) = BLOCKS[depth], place
    return DropPath(last * (sum(blocks[:stage]) + block) / (sum(blocks) - 1), first_clip)
