"""Compiles programs for absent devices."""

import contextlib
import time
from collections.abc import Iterator

import jax
from jax.sharding import Mesh

from mg_jax.accelerators.hlo_costs import ProgramCosts, program_costs
from mg_jax.input.sampling import all_views, centre_view
from mg_jax.runtime import xla_options
from mg_jax.runtime.executables import Program
from mg_jax.runtime.parallel import platform
from mg_jax.schedule import Schedule
from mg_jax.training.programs import (
    lower_program,
    statistics_program,
    train_program,
    views_program,
)
from mg_jax.training.state import state_shapes


def compile_absent(
    lowered: jax.stages.Lowered, mesh: Mesh, *, deterministic: bool = False
) -> jax.stages.Compiled:
    """Compiles for the devices of a mesh of `topology.make_mesh`; the result cannot be run.

    Args:
      lowered: for these devices.
      mesh: the devices.
      deterministic: as `run.deterministic`.
    """
    options = xla_options.for_absent(platform(mesh), deterministic=deterministic)
    with _uncached():
        return lowered.compile(compiler_options=options)


@contextlib.contextmanager
def _uncached() -> Iterator[None]:
    """Without JAX's cache of programs, which cannot read those of absent devices back."""
    name = "jax_persistent_cache_min_compile_time_secs"
    before = jax.config.values[name]
    jax.config.update(name, float("inf"))
    try:
        yield
    finally:
        jax.config.update(name, before)


def compile_program(config, mesh: Mesh, program: Program) -> tuple[ProgramCosts, float]:
    """The costs of a program of a run, and the CPU seconds that its compilation took.

    Args:
      config: of the run.
      mesh: of absent devices.
      program: to compile.
    """
    start = time.process_time()
    lowered = lower_program(config, mesh, state_shapes(config), program)
    compiled = compile_absent(lowered, mesh, deterministic=config.run.deterministic)
    compile_s = time.process_time() - start
    return program_costs(compiled), compile_s


def schedule_programs(config, schedule: Schedule, mesh: Mesh) -> list[Program]:
    """All programs that a run of the schedule may need, those that train first."""
    train = [train_program(grid) for grid in schedule.grids_from(0)]
    statistics = [statistics_program(phase.grids[-1]) for phase in schedule.phases]
    views = [views_program(config, view(config), mesh) for view in (centre_view, all_views)]
    return list(dict.fromkeys([*train, *statistics, *views]))
