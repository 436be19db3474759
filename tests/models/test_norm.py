"""Sub-batch BN against the same statistics computed in NumPy over the global batch."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import Mesh

from mg_jax.errors import UserError
from mg_jax.models.norm import SubBatchNorm, batch_norm
from mg_jax.models.product_norm import product_norm
from mg_jax.runtime import parallel, xla_options

SHAPE = (2, 3, 3, 5)  # T H W C of the inputs
NIGHTLY = pytest.mark.nightly


def numpy_norm(x_BTHWC, sub_batch, scale_C, bias_C, epsilon=1e-5):
    """Output, mean of the groups' means, mean of their unbiased variances."""
    x = x_BTHWC.astype(np.float64)
    groups_GSTHWC = x.reshape(-1, sub_batch, *x.shape[1:])
    axes = (1, 2, 3, 4)
    mean = groups_GSTHWC.mean(axes, keepdims=True)
    var = groups_GSTHWC.var(axes, keepdims=True)
    y = (groups_GSTHWC - mean) / np.sqrt(var + epsilon) * scale_C + bias_C
    count = sub_batch * np.prod(x.shape[1:4])
    unbiased = groups_GSTHWC.var(axes, ddof=1) if count > 1 else groups_GSTHWC.var(axes)
    return y.reshape(x.shape), mean.reshape(-1, x.shape[-1]).mean(0), unbiased.mean(0)


def make_inputs(clips):
    rng = np.random.default_rng(clips)
    x = rng.normal(1.5, 2.0, (clips, *SHAPE)).astype(np.float32)
    x *= np.linspace(0.5, 3, clips, dtype=np.float32)[:, None, None, None, None]
    variables = {
        "params": {
            "scale": rng.normal(1, 0.3, 5).astype(np.float32),
            "bias": rng.normal(0, 0.3, 5).astype(np.float32),
        },
        "batch_stats": {
            "mean": rng.normal(0, 1, 5).astype(np.float32),
            "var": rng.uniform(0.5, 2, 5).astype(np.float32),
        },
    }
    return x, variables


def apply_on(devices, norm, variables, x):
    mesh = Mesh(np.array(jax.devices()[:devices]), (parallel.AXIS,))

    def step(variables, x):
        y, updated = norm.apply(variables, x, mutable=["batch_stats"])
        return y, lax.pmean(updated["batch_stats"], parallel.AXIS)

    mapped = parallel.pmap(
        step,
        mesh,
        in_specs=(parallel.REPLICATED, parallel.SPLIT),
        out_specs=(parallel.SPLIT, parallel.REPLICATED),
    )
    return mapped(parallel.replicate(variables, mesh), parallel.shard(x, mesh))


# Sub-batches of one clip, of a part of a device, of all of it, and over two to eight devices, as
# whole mini-batches or not; the others nightly.
CHOSEN = {1, 4, 8}, {1, 3, 4, 16}, {1, 4, 6, 8, 32}
CASES = [
    pytest.param(
        *(case := (devices, per_device, sub_batch)),
        marks=[] if all(n in chosen for n, chosen in zip(case, CHOSEN, strict=True)) else NIGHTLY,
    )
    for devices in (1, 2, 4, 8)
    for per_device in (1, 2, 3, 4, 8, 12, 16)
    for sub_batch in (1, 2, 4, 6, 8, 16, 32)
    if devices * per_device % sub_batch == 0
]


# On CPUs sub-batches are summed at once, elsewhere clip by clip; both forms run here.
PLATFORMS = pytest.mark.parametrize("platform", ["cpu", "gpu"])


@PLATFORMS
@pytest.mark.parametrize(("devices", "per_device", "sub_batch"), CASES)
def test_statistics_are_those_of_the_global_batch(devices, per_device, sub_batch, platform):
    x, variables = make_inputs(devices * per_device)
    norm = SubBatchNorm(sub_batch, train=True, axis_name=parallel.AXIS, platform=platform)
    y, stats = apply_on(devices, norm, variables, x)
    params, running = variables["params"], variables["batch_stats"]
    expected, mean, var = numpy_norm(x, sub_batch, params["scale"], params["bias"])
    np.testing.assert_allclose(y, expected, atol=2e-5)
    np.testing.assert_allclose(stats["mean"], 0.9 * running["mean"] + 0.1 * mean, atol=1e-5)
    np.testing.assert_allclose(stats["var"], 0.9 * running["var"] + 0.1 * var, rtol=1e-5)


