"""What a schedule needs of absent accelerators: memory, and the least time."""

import dataclasses
import math
import pathlib
from typing import Any

import jax
from jax.sharding import Mesh

from mg_jax.accelerators import topology
from mg_jax.accelerators.compilation import compile_program, schedule_programs
from mg_jax.accelerators.devices import Accelerator, find_accelerator
from mg_jax.accelerators.forecast import COUNTED, format_forecast, project
from mg_jax.accelerators.roofline import ASSUMPTIONS, program_seconds
from mg_jax.errors import UserError
from mg_jax.grid import Grid
from mg_jax.input.prepared import with_classes
from mg_jax.machine.atomic_file import write_json
from mg_jax.machine.progress import say, shown
from mg_jax.recipe import check_devices, schedule_from_config, schedules_of
from mg_jax.runtime.executables import Program
from mg_jax.tools.plan_memory import LESS, ahead_bytes, what_fits
from mg_jax.training.programs import train_program
from mg_jax.training.state import state_shapes
from mg_jax.training_settings import check_parts

# Of a GPU's memory, what JAX takes unless XLA_PYTHON_CLIENT_MEM_FRACTION says otherwise.
_GPU_SHARE = 0.75


def write_absent_plan(
    config, workdir: pathlib.Path, name: str, gpus: int, hosts: int, limit_gb: float | None
) -> None:
    """Compiles every program of a run for absent accelerators; prints what they need.

    Writes `workdir/gpu_plan.json`. Nothing is opened or run.

    Args:
      config: of the run.
      workdir: of the run.
      name: of the accelerator, see `devices.ACCELERATORS`.
      gpus: of each host.
      hosts: of the run.
      limit_gb: gigabytes that XLA may use of a device; None for JAX's share of its memory.

    Raises:
      UserError: if a program needs more, naming the largest batch that does not; or as
        `absent_devices` does.
    """
    config, accelerator, mesh = absent_devices(config, name, gpus, hosts)
    schedule = schedule_from_config(config)
    limit = _limit(accelerator, limit_gb)
    print(
        f"\nprograms for {mesh.size} x {accelerator.title}, {gpus} to a host, of which "
        f"{limit / 1e9:.3g} GB each are used; compiled here and not run:",
        flush=True,
    )
    programs = schedule_programs(config, schedule, mesh)
    rows = {}
    for program in shown(programs, "compiling", "program", len(programs)):
        rows[program] = _row(config, mesh, accelerator, program)
        say(_line(program, rows[program]))
    grids = {grid: rows[train_program(grid)] for grid in schedule.grids_from(0)}
    forecast = project(schedules_of(config), grids, COUNTED)
    print(f"\n{format_forecast(forecast, COUNTED)}\n\n{ASSUMPTIONS}\n")
    plan = {
        "gpu": name,
        "gpus": gpus,
        "hosts": hosts,
        "limit_bytes": limit,
        "assumptions": ASSUMPTIONS,
        "programs": list(rows.values()),
        **forecast,
    }
    write_json(workdir / "gpu_plan.json", plan)
    _check_memory(config, mesh, accelerator, rows, limit)
    print(f"everything fits; {_room(config, mesh, rows, limit)}; see {workdir / 'gpu_plan.json'}")


def absent_devices(config, name: str, gpus: int, hosts: int) -> tuple[Any, Accelerator, Mesh]:
    """The config with its number of classes, the accelerators' kind, and all of them.

    Arguments as of `write_absent_plan`.

    Raises:
      UserError: for invalid settings or numbers of devices; where the compiler for them is not
        installed.
    """
    accelerator, config = find_accelerator(name), with_classes(config)
    mesh = topology.make_mesh(accelerator, gpus, hosts)
    schedule = schedule_from_config(config)
    check_devices(schedule, mesh.size)
    check_parts(config, schedule, mesh.size)
    return config, accelerator, mesh


def _limit(accelerator: Accelerator, limit_gb: float | None) -> float:
    if limit_gb is not None:
        return limit_gb * 1e9
    return accelerator.memory_bytes * (_GPU_SHARE if accelerator.cuda else 1)


def _row(config, mesh: Mesh, accelerator: Accelerator, program: Program) -> dict[str, Any]:
    costs, compile_s = compile_program(config, mesh, program)
    return {
        **dataclasses.asdict(program),
        "memory_bytes": costs.memory_bytes + ahead_bytes(config, mesh, program),
        "temp_bytes": costs.temp_bytes,
        "kernels": costs.launches,
        "collectives": costs.by_kind().get("collective", {"launches": 0})["launches"],
        "bytes": costs.bytes * mesh.size,
        "flops": costs.flops * mesh.size,
        "at_least_s": program_seconds(costs, accelerator),
        "compile_cpu_s": compile_s,
    }


def _line(program: Program, row: dict[str, Any]) -> str:
    return (
        f"{program!s:<48} {row['memory_bytes'] / 1e9:>7.3g} GB, at least "
        f"{1e3 * row['at_least_s']:>7.3g} ms"
    )


def _check_memory(
    config,
    mesh: Mesh,
    accelerator: Accelerator,
    rows: dict[Program, dict[str, Any]],
    limit: float,
) -> None:
    """Raises UserError where a program needs more than a device has."""
    worst = max(rows, key=lambda program: rows[program]["memory_bytes"])
    needed = rows[worst]["memory_bytes"]
    if needed <= limit:
        return
    message = (
        f"{worst} needs {needed / 1e9:.3g} GB of each {accelerator.title}, of which "
        f"{limit / 1e9:.3g} GB are used"
    )
    advice = f"{LESS} need less, so do more GPUs"
    if worst.kind != "train":
        raise UserError(f"{message}; a smaller --config.batch needs less. {advice}")
    print(f"more than {limit / 1e9:.3g} GB; looking for the largest batch that fits", flush=True)
    grids = schedule_from_config(config).grids_from(0)
    grid = next(grid for grid in grids if train_program(grid) == worst)

    def needed_of(grid: Grid) -> int:
        return _row(config, mesh, accelerator, train_program(grid))["memory_bytes"]

    raise UserError(f"{message}; {what_fits(config, mesh, grid, limit, needed_of)}. {advice}")


def _room(config, mesh: Mesh, rows: dict[Program, dict[str, Any]], limit: float) -> str:
    """The batch that would fill the memory, if all but the state grows in proportion to it."""
    state = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state_shapes(config)))
    worst = max(row["memory_bytes"] for row in rows.values() if row["kind"] == "train")
    unit = math.lcm(mesh.size, config.sub_batch or 1)
    batch = config.batch * (limit - state) / (worst - state)
    return f"in proportion --config.batch={int(batch) // unit * unit} fills the memory"
