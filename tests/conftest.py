"""Tests run on eight CPU devices; nothing here imports TensorFlow before a test needs it."""

import os
import pathlib

os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=8"
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import jax
import pytest

# Compiled programs are kept between the tests of one checkout, in process and in subprocesses.
CACHE = pathlib.Path(__file__).parent.parent / ".cache" / "programs"
jax.config.update("jax_compilation_cache_dir", str(CACHE))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)


@pytest.fixture(scope="session")
def cache_dir() -> pathlib.Path:
    """Where subprocesses keep their compiled programs."""
    return CACHE