@pytest.mark.parametrize(("devices", "sub_batch"), [(2, 16), (4, 8), (4, 16), (8, 8), (8, 12)])
def test_gradients_do_not_depend_on_the_number_of_devices(devices, sub_batch):
    clips = 48
    x, variables = make_inputs(clips)
    weights = np.random.default_rng(0).normal(size=x.shape).astype(np.float32)

    def gradients(devices):
        mesh = Mesh(np.array(jax.devices()[:devices]), (parallel.AXIS,))
        norm = SubBatchNorm(sub_batch, train=True, axis_name=parallel.AXIS)

        def loss(params, x, weights):
            variables_ = {"params": params, "batch_stats": variables["batch_stats"]}
            y, _ = norm.apply(variables_, x, mutable=["batch_stats"])
            return jnp.mean(jnp.square(y) * weights)

        def step(params, x, weights):
            in_params, in_x = jax.grad(loss, (0, 1))(params, x, weights)
            return lax.pmean(in_params, parallel.AXIS), in_x / lax.axis_size(parallel.AXIS)

        mapped = parallel.pmap(
            step,
            mesh,
            in_specs=(parallel.REPLICATED, parallel.SPLIT, parallel.SPLIT),
            out_specs=(parallel.REPLICATED, parallel.SPLIT),
        )
        arguments = parallel.shard((x, weights), mesh)
        return mapped(parallel.replicate(variables["params"], mesh), *arguments)

    for one, many in zip(
        jax.tree.leaves(gradients(1)), jax.tree.leaves(gradients(devices)), strict=True
    ):
        np.testing.assert_allclose(one, many, atol=1e-6)


def plain_norm(x_BTHWC, scale_C, bias_C, sub_batch):
    """By the definition, for automatic differentiation."""
    groups = x_BTHWC.reshape(-1, sub_batch, *x_BTHWC.shape[1:])
    mean = groups.mean((1, 2, 3, 4), keepdims=True)
    var = jnp.square(groups - mean).mean((1, 2, 3, 4), keepdims=True)
    return ((groups - mean) * lax.rsqrt(var + 1e-5) * scale_C + bias_C).reshape(x_BTHWC.shape)


@PLATFORMS
@pytest.mark.parametrize("sub_batch", [1, 2, 4, 12])
def test_gradients_are_those_of_the_definition(sub_batch, platform):
    x, variables = make_inputs(12)
    scale, bias = variables["params"]["scale"], variables["params"]["bias"]
    weights = np.random.default_rng(0).normal(size=x.shape).astype(np.float32)

    def gradients(norm):
        def loss(*inputs):
            return jnp.sum(jnp.sin(norm(*inputs)) * weights)

        return jax.jit(jax.grad(loss, (0, 1, 2)), compiler_options=xla_options.for_once("cpu"))

    def ours(x, scale, bias):
        return batch_norm(x, scale, bias, sub_batch, None, 1e-5, platform)[0]

    expected = gradients(partial(plain_norm, sub_batch=sub_batch))(x, scale, bias)
    found = gradients(ours)(x, scale, bias)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, atol=2e-5 * np.abs(b).max())
    half = gradients(ours)(jnp.asarray(x, jnp.bfloat16), scale, bias)
    assert [a.dtype for a in half] == [jnp.bfloat16, jnp.float32, jnp.float32]
    for a, b in zip(half, expected, strict=True):
        np.testing.assert_allclose(a.astype(jnp.float32), b, atol=0.05 * np.abs(b).max())


def test_gradients_of_constant_clips_are_finite():
    x, scale = jnp.full((4, *SHAPE), 3.0), jnp.ones(5)
    loss = jax.grad(lambda x: batch_norm(x, scale, scale, 2, None, 1e-5, "cpu")[0].sum())
    gradient = jax.jit(loss, compiler_options=xla_options.for_once("cpu"))(x)
    assert np.all(np.isfinite(gradient))


