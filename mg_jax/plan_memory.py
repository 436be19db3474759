"""What a schedule's iterations need of a device's memory, by the compiler's own plan."""

import math
import pathlib
from collections.abc import Callable
from typing import Any

from mg_jax import memory, parallel
from mg_jax.atomic_file import write_json
from mg_jax.programs import cache_programs, train_program
from mg_jax.recipe import check_devices, schedule_from_config
from mg_jax.schedule import Schedule
from mg_jax.train_step import lower_train_step, state_shapes


def write_memory_plan(config, workdir: pathlib.Path, limit_gb: float | None) -> None:
    """Compiles every grid's iteration for this machine's devices, prints what each needs.

    Writes `workdir/memory.json`. Compiled programs are kept for training.

    Args:
      config: of the run.
      workdir: of the run.
      limit_gb: gigabytes that a device has; None for what the devices here say.

    Raises:
      ValueError: if a grid needs more, naming the largest batch that does not.
    """
    mesh = parallel.make_mesh()
    schedule = schedule_from_config(config)
    check_devices(schedule, mesh.size)
    limit = memory.limit_bytes() if limit_gb is None else limit_gb * 1e9
    cache_programs(config.run.cache_dir)
    kind = mesh.devices.flat[0].device_kind
    print(f"\nmemory of each device, by the compiler for {mesh.size} x {kind}:")
    rows = []
    for index, grid in enumerate(schedule.grids_from(0)):
        needed = needed_bytes(config, schedule, index)
        rows.append({"grid": str(grid), "sub_batch": grid.sub_batch, "bytes": needed})
        print(f"{grid!s:<24} {needed / 1e9:>8.2f} GB", flush=True)
    plan: dict[str, Any] = {"device": kind, "devices": mesh.size, "limit_bytes": limit}
    write_json(workdir / "memory.json", {**plan, "grids": rows})
    worst = max(range(len(rows)), key=lambda index: rows[index]["bytes"])
    if limit is None or rows[worst]["bytes"] <= limit:
        return
    print(f"more than {limit / 1e9:.1f} GB; looking for the largest batch that fits", flush=True)
    raise ValueError(
        f"grid {rows[worst]['grid']} needs {rows[worst]['bytes'] / 1e9:.2f} GB of each device, "
        f"which has {limit / 1e9:.2f} GB; {_what_fits(config, worst, limit)}, or try "
        "--config.run.remat=True or --config.model.dtype=bfloat16"
    )


def needed_bytes(config, schedule: Schedule, index: int) -> int:
    """Bytes of a device that an iteration on the schedule's grid number `index` needs."""
    mesh = parallel.make_mesh()
    program = train_program(list(schedule.grids_from(0))[index])
    return memory.needed_bytes(
        lower_train_step(config, mesh, state_shapes(config), program).compile()
    )


def _what_fits(config, index: int, limit: float) -> str:
    unit = math.lcm(parallel.make_mesh().size, config.sub_batch)

    def needed(units: int) -> int:
        smaller = config.copy_and_resolve_references()
        smaller.batch = units * unit
        return needed_bytes(smaller, schedule_from_config(smaller), index)

    units = largest_within(needed, config.batch // unit, limit)
    if not units:
        return f"not even batch={unit} fits"
    return f"--config.batch={units * unit} is the largest that fits"


def largest_within(needed: Callable[[int], float], most: int, limit: float) -> int:
    """The largest n in 0 ... most - 1 with needed(n) <= limit, where 0 needs nothing.

    `needed` rises, and nearly in proportion, so that few calls do; each of them compiles.
    """
    below, above, needs = 0, most, {0: 0.0}
    while above - below > 1:
        # By the two largest that are known to fit, or half way.
        known = sorted(needs)[-2:]
        if len(known) == 2 and needs[known[1]] > needs[known[0]]:
            slope = (needs[known[1]] - needs[known[0]]) / (known[1] - known[0])
            guess = known[1] + int((limit - needs[known[1]]) / slope)
        else:
            guess = (below + above) // 2
        guess = min(max(guess, below + 1), above - 1)
        needs[guess] = needed(guess)
        if needs[guess] <= limit:
            below = guess
        else:
            above = guess
    return below
