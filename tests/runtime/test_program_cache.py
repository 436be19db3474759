"""What is compiled once serves other runs: wherever the cache lies, on fewer cores."""

import os
import shutil
import subprocess
import sys

import pytest

from tests import runs

PROGRAM = """
import sys
import jax, jax.numpy as jnp
from mg_jax.runtime import program_cache
from mg_jax.runtime.executables import Executables, Program
from mg_jax.runtime.kept_programs import KeptPrograms

program_cache.cache_programs(sys.argv[1], "cpu")
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
step = jax.jit(lambda x: jnp.tanh(x @ x).sum())
kept = KeptPrograms("the test", jax.devices())
lower = lambda program: step.lower(jnp.zeros((program.size, program.size)))
executables = Executables(lambda program: kept.lower(program, lambda: lower(program)))
key = Program("train", 8, 4, 100, 8)
executables.get(key)
print(executables.found, executables.format_origin(key))
"""


def compiled(folder, *prefix, **environment):
    """How many programs were found in the folder, and what is said of it."""
    done = subprocess.run(
        [*prefix, sys.executable, "-c", PROGRAM, str(folder)],
        cwd=runs.ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    found, _, said = done.stdout.strip().partition(" ")
    return int(found), said


def test_a_kept_program_serves_in_another_folder_and_on_one_core(tmp_path):
    first, moved = tmp_path / "first", tmp_path / "elsewhere" / "moved"
    assert compiled(first) == (
        0,
        f"was compiled; {first} had none for this program, machine, XLA_FLAGS and JAX",
    )
    shutil.copytree(first, moved)
    if shutil.which("taskset") is None:
        pytest.skip("no taskset")
    core = str(min(os.sched_getaffinity(0)))
    assert compiled(moved, "taskset", "-c", core) == (1, f"came from {moved}")
    assert compiled(first, XLA_FLAGS="--xla_cpu_enable_fast_math=false")[0] == 0
