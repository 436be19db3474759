"""What an iteration on each grid costs an absent accelerator, by its compiled program.

Nothing is run: kernels, bytes, FLOPs and memory are counted in what the compiler makes for it.
Times are lower bounds by count, see `roofline.ASSUMPTIONS`.
"""

import dataclasses
from typing import Any

import jax
from jax.sharding import Mesh

from mg_jax.accelerators.compilation import compile_program
from mg_jax.accelerators.devices import Accelerator
from mg_jax.accelerators.forecast import COUNTED, format_forecast, project
from mg_jax.accelerators.hlo_kinds import KINDS
from mg_jax.accelerators.roofline import ASSUMPTIONS, kernel_seconds, program_seconds
from mg_jax.grid import Grid, format_grid
from mg_jax.machine.progress import say, shown
from mg_jax.recipe import schedules_of
from mg_jax.tools.plan_absent import absent_devices
from mg_jax.training.programs import train_program

_COSTLIEST = 20  # kernels that are named


def measure(config, name: str, gpus: int, hosts: int) -> dict[str, Any]:
    """Compiles training on every grid of the config's schedules, multigrid's and the baseline's.

    Args:
      config: of a run.
      name: of the accelerator, see `devices.ACCELERATORS`.
      gpus: of each host.
      hosts: of the run.

    Raises:
      UserError: as `absent_devices` does.
    """
    config, accelerator, mesh = absent_devices(config, name, gpus, hosts)
    schedules = schedules_of(config)
    grids = {grid for schedule in schedules.values() for grid in schedule.grid_counts()}
    print(f"{mesh.size} x {accelerator.title}, {gpus} to a host\n\n{ASSUMPTIONS}\n\n{_HEADER}")
    rows: dict[Grid, dict[str, Any]] = {}
    # The base grid comes first.
    ordered = sorted(grids, key=lambda g: (g.frames, g.size, g.sub_batch), reverse=True)
    for grid in shown(ordered, "compiling", "grid", len(ordered)):
        rows[grid] = _measure_grid(config, mesh, accelerator, grid)
        say(_line(rows[grid], rows[ordered[0]]))
    result = {
        "jax": jax.__version__,
        "gpu": name,
        "gpus": gpus,
        "hosts": hosts,
        "sheet": accelerator.sheet,
        "assumptions": ASSUMPTIONS,
        "model": config.model.to_dict(),
        "remat": config.run.remat,
        "grids": list(rows.values()),
        **project(schedules, rows, COUNTED),
    }
    print(f"\n{_format_kinds(result)}\n\n{_format_costliest(result)}\n")
    print(format_forecast(result, COUNTED))
    return result


def _measure_grid(config, mesh: Mesh, accelerator: Accelerator, grid: Grid) -> dict[str, Any]:
    costs, compile_s = compile_program(config, mesh, train_program(grid))

    def seconds(kernel):
        return kernel_seconds(kernel, accelerator)

    costliest = costs.costliest(_COSTLIEST, seconds)
    kinds = costs.by_kind()
    for kind, row in kinds.items():
        of_kind = (kernel for kernel in costs.kernels if kernel.kind == kind)
        row["at_least_s"] = sum(kernel.calls * seconds(kernel) for kernel in of_kind)
    at_least = program_seconds(costs, accelerator)
    return {
        "grid": {
            "batch": grid.batch,
            "frames": grid.frames,
            "size": grid.size,
            "sub_batch": grid.sub_batch,
        },
        "kernels": costs.launches,
        "bytes": costs.bytes * mesh.size,
        "bytes_per_clip": costs.bytes * mesh.size / grid.batch,
        "flops": costs.flops * mesh.size,
        "at_least_s": at_least,
        "clips_per_s_at_most": grid.batch / at_least,
        "memory_bytes": costs.memory_bytes,
        "temp_bytes": costs.temp_bytes,
        "compile_cpu_s": compile_s,
        "kinds": kinds,
        "costliest": [
            {**dataclasses.asdict(kernel), "at_least_s": kernel.calls * seconds(kernel)}
            for kernel in costliest
        ],
    }


_HEADER = (
    f"{'clips x frames x size^2 / bn':<29} {'kernels':>7} {'GB':>7} {'GB/clip':>8} {'TFLOP':>7} "
    f"{'ms at least':>11} {'of base':>8} {'clips/s <=':>10} {'memory GB':>9} {'of base':>8} "
    f"{'temporary':>9} {'CPU s':>6}"
)


def _line(row: dict[str, Any], base: dict[str, Any]) -> str:
    return (
        f"{grid_name(row)} {row['kernels']:>7,} {row['bytes'] / 1e9:>7.4g} "
        f"{row['bytes_per_clip'] / 1e9:>8.3g} {row['flops'] / 1e12:>7.3g} "
        f"{1e3 * row['at_least_s']:>11.4g} {row['at_least_s'] / base['at_least_s']:>8.2f} "
        f"{row['clips_per_s_at_most']:>10.4g} {row['memory_bytes'] / 1e9:>9.3g} "
        f"{row['memory_bytes'] / base['memory_bytes']:>8.2f} {row['temp_bytes'] / 1e9:>9.3g} "
        f"{row['compile_cpu_s']:>6.0f}"
    )


def grid_name(row: dict[str, Any]) -> str:
    """A grid and its sub-batch, at the tables' width."""
    return f"{format_grid(row['grid'], sub_batch=True):<29}"


def _format_kinds(result: dict[str, Any]) -> str:
    """Kernels of one device by kind, how many and their gigabytes, a line for each grid."""
    header = " ".join(f"{kind.replace('convolution', 'conv.'):>15}" for kind in KINDS)
    lines = [f"{'kernels: gigabytes':<29} {header}"]
    for row in result["grids"]:
        cells = (row["kinds"].get(kind, {"launches": 0, "bytes": 0}) for kind in KINDS)
        texts = (f"{cell['launches']:,}: {cell['bytes'] / 1e9:.3g}" for cell in cells)
        lines.append(f"{grid_name(row)} " + " ".join(f"{text:>15}" for text in texts))
    return "\n".join(lines)


def _format_costliest(result: dict[str, Any]) -> str:
    """The base grid's costliest kernels."""
    base = result["grids"][0]
    lines = [
        f"the {len(base['costliest'])} costliest kernels of {grid_name(base).strip()}:",
        f"{'ms at least':>11} {'of all':>6} {'GB':>7} {'TFLOP':>7}  {'kind':<22} layer",
    ]
    for kernel in base["costliest"]:
        calls = kernel["calls"]
        lines.append(
            f"{1e3 * kernel['at_least_s']:>11.3g} "
            f"{kernel['at_least_s'] / base['at_least_s']:>6.1%} "
            f"{calls * kernel['bytes'] / 1e9:>7.3g} {calls * kernel['flops'] / 1e12:>7.3g}  "
            f"{kernel['kind']:<22} {kernel['layer'] or kernel['name']}"
            + (f", {kernel['direction']}" if kernel["direction"] else "")
        )
    return "\n".join(lines)