def test_inference_uses_the_running_statistics():
    x, variables = make_inputs(4)
    y = SubBatchNorm(sub_batch=2, train=False).apply(variables, x)
    params, running = variables["params"], variables["batch_stats"]
    expected = (x - running["mean"]) / np.sqrt(running["var"] + 1e-5)
    np.testing.assert_allclose(y, expected * params["scale"] + params["bias"], rtol=2e-5, atol=2e-5)


def test_sums_over_devices_are_added_in_a_fixed_order():
    mesh = Mesh(np.array(jax.devices()[:4]), (parallel.AXIS,))
    for per_device, sub_batch in ((2, 8), (2, 4), (3, 2)):

        def step(x, scale_C, bias_C, sub_batch=sub_batch):
            return batch_norm(x, scale_C, bias_C, sub_batch, parallel.AXIS, 1e-5, "gpu")[0]

        replicated = parallel.REPLICATED
        mapped = parallel.pmap(step, mesh, (parallel.SPLIT, replicated, replicated), parallel.SPLIT)
        program = mapped.lower(np.zeros((4 * per_device, *SHAPE)), np.ones(5), np.ones(5)).as_text()
        assert "all_reduce" in program
        assert "scatter" not in program  # which GPUs do in any order


def test_bfloat16_inputs_are_summed_in_float32():
    x, variables = make_inputs(8)
    x = jnp.asarray(x + 40, jnp.bfloat16)
    norm = SubBatchNorm(sub_batch=8, train=True, dtype=jnp.bfloat16)
    y, updated = norm.apply(variables, x, mutable=["batch_stats"])
    _, mean, _ = numpy_norm(np.asarray(x, np.float32), 8, 1.0, 0.0)
    stats = updated["batch_stats"]
    assert y.dtype == jnp.bfloat16
    assert stats["mean"].dtype == stats["var"].dtype == jnp.float32
    running = variables["batch_stats"]["mean"]
    np.testing.assert_allclose(stats["mean"], 0.9 * running + 0.1 * mean, rtol=1e-5)


def test_a_sub_batch_that_does_not_divide_the_batch_is_refused():
    x, variables = make_inputs(12)
    norm = SubBatchNorm(sub_batch=8, train=True, axis_name=parallel.AXIS)
    with pytest.raises(UserError, match="sub-batch of 8 does not divide the batch of 12 clips"):
        apply_on(4, norm, variables, x)


@pytest.mark.parametrize("sub_batch", [2, 4])
def test_a_product_is_normalised_as_if_it_had_been_computed_first(sub_batch):
    rng = np.random.default_rng(sub_batch)
    x = rng.uniform(0, 3, (4, 2, 5, 5, 8)).astype(np.float32)
    kernel = rng.normal(size=(8, 12)).astype(np.float32)
    scale, bias = rng.normal(size=(2, 12)).astype(np.float32)

    def expected(x, kernel, scale, bias):
        product = jnp.matmul(x, kernel, precision="highest")
        return batch_norm(product, scale, bias, sub_batch, None, 1e-5, "cpu")

    def found(x, kernel, scale, bias):
        return product_norm(x, kernel, scale, bias, sub_batch, 1e-5)

    inputs = x, kernel, scale, bias
    given = rng.normal(size=(*x.shape[:-1], 12)).astype(np.float32)

    @partial(jax.jit, static_argnums=0, compiler_options=xla_options.for_once("cpu"))
    def with_gradients(function, *inputs):
        results, pull = jax.vjp(function, *inputs)
        return results, pull((given, *map(jnp.zeros_like, results[1:])))

    (y, *moments), gradients = with_gradients(found, *inputs)
    (y_expected, *moments_expected), gradients_expected = with_gradients(expected, *inputs)
    np.testing.assert_allclose(y, y_expected, atol=2e-5)
    for a, b in zip(moments, moments_expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-5)  # a row for each sub-batch
    for a, b in zip(gradients, gradients_expected, strict=True):
        np.testing.assert_allclose(a, b, atol=2e-5 * np.abs(b).max())
