"""The options of XLA that runs set."""

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import NamedSharding

from mg_jax.accelerators.compilation import compile_absent
from mg_jax.models.conv import pointwise
from mg_jax.models.conv2d import conv2d
from mg_jax.runtime import parallel, xla_options
from tests import absent


def test_on_accelerators_only_deterministic_programs_for_gpus_have_options(monkeypatch):
    monkeypatch.delenv("XLA_FLAGS")
    for platform in ("gpu", "tpu"):
        assert xla_options.for_run(platform, deterministic=False) == {}
    for deterministic in (False, True):
        assert xla_options.for_run("cpu", deterministic=deterministic) == xla_options.CPU
    assert xla_options.for_run("gpu", deterministic=True) == xla_options.DETERMINISTIC


def test_this_version_of_xla_knows_the_options_for_cpus(monkeypatch):
    monkeypatch.delenv("XLA_FLAGS")
    for options in (xla_options.for_run("cpu", deterministic=False), xla_options.for_once("cpu")):
        jax.jit(jnp.tanh, compiler_options=options)(1.0)


def test_only_sums_are_left_to_other_libraries():
    def loss(x_BHWC, kernel_HWIO, kernel_IO):  # normalised like a batch, without what is linear
        y_BHWC = conv2d(x_BHWC, kernel_HWIO, (1, 1), ((1, 1), (1, 1)))
        z_BHWC = pointwise(jax.nn.relu(y_BHWC - y_BHWC.mean((0, 1, 2))), kernel_IO)
        return jnp.max(jax.nn.relu(z_BHWC - z_BHWC.mean((0, 1, 2))))

    shapes = (64, 28, 28, 64), (3, 3, 64, 64), (64, 64)
    grad = jax.jit(jax.value_and_grad(loss, (0, 1, 2)), compiler_options=xla_options.CPU)
    compiled = grad.lower(*(jax.ShapeDtypeStruct(s, jnp.float32) for s in shapes)).compile()
    text = compiled.as_text()
    # What a library computes lies in a computation of its own, outside the entry.
    _, entry = text.split("\nENTRY")
    for operation in (" convolution(", " dot("):
        assert text.count(operation) == entry.count(operation) == 3
    assert "__ynn_fusion" in entry


def test_programs_that_run_once_take_the_options_of_their_platform(monkeypatch):
    monkeypatch.delenv("XLA_FLAGS")
    level = {"xla_backend_optimization_level": 0}
    assert xla_options.for_once("cpu") == {**level, **xla_options.CPU}
    assert xla_options.for_once("gpu") == xla_options.for_once("tpu") == level
    monkeypatch.setenv("XLA_FLAGS", "--xla_backend_optimization_level=2")
    assert xla_options.for_once("gpu") == {}


@pytest.mark.parametrize("value", ["=4", " 4", ""])
def test_the_environment_wins(monkeypatch, value):
    monkeypatch.setenv("XLA_FLAGS", f"--xla_some=1 --xla_gpu_autotune_level{value}")
    options = xla_options.for_run("gpu", deterministic=True)
    assert options == {
        name: value
        for name, value in xla_options.DETERMINISTIC.items()
        if name != "xla_gpu_autotune_level"
    }


def test_the_compiler_knows_the_options_and_makes_additions_to_indices_deterministic():
    mesh = absent.mesh("h100")
    sharding = NamedSharding(mesh, parallel.REPLICATED)
    x, i = (jax.ShapeDtypeStruct((64,), t, sharding=sharding) for t in (jnp.float32, jnp.int32))
    lowered = jax.jit(lambda x, i: jnp.zeros(64).at[i].add(x)).lower(x, i)
    free, fixed = (compile_absent(lowered, mesh, deterministic=d).as_text() for d in (False, True))
    assert "unique_indices=true" not in free
    assert "scatter" not in fixed or "unique_indices=true" in fixed
