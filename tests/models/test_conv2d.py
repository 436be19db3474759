"""Gradients of kernels as sums over shares of the batch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mg_jax.models.conv import convolve
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
def test_gradients_by_shares_are_those_of_the_whole_batch(pictures, form):
    settings = (pictures, 30, 30, 3), 32, form
    expected = gradients(conv2d, *settings, jnp.float32)
    for dtype, tolerance in ((jnp.float32, 1e-5), (jnp.bfloat16, 5e-3)):
        for whole, shared in zip(expected, gradients(conv2d_on_cpu, *settings, dtype), strict=True):
            assert shared.dtype == dtype
            atol = tolerance * np.abs(whole).max()
            np.testing.assert_allclose(np.float32(shared), whole, atol=atol)


@pytest.mark.parametrize(
    ("shape", "features", "shares"),
    [
        ((16, 28, 28, 8), 32, 4),
        ((16, 16, 16, 8), 32, 4),
        ((16, 14, 14, 8), 32, 2),
        ((16, 10, 10, 8), 32, 1),  # no more pixels than a share is to have
        ((16, 28, 28, 8), 16, 1),  # too few channels come out
        ((7, 28, 28, 8), 32, 1),  # an odd number of pictures
        ((6, 28, 28, 8), 32, 2),
    ],
)
def test_a_batch_is_divided_where_that_is_faster(shape, features, shares):
    kernel_HWIO = jnp.zeros((3, 3, shape[-1], features))
    whole, divided = (
        convolutions(lambda x, k, conv=conv: conv(x, k, *SAME), jnp.zeros(shape), kernel_HWIO)
        for conv in (conv2d, conv2d_on_cpu)
    )
    assert divided - whole == shares - 1


def convolutions(conv, x, kernel):
    """How many convolutions a convolution and both of its gradients are."""
    grad = jax.grad(lambda x, k: conv(x, k).sum(), (0, 1))
    return str(jax.make_jaxpr(grad)(x, kernel)).count("conv_general_dilated[")


@pytest.mark.parametrize(
    ("kernel", "strides", "features", "shares"),
    [
        ((1, 3, 3), (1, 1, 1), 32, 4),
        ((1, 3, 3), (1, 2, 2), 32, 4),
        ((5, 7, 7), (1, 2, 2), 8, 2),  # four frames at once, of half the pixels
    ],
    ids=str,
)
def test_networks_divide_batches_on_cpus_alone(kernel, strides, features, shares):
    x_BTHWC, kernel_THWIO = jnp.zeros((2, 8, 56, 56, 3)), jnp.zeros((*kernel, 3, features))
    counts = {
        platform: convolutions(
            lambda x, k, platform=platform: convolve(x, k, strides, platform), x_BTHWC, kernel_THWIO
        )
        for platform in ("cpu", "gpu", "tpu")
    }
    assert counts["cpu"] == counts["gpu"] + shares - 1 == counts["tpu"] + shares - 1
