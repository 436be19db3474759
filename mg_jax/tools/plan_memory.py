"""Device memory that a schedule's iterations need, as the compiler plans it."""

import dataclasses
import math
import pathlib
from collections.abc import Callable
from functools import partial
from typing import Any

from jax.sharding import Mesh

from mg_jax.errors import UserError
from mg_jax.grid import Grid
from mg_jax.input.prepared import with_classes
from mg_jax.machine.atomic_file import write_json
from mg_jax.machine.progress import say, shown
from mg_jax.recipe import check_devices, schedule_from_config
from mg_jax.runtime import memory, parallel
from mg_jax.runtime.executables import Program
from mg_jax.runtime.memory import DEVICE_AHEAD
from mg_jax.runtime.program_cache import cache_programs
from mg_jax.training.programs import batch_bytes, compile_lowered, lower_program, train_program
from mg_jax.training.state import state_shapes
from mg_jax.training_settings import check_parts

# What makes a batch need less memory.
LESS = "--config.run.remat=True, --config.run.accumulate and --config.model.dtype=bfloat16"


def write_memory_plan(config, workdir: pathlib.Path, limit_gb: float | None) -> None:
    """Compiles every grid's iteration for this machine's devices, prints what each needs.

    Writes `workdir/memory.json`. Compiled programs are kept for training.

    Args:
      config: of the run.
      workdir: of the run.
      limit_gb: gigabytes that a device has; None for what the devices here report.

    Raises:
      UserError: if a grid needs more, naming the largest batch that does not; or as
        `present_devices` does.
    """
    config, mesh = present_devices(config)
    schedule = schedule_from_config(config)
    limit = memory.limit_bytes() if limit_gb is None else limit_gb * 1e9
    cache_programs(config.run.cache_dir, parallel.platform(mesh))
    kind = mesh.devices.flat[0].device_kind
    print(f"\nmemory of each device, by the compiler for {mesh.size} x {kind}:")
    needs = {}
    grids = list(schedule.grids_from(0))
    for grid in shown(grids, "compiling", "grid", len(grids)):
        needs[grid] = needed_bytes(config, mesh, grid)
        name = f"{grid}, sub-batch {grid.sub_batch}"
        say(f"{name:<36} {needs[grid] / 1e9:>8.3g} GB")
    rows = [{**dataclasses.asdict(grid), "bytes": needed} for grid, needed in needs.items()]
    plan = {"device": kind, "devices": mesh.size, "limit_bytes": limit, "grids": rows}
    write_json(workdir / "memory.json", plan)
    worst = max(needs, key=needs.__getitem__)
    if limit is None or needs[worst] <= limit:
        print(f"see {workdir / 'memory.json'}; --mode=train trains with what is compiled")
        return
    print(f"more than {limit / 1e9:.3g} GB; looking for the largest batch that fits", flush=True)
    fits = what_fits(config, mesh, worst, limit, partial(needed_bytes, config, mesh))
    raise UserError(
        f"grid {worst} needs {needs[worst] / 1e9:.3g} GB of each device, which has "
        f"{limit / 1e9:.3g} GB; {fits}. "
        f"{LESS} need less"
    )


def present_devices(config) -> tuple[Any, Mesh]:
    """The config with its number of classes, and this machine's devices.

    Raises:
      UserError: for invalid settings, or a batch that the number of devices does not divide, or
        run.accumulate.
    """
    config, mesh = with_classes(config), parallel.make_mesh()
    schedule = schedule_from_config(config)
    check_devices(schedule, mesh.size)
    check_parts(config, schedule, mesh.size)
    return config, mesh


def needed_bytes(config, mesh: Mesh, grid: Grid) -> int:
    """Bytes of a device that training on a grid needs, with the batches that lie there ahead."""
    program = train_program(grid)
    lowered = lower_program(config, mesh, state_shapes(config), program)
    step = compile_lowered(config, mesh, lowered)
    return memory.needed_bytes(step) + ahead_bytes(config, mesh, program)


def ahead_bytes(config, mesh: Mesh, program: Program) -> int:
    """Bytes of a device that batches take which wait there while a program runs.

    Evaluations come between iterations, whose next batches wait as well.
    """
    waiting = batch_bytes(config, program)
    if program.kind != "train":
        grids = schedule_from_config(config).grids_from(0)
        waiting += max(batch_bytes(config, train_program(grid)) for grid in grids)
    return DEVICE_AHEAD * waiting // mesh.size


def what_fits(
    config, mesh: Mesh, worst: Grid, limit: float, needed_of: Callable[[Grid], int]
) -> str:
    """The largest batch that fits, in words.

    Args:
      config: of the run.
      mesh: the devices.
      worst: the grid that needs most.
      limit: bytes that a device has.
      needed_of: bytes of a device that training on a grid needs.
    """
    parts = config.run.accumulate

    def whole(sub_batch: int) -> int:
        """What batches are multiples of; parts are whole sub-batches of a device."""
        return mesh.size * parts * sub_batch if parts > 1 else math.lcm(mesh.size, sub_batch)

    unit = whole(config.sub_batch or 1)

    def needed(units: int) -> int:
        part = whole(worst.sub_batch if config.sub_batch else 1)
        batch = max(round(worst.batch * units * unit / config.batch / part), 1) * part
        sub_batch = worst.sub_batch if config.sub_batch else batch
        return needed_of(dataclasses.replace(worst, batch=batch, sub_batch=sub_batch))

    units = largest_within(needed, -(-config.batch // unit), limit)
    if not units:
        return f"not even batch={unit} fits"
    return f"--config.batch={units * unit} is the largest that fits"


def largest_within(needed: Callable[[int], float], most: int, limit: float) -> int:
    """The largest n in 0 ... most - 1 with needed(n) <= limit, where 0 needs nothing.

    `needed` grows with n, nearly in proportion, so few calls suffice; each of them compiles.
    """
    below, above, needs, halve = 0, most, {0: 0.0}, False
    while above - below > 1:
        guess, width = (below + above) // 2, above - below
        known = sorted(needs)[-2:]
        if len(known) == 2 and not halve:
            (n0, n1), (need0, need1) = known, (needs[n] for n in known)
            if need1 > need0:
                guess = n0 + int((limit - need0) / (need1 - need0) * (n1 - n0))
                guess = min(max(guess, below + 1), above - 1)
        needs[guess] = needed(guess)
        below, above = (guess, above) if needs[guess] <= limit else (below, guess)
        halve = above - below > width / 2
    return below
