"""Convolutions, pooling, stems and stages in their forms for CPUs and GPUs."""

from functools import partial

import flax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from mg_jax.models import stem_conv
from mg_jax.models.conv import Conv, convolve, convolve_3d, convolve_all_frames
from mg_jax.models.non_local import NonLocal
from mg_jax.models.norm import SubBatchNorm
from mg_jax.models.pooling import max_pool, max_pool_3x3
from mg_jax.models.resnet3d import (
    Pathway,
    ResBlock,
    Stage,
    Stem,
    frames_first,
    frames_last,
)
from mg_jax.runtime import xla_options
from tests.models.variables import initialised


def with_gradients(functions, cotangent, *arguments):
    """Result and gradients of each of some functions, compiled as one program."""

    def all_of(*arguments):
        pairs = (jax.vjp(function, *arguments) for function in functions)
        return [(result, pull(cotangent)) for result, pull in pairs]

    return jax.jit(all_of, compiler_options=xla_options.for_once("cpu"))(*arguments)


KERNELS = [(1, 1, 1), (1, 7, 7), (1, 3, 3), (7, 1, 1), (3, 1, 1), (5, 7, 7)]


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("strides", [(1, 1, 1), (1, 2, 2), (4, 1, 1), (2, 2, 2)])
@pytest.mark.parametrize("extent", [(8, 12, 12), (7, 9, 11)])
def test_2d_forms_equal_the_3d_convolution_and_its_gradients(kernel, strides, extent):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, *extent, 3)).astype(np.float32)
    weights = rng.normal(size=(*kernel, 3, 4)).astype(np.float32)

    def reference(x, weights):
        return lax.conv_general_dilated(
            x,
            weights,
            strides,
            [(k // 2, k // 2) for k in kernel],
            dimension_numbers=("NDHWC", "DHWIO", "NDHWC"),
            precision="highest",
        )

    forms = [partial(convolve, strides=strides, platform=platform) for platform in ("cpu", "gpu")]
    shape = jax.eval_shape(reference, x, weights).shape
    cotangent = rng.normal(size=shape).astype(np.float32)
    (expected, in_expected), *others = with_gradients([reference, *forms], cotangent, x, weights)
    for found, in_found in others:
        np.testing.assert_allclose(found, expected, atol=2e-4)
        for a, b in zip(in_found, in_expected, strict=True):
            np.testing.assert_allclose(a, b, atol=2e-3)


def test_numbers_of_two_bytes_give_the_stems_for_gpus_and_cpus_the_same_bits():
    """For GPUs they are moved two at a time, and derivatives pass through."""
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.integers(-8, 8, (2, 8, 12, 20, 3)), jnp.bfloat16)
    weights = jnp.asarray(rng.integers(-1, 2, (5, 7, 7, 3, 8)), jnp.bfloat16)
    cotangent = jnp.asarray(rng.integers(-1, 2, (2, 8, 6, 10, 8)), jnp.bfloat16)
    forms = [partial(convolve, strides=(1, 2, 2), platform=each) for each in ("cpu", "gpu")]
    expected, found = with_gradients(forms, cotangent, x, weights)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert jnp.abs(b).max() > 0
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(("time", "stride"), [(5, 1), (5, 2), (5, 4), (3, 8)])
def test_frames_that_are_gathered_are_those_that_are_joined(time, stride):
    x = np.random.default_rng(0).normal(size=(2, 8, 4, 6, 3)).astype(np.float32)
    under = time + stride - 1, stride, time // 2  # frames, as `convolve_7x7_by_2` asks for them
    gathered = stem_conv._gather_blocks(jnp.asarray(x), *under)
    assert gathered.shape == (2, 8 // stride, 2, 3, 4 * under[0] * 3)
    np.testing.assert_array_equal(gathered, stem_conv._stack_blocks(jnp.asarray(x), *under))


@pytest.mark.parametrize(("frames", "taps"), [(1, 3), (2, 3), (3, 5), (4, 7)])
def test_a_convolution_of_all_frames_is_the_one_over_time(frames, taps):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, frames, 2, 3, 4)).astype(np.float32)
    kernel = rng.normal(size=(taps, 4, 5)).astype(np.float32)

    def reference(x, kernel):
        with jax.default_matmul_precision("highest"):
            return convolve_3d(x, kernel[:, None, None], (1, 1, 1))

    def side_by_side(x, kernel):
        return frames_first(convolve_all_frames(frames_last(x), kernel, frames), (frames, 2, 3))

    cotangent = rng.normal(size=(2, frames, 2, 3, 5)).astype(np.float32)
    expected, found = with_gradients([reference, side_by_side], cotangent, x, kernel)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


