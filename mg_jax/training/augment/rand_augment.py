"""RandAugment (Cubuk et al., 2020) of clips: random operations, the same for all frames.

Operations and ranges are torchvision's. Each rounds to whole numbers, as it would on images of 8
bits; histograms and means are those of all frames of a clip.
"""

import jax
import jax.numpy as jnp
from jax import lax

from mg_jax.training.augment.affine import affine, matrices
from mg_jax.training.augment.colour import blend, brightness, contrast, saturation

OPERATIONS = (
    *("identity", "shear_x", "shear_y", "translate_x", "translate_y", "rotate", "brightness"),
    *("colour", "contrast", "sharpness", "posterize", "solarize", "auto_contrast", "equalize"),
)
_FIRST_AFFINE, _LAST_AFFINE = (OPERATIONS.index(name) for name in ("shear_x", "rotate"))
MOST = 10  # of the magnitude
_FILL = 115  # of what moves in from outside: the mean pixel that published models are trained with


def rand_augment(
    layers: int, magnitude: float, strength: float, key: jax.Array, x_THWC: jax.Array
) -> jax.Array:
    """Applies so many operations, drawn independently, each with probability `strength`.

    Args:
      layers: their number.
      magnitude: of each, 0 ... MOST, times `strength`; its sign, where it has one, is drawn.
      strength: 0 ... 1.
      key: of the clip.
      x_THWC: uint8.
    """
    share = strength * magnitude / MOST

    def layer(i: int, x_THWC: jax.Array) -> jax.Array:
        which, applies, sign = jax.random.uniform(jax.random.fold_in(key, i), (3,))
        operation = jnp.floor(which * len(OPERATIONS)).astype(jnp.int32)
        operation = jnp.where(applies < strength, operation, OPERATIONS.index("identity"))
        return apply(operation, share, jnp.where(sign < 0.5, -1.0, 1.0), x_THWC)

    return lax.fori_loop(0, layers, layer, x_THWC)


def apply(
    operation: jax.Array, share: float | jax.Array, sign: jax.Array, x_THWC: jax.Array
) -> jax.Array:
    """One of OPERATIONS.

    Args:
      operation: its index.
      share: of its largest magnitude, 0 ... 1.
      sign: 1 or -1, for operations that go either way.
      x_THWC: uint8, as the result.
    """
    _, H, W, _ = x_THWC.shape
    amount = sign * share
    factor = 1 + 0.9 * amount

    def moved(x_THWC):
        matrix_23 = matrices(amount, H, W)[operation - _FIRST_AFFINE]
        return affine(x_THWC, matrix_23, fill=_FILL)

    branches = (
        lambda x: x,
        moved,
        lambda x: brightness(x, factor),
        lambda x: saturation(x, factor),
        lambda x: contrast(x, factor),
        lambda x: sharpness(x, factor),
        lambda x: posterize(x, 8 - jnp.round(4 * share)),
        lambda x: jnp.where(x >= 255 * (1 - share), 255 - x, x),
        auto_contrast,
        equalize,
    )
    # The five movements are one branch.
    branch = jnp.where(
        operation <= _LAST_AFFINE, jnp.minimum(operation, 1), operation - _LAST_AFFINE + 1
    )
    y_THWC = lax.switch(branch, branches, x_THWC.astype(jnp.float32))
    return jnp.round(y_THWC).astype(jnp.uint8)


def sharpness(x_THWC: jax.Array, factor: jax.Array) -> jax.Array:
    """Away from a 3 x 3 mean, whose centre counts five times, or towards it; edges stay."""
    H, W = x_THWC.shape[1:3]
    rows = x_THWC[:, :-2] + x_THWC[:, 1:-1] + x_THWC[:, 2:]
    inner = rows[:, :, :-2] + rows[:, :, 1:-1] + rows[:, :, 2:] + 4 * x_THWC[:, 1:-1, 1:-1]
    smooth_THWC = x_THWC.at[:, 1 : H - 1, 1 : W - 1].set(jnp.round(inner / 13))
    return blend(x_THWC, smooth_THWC, factor)


def posterize(x_THWC: jax.Array, bits: float | jax.Array) -> jax.Array:
    """Keeps so many of the highest bits of each pixel."""
    step = 2.0 ** (8 - bits)
    return jnp.floor(x_THWC / step) * step


def auto_contrast(x_THWC: jax.Array) -> jax.Array:
    """Stretches each channel to 0 ... 255; one of a single value stays."""
    low_C, high_C = x_THWC.min((0, 1, 2)), x_THWC.max((0, 1, 2))
    scale_C = 255 / jnp.where(high_C > low_C, high_C - low_C, 1)
    return jnp.where(high_C > low_C, jnp.clip((x_THWC - low_C) * scale_C, 0, 255), x_THWC)


def equalize(x_THWC: jax.Array) -> jax.Array:
    """Makes the histogram of each channel as even as a table of its values can."""
    return jax.vmap(_equalize_channel, in_axes=-1, out_axes=-1)(x_THWC)


def _equalize_channel(x_THW: jax.Array) -> jax.Array:
    value_THW = x_THW.astype(jnp.int32)
    count_V = jnp.bincount(value_THW.reshape(-1), length=256)
    # The highest value that occurs does not count: it becomes 255.
    step = (count_V.sum() - count_V[value_THW.max()]) // 255
    below_V = jnp.cumsum(count_V) - count_V
    table_V = jnp.clip((below_V + step // 2) // jnp.maximum(step, 1), 0, 255)
    return jnp.where(step > 0, table_V[value_THW].astype(x_THW.dtype), x_THW)
