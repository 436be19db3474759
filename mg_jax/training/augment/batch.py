"""All changes of a batch's pixels, drawn from (seed, position) of each clip."""

import math

import jax
import jax.numpy as jnp

from mg_jax.training.augment.colour import jitter
from mg_jax.training.augment.erasing import erase
from mg_jax.training.augment.mixing import mix
from mg_jax.training.augment.rand_augment import rand_augment
from mg_jax.training.preprocess import flip, normalize
from mg_jax.training_settings import changes_pixels, mixes

# b / B of the coarsest grid of the paper, T/4 x (H/2)^2.
_COARSEST = 16
# What a clip's key is folded with for each kind of change.
_RAND, _JITTER, _ERASE, _MIX = range(4)


def augmented(
    config, clips_of_grid: int, batch: dict[str, jax.Array], seed: int | jax.Array
) -> tuple[jax.Array, ...]:
    """What the network takes of a batch of training, float32, and its labels.

    Args:
      config: of the run.
      clips_of_grid: clips of an iteration on this grid, which tell how coarse it is.
      batch: of `step.batch_shapes`, or a part of it.
      seed: of the run.
    """
    clips_BTHWC, label = pixels(config, clips_of_grid, batch, seed)
    return normalize(clips_BTHWC, config.data), label


def pixels(
    config, clips_of_grid: int, batch: dict[str, jax.Array], seed: int | jax.Array
) -> tuple[jax.Array, ...]:
    """Clips, mirrored and changed as the config says, in 0 ... 255, and their labels.

    Without changes clips stay uint8; otherwise they become float32. Labels of clips that are mixed
    become shares of the classes, `B K` float32.
    """
    augment = config.augment
    clips_BTHWC, label = flip(batch["clips"], batch["flip"]), batch["label"]
    if not changes_pixels(augment):
        return clips_BTHWC, label
    s = strength(augment.coarse, clips_of_grid / config.batch)
    key = jax.random.key(seed)
    keys_B = jax.vmap(lambda p: jax.random.fold_in(key, p))(batch["position"])

    def fold(kind: int) -> jax.Array:
        return jax.vmap(lambda key: jax.random.fold_in(key, kind))(keys_B)

    if augment.rand_layers:
        layers, magnitude = augment.rand_layers, augment.rand_magnitude
        # Clip by clip: side by side, all operations would be computed for every clip.
        clips_BTHWC = jax.lax.map(
            lambda one: rand_augment(layers, magnitude, s, *one), (fold(_RAND), clips_BTHWC)
        )
    clips_BTHWC = clips_BTHWC.astype(jnp.float32)
    clips_BTHWC = jax.vmap(lambda *one: jitter(augment, s, *one))(fold(_JITTER), clips_BTHWC)
    if augment.erase:
        fill_C = 255 * jnp.array(config.data.mean)
        clips_BTHWC = jax.vmap(lambda *one: erase(s * augment.erase, *one, fill_C))(
            fold(_ERASE), clips_BTHWC
        )
    if mixes(augment):
        K = config.model.num_classes
        clips_BTHWC, label = mix(augment, s, fold(_MIX), clips_BTHWC, label, K)
    return clips_BTHWC, label


def strength(coarse: float, factor: float) -> float:
    """Strength on a grid: 1 on the full one, `coarse` on one of 16 times the clips or more.

    Between them it falls with the logarithm, by as much for each doubling of the clips.

    Args:
      coarse: strength on the coarsest grid.
      factor: b / B, clips of an iteration relative to those on the full grid.
    """
    depth = min(max(math.log(factor, _COARSEST), 0.0), 1.0)
    return 1 - (1 - coarse) * depth