@pytest.mark.parametrize(("frames", "taps"), [(1, (3,)), (2, (3,)), (2, (1, 3))])
def test_a_stage_for_gpus_is_the_one_for_cpus(frames, taps):
    """Of so few frames its blocks take them side by side; sizes are odd, channels come in parts."""
    pathway = Pathway(4, 1, ((1,), (1,), (3,), taps))
    x = np.random.default_rng(0).normal(size=(4, frames, 7, 9, 32)).astype(np.float32)

    def stage(platform):
        norm = partial(SubBatchNorm, sub_batch=2, train=True, platform=platform)
        conv = partial(Conv, platform=platform)
        return Stage((pathway,), 3, 2, conv, norm, NonLocal, ResBlock, platform)

    variables = initialised(stage("cpu"), [[x]])
    rng = np.random.default_rng(1)
    # The last norm of each block starts at zero.
    params = jax.tree.map(lambda p: p + rng.normal(size=p.shape) / 10, variables["params"])

    @partial(jax.jit, static_argnums=2, compiler_options=xla_options.for_once("cpu"))
    @partial(jax.value_and_grad, argnums=(0, 1), has_aux=True)
    def loss(params, x, platform):
        given = {**variables, "params": params}
        parts = x[..., :20], x[..., 20:]
        (y,), updated = stage(platform).apply(given, [parts], mutable=["batch_stats"])
        return jnp.sum(jnp.sin(y)), (y, updated)

    traced = {platform: str(loss.trace(params, x, platform).jaxpr) for platform in ("cpu", "gpu")}
    assert {name: "layout_constraint" in text for name, text in traced.items()} == {
        "cpu": False,
        "gpu": True,
    }
    expected, found = (jax.tree.leaves(loss(params, x, platform)) for platform in ("cpu", "gpu"))
    for a, b in zip(found, expected, strict=True):
        assert a.shape == b.shape
        np.testing.assert_allclose(a, b, atol=2e-4 * max(np.abs(b).max(), 1))


@pytest.mark.parametrize("pad_pool", [True, False])
def test_a_stem_for_gpus_is_the_one_for_cpus(pad_pool):
    """There it cuts frames apart late, and pooling's gradient is another sum."""
    pathway = Pathway(8, 5, ((1,),) * 4, pad_stem_pool=pad_pool)
    x = np.random.default_rng(0).normal(size=(4, 8, 12, 16, 3)).astype(np.float32)

    def stem(platform):
        norm = partial(SubBatchNorm, sub_batch=2, train=True, platform=platform)
        return Stem(pathway, partial(Conv, platform=platform), norm, platform)

    variables = initialised(stem("cpu"), x)

    @partial(jax.jit, static_argnums=1, compiler_options=xla_options.for_once("cpu"))
    @partial(jax.value_and_grad, has_aux=True)
    def loss(params, platform):
        given = {**variables, "params": params}
        y, updated = stem(platform).apply(given, x, mutable=["batch_stats"])
        return jnp.sum(jnp.sin(y)), (y, updated)

    results = [jax.tree.leaves(loss(variables["params"], each)) for each in ("cpu", "gpu")]
    for a, b in zip(*results, strict=True):
        assert a.shape == b.shape
        np.testing.assert_allclose(a, b, atol=2e-4 * max(np.abs(b).max(), 1))


@pytest.mark.parametrize("size", [(8, 8), (7, 10), (9, 7)])
def test_max_pool_equals_the_windowed_one_and_its_gradient(size):
    x = np.random.default_rng(0).normal(size=(2, 3, *size, 4)).astype(np.float32)
    flat = x.reshape(6, *size, 4)
    windows = {"window_shape": (3, 3), "strides": (2, 2), "padding": ((1, 1), (1, 1))}
    expected = flax.linen.max_pool(flat, **windows)
    given = np.random.default_rng(1).normal(size=expected.shape).astype(np.float32)
    windowed = partial(flax.linen.max_pool, **windows)
    (in_expected,) = jax.vjp(windowed, flat)[1](given)
    for platform in ("cpu", "gpu"):
        found, backward = jax.vjp(partial(max_pool_3x3, platform=platform), x)
        np.testing.assert_array_equal(found.reshape(expected.shape), expected)
        (in_x,) = backward(given.reshape(2, 3, *expected.shape[1:]))
        np.testing.assert_allclose(in_x.reshape(flat.shape), in_expected, rtol=1e-6)


@pytest.mark.parametrize("dtype", [np.float32, jnp.bfloat16])
@pytest.mark.parametrize("size", [(1, 1, 1), (1, 2, 2), (2, 1, 1), (2, 3, 2), (9, 2, 9)])
def test_max_pool_of_blocks_equals_the_windowed_one_and_its_gradient(size, dtype):
    x = np.random.default_rng(0).normal(size=(2, 3, 8, 7, 4)).astype(dtype)
    size_there = tuple(map(min, size, x.shape[1:4]))
    windowed = partial(flax.linen.max_pool, window_shape=size_there, strides=size_there)
    expected, backward = jax.vjp(windowed, x)
    given = np.random.default_rng(1).normal(size=expected.shape).astype(dtype)
    found, ours = jax.vjp(jax.jit(partial(max_pool, size=size)), x)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(ours(given)[0], backward(given)[0])


@pytest.mark.parametrize("extent", [2, 17])  # few pixels, and more than a byte counts
def test_max_pool_of_blocks_gives_the_gradient_to_the_first_of_equal_pixels(extent):
    x = np.ones((1, 1, extent, 2 * extent + 1, 1), np.float32)
    backward = jax.vjp(partial(max_pool, size=(1, extent, extent)), x)[1]
    (in_x,) = backward(np.ones((1, 1, 1, 2, 1), np.float32))
    taken = np.zeros(x.shape[2:4])
    taken[0, 0] = taken[0, extent] = 1
    np.testing.assert_array_equal(in_x[0, 0, :, :, 0], taken)


@pytest.mark.parametrize("platform", ["cpu", "gpu"])
def test_max_pool_gives_the_gradient_to_the_first_of_equal_pixels(platform):
    x = np.ones((1, 1, 4, 4, 1), np.float32)
    backward = jax.vjp(partial(max_pool_3x3, platform=platform), x)[1]
    (in_x,) = backward(np.ones((1, 1, 2, 2, 1), np.float32))
    taken = np.zeros((4, 4))
    # Of the windows that begin outside the first pixel that is inside.
    taken[0, 0] = taken[0, 1] = taken[1, 0] = taken[1, 1] = 1
    np.testing.assert_array_equal(in_x[0, 0, :, :, 0], taken)
