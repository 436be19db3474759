"""Clips turned, sheared and moved: all frames of a clip alike."""

import jax
import jax.numpy as jnp
from jax.scipy.ndimage import map_coordinates


def affine(x_THWC: jax.Array, matrix_23: jax.Array, fill: float) -> jax.Array:
    """Takes each pixel from where a matrix says, bilinearly; what lies outside is `fill`.

    Args:
      x_THWC: float32.
      matrix_23: rows for y and x; row (a, b, c) takes a y + b x + c, with y and x in pixels from
        the centre of the frame.
      fill: of pixels from outside.
    """
    _, H, W, _ = x_THWC.shape
    centre_2 = jnp.array([(H - 1) / 2, (W - 1) / 2])
    y_H, x_W = jnp.arange(H) - centre_2[0], jnp.arange(W) - centre_2[1]
    from_2HW = (
        matrix_23[:, 0, None, None] * y_H[:, None]
        + matrix_23[:, 1, None, None] * x_W
        + (matrix_23[:, 2] + centre_2)[:, None, None]
    )

    def plane(plane_HW: jax.Array) -> jax.Array:
        return map_coordinates(plane_HW, list(from_2HW), order=1, mode="constant", cval=fill)

    over_channels = jax.vmap(plane, in_axes=-1, out_axes=-1)
    return jax.vmap(over_channels)(x_THWC)


def matrices(amount: jax.Array, height: int, width: int) -> jax.Array:
    """Matrices of RandAugment's five movements, `5 2 3`, for an amount in -1 ... 1.

    At most shears by 0.3 along x and along y, moves by 150/331 of the width and of the height, and
    a turn by 30 degrees.
    """
    one, zero = jnp.ones(()), jnp.zeros(())
    shear = 0.3 * amount
    move = 150 / 331 * amount
    angle = jnp.deg2rad(30 * amount)
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    rows = [
        [[one, zero, zero], [shear, one, zero]],
        [[one, shear, zero], [zero, one, zero]],
        [[one, zero, zero], [zero, one, move * width]],
        [[one, zero, move * height], [zero, one, zero]],
        [[cos, -sin, zero], [sin, cos, zero]],
    ]
    return jnp.array(rows, jnp.float32)
