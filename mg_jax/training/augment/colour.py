"""Colour of a clip: the same change for all its frames, pixels float32 in 0 ... 255.

Formulas and ranges are those of torchvision, whose images are one frame each: means are taken over
all frames of a clip.
"""

import jax
import jax.numpy as jnp


def blend(x_THWC: jax.Array, other: jax.Array, factor: jax.Array) -> jax.Array:
    """other + factor (x - other), cut off at 0 and 255; a factor of 1 changes nothing."""
    return jnp.clip(other + factor * (x_THWC - other), 0, 255)


def grey(x_THWC: jax.Array) -> jax.Array:
    """Luma, `T H W 1` (ITU-R 601)."""
    weights_C = jnp.array([0.299, 0.587, 0.114], x_THWC.dtype)
    return jnp.sum(x_THWC * weights_C, -1, keepdims=True)


def brightness(x_THWC: jax.Array, factor: jax.Array) -> jax.Array:
    """Away from black, or towards it by a factor below 1."""
    return blend(x_THWC, jnp.zeros((), x_THWC.dtype), factor)


def contrast(x_THWC: jax.Array, factor: jax.Array) -> jax.Array:
    """Away from the mean grey, or towards it."""
    return blend(x_THWC, _mean_grey(x_THWC), factor)


def _mean_grey(x_THWC: jax.Array) -> jax.Array:
    """The mean over a clip, of whole numbers: their sums do not depend on how a device adds."""
    T, H, W, _ = x_THWC.shape
    sum_T = jnp.sum(jnp.round(grey(x_THWC)).astype(jnp.int32), (1, 2, 3))
    level_T = jnp.round(sum_T * (256 / (H * W))).astype(jnp.int32)
    return jnp.sum(level_T) / (256 * T)


def saturation(x_THWC: jax.Array, factor: jax.Array) -> jax.Array:
    """Away from each pixel's grey, or towards it."""
    return blend(x_THWC, grey(x_THWC), factor)


def hue(x_THWC: jax.Array, shift: jax.Array) -> jax.Array:
    """Turns each pixel's hue by a share of the colour circle; value and saturation (HSV) stay."""
    r, g, b = jnp.moveaxis(x_THWC, -1, 0)
    value, low = jnp.maximum(jnp.maximum(r, g), b), jnp.minimum(jnp.minimum(r, g), b)
    chroma = value - low
    safe = jnp.where(chroma > 0, chroma, 1)
    sixth = jnp.where(
        value == r, (g - b) / safe, jnp.where(value == g, 2 + (b - r) / safe, 4 + (r - g) / safe)
    )
    sixth = sixth + 6 * shift

    def channel(n: int) -> jax.Array:
        k = (n + sixth) % 6
        return value - chroma * jnp.clip(jnp.minimum(k, 4 - k), 0, 1)

    return jnp.stack([channel(5), channel(3), channel(1)], -1)


def jitter(config, strength: float, key: jax.Array, x_THWC: jax.Array) -> jax.Array:
    """Changes brightness, contrast, saturation and hue, in this order, by random amounts.

    Args:
      config: the `augment` section.
      strength: factor of the ranges.
      key: of the clip.
      x_THWC: the clip.
    """
    changes = (
        (config.brightness, brightness, 1.0),
        (config.contrast, contrast, 1.0),
        (config.saturation, saturation, 1.0),
        (config.hue, hue, 0.0),
    )
    for i, (most, change, centre) in enumerate(changes):
        if most:
            draw = jax.random.uniform(jax.random.fold_in(key, i), (), minval=-1, maxval=1)
            x_THWC = change(x_THWC, centre + strength * most * draw)
    return x_THWC
