"""The options of XLA that runs set."""

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import NamedSharding

from mg_jax.accelerators.compilation import compile_absent
from mg_jax.runtime import parallel, xla_options
from tests import absent


def test_on_accelerators_only_deterministic_programs_for_gpus_have_options(monkeypatch):
    monkeypatch.delenv("XLA_FLAGS")
    for platform in ("gpu", "tpu"):
        assert xla_options.for_run(platform, deterministic=False) == {}
    for deterministic in (False, True):
        assert xla_options.for_run("cpu", deterministic=deterministic) == xla_options.CPU
    assert xla_options.for_run("gpu", deterministic=True) == xla_options.DETERMINISTIC


def test_this_version_of_xla_knows_the_options_for_cpus():
    for options in (xla_options.for_run("cpu", deterministic=False), xla_options.ONCE):
        jax.jit(jnp.tanh, compiler_options=options)(1.0)


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
