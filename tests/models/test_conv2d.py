"""Gradients of kernels as sums over parts of the batch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mg_jax.models.conv2d import conv2d, conv2d_on_cpu
from mg_jax.runtime import xla_options

SAME, HALF = ((1, 1), ((1, 1), (1, 1))), ((2, 2), ((2, 1), (2, 1)))


def gradients(conv, shape, features, form, dtype):
    """A convolution's gradients of a weighted sum, by pictures and kernel."""
    rng = np.random.default_rng(0)
    size = 3 if form == SAME else 4
    x_BHWC = jnp.asarray(rng.normal(size=shape), dtype)
    kernel_HWIO = jnp.asarray(rng.normal(size=(size, size, shape[-1], features)), dtype)
    result = jax.eval_shape(lambda x, k: conv(x, k, *form), x_BHWC, kernel_HWIO)
    weights_BHWO = rng.normal(size=result.shape)

    def loss(x_BHWC, kernel_HWIO):
        return jnp.sum(conv(x_BHWC, kernel_HWIO, *form) * weights_BHWO)

    grad = jax.jit(jax.grad(loss, (0, 1)), compiler_options=xla_options.CPU)
    return grad(x_BHWC, kernel_HWIO)


@pytest.mark.parametrize("form", [SAME, HALF], ids=["same", "half"])
@pytest.mark.parametrize("pictures", [1, 7, 8, 12])
def test_gradients_in_parts_are_those_of_the_whole_batch(pictures, form):
    for dtype, rtol in ((jnp.float32, 1e-4), (jnp.bfloat16, 0.05)):
        settings = (pictures, 30, 30, 3), 32, form, dtype
        for whole, parted in zip(
            gradients(conv2d, *settings), gradients(conv2d_on_cpu, *settings), strict=True
        ):
            assert parted.dtype == whole.dtype == dtype
            atol = rtol * np.abs(np.float32(whole)).max()
            np.testing.assert_allclose(np.float32(parted), np.float32(whole), atol=atol)


@pytest.mark.parametrize(
    ("shape", "features", "parts"),
    [
        ((16, 28, 28, 8), 32, 4),
        ((16, 16, 16, 8), 32, 4),
        ((16, 14, 14, 8), 32, 2),
        ((16, 10, 10, 8), 32, 1),  # no more pixels than a part is to have
        ((16, 28, 28, 8), 16, 1),  # too few channels come out
        ((7, 28, 28, 8), 32, 1),  # an odd number of pictures
        ((6, 28, 28, 8), 32, 2),
    ],
)
def test_a_batch_is_divided_where_that_is_faster(shape, features, parts):
    def convolutions(conv):
        grad = jax.grad(lambda x, k: conv(x, k, *SAME).sum(), (0, 1))
        kernel_HWIO = jnp.zeros((3, 3, shape[-1], features))
        return str(jax.make_jaxpr(grad)(jnp.zeros(shape), kernel_HWIO)).count("conv_general")

    assert convolutions(conv2d_on_cpu) - convolutions(conv2d) == parts - 1
