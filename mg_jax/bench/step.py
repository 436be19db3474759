"""Time, memory and compilation of an iteration on each grid, and the schedules' projected time.

Needs neither TensorFlow nor data: batches are random and lie on the devices. Iterations run as in
training: each is dispatched before the metrics of the last one are read.
"""

import pathlib
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from matplotlib.figure import Figure

from mg_jax.accelerators.forecast import MEASURED, format_forecast, project
from mg_jax.accelerators.hlo_costs import program_costs
from mg_jax.bench import device_limits
from mg_jax.bench.torch_peer import TorchPeer, format_peer
from mg_jax.grid import Grid, format_grid
from mg_jax.input.prepared import with_classes
from mg_jax.machine.progress import say, shown
from mg_jax.recipe import check_devices, schedules_of
from mg_jax.runtime import memory, parallel
from mg_jax.runtime.executables import Program
from mg_jax.runtime.state import TrainState
from mg_jax.training.arguments import step_arguments
from mg_jax.training.programs import compile_lowered, lower_program, train_program
from mg_jax.training.state import create_state
from mg_jax.training.step import batch_shapes

_WARM_UP = 2  # iterations before those that count


def measure(config, iterations: int, peer: TorchPeer | None = None) -> dict[str, Any]:
    """Measures every grid of the config's schedules, multigrid's and the baseline's.

    Args:
      config: of a run.
      iterations: on each grid.
      peer: takes turns with our iterations.
    """
    config = with_classes(config)
    schedules = schedules_of(config)
    mesh = parallel.make_mesh()
    check_devices(schedules["baseline"], mesh.size)
    limits = device_limits.measure(config.model.dtype, mesh)
    distinct = {grid for schedule in schedules.values() for grid in schedule.grid_counts()}
    grids = sorted(distinct, key=_extent, reverse=True)
    state, rows = create_state(config, mesh), {}
    print(device_limits.format_limits(limits), _HEADER, sep="\n")
    for grid in shown(grids, "measuring", "grid", len(grids)):
        state, rows[grid] = _measure_grid(config, mesh, state, grid, iterations, limits, peer)
        say(_line(rows[grid], rows[grids[0]]))
        if peer is not None:
            say(format_peer(rows[grid]))
    result = {
        "jax": jax.__version__,
        "model": config.model.to_dict(),
        "remat": config.run.remat,
        "limits": limits,
        "grids": list(rows.values()),
        **project(schedules, rows, MEASURED),
    }
    print(f"\n{format_forecast(result, MEASURED)}")
    return result


def _extent(grid: Grid) -> tuple[int, int, int]:
    """The sort key by which the base grid comes first."""
    return grid.frames, grid.size, grid.sub_batch


def _measure_grid(
    config,
    mesh: Mesh,
    state: TrainState,
    grid: Grid,
    iterations: int,
    limits: dict[str, Any],
    peer: TorchPeer | None,
) -> tuple[TrainState, dict[str, Any]]:
    program = train_program(grid)
    start = time.perf_counter()
    lowered = lower_program(config, mesh, state, program)
    lowered_at = time.perf_counter()
    step = compile_lowered(config, mesh, lowered)
    compiled_at = time.perf_counter()
    batch = random_batch(config, mesh, program)
    arguments = step_arguments(config, 0.0, mesh)

    def run(count: int) -> np.ndarray:
        nonlocal state
        state, seconds = _time_iterations(step, state, batch, arguments, count)
        return seconds

    compared = {}
    if peer is None:
        seconds = run(iterations)
    else:
        seconds, compared["peer"] = peer.measure(grid, run, iterations)
        compared["of_ours"] = compared["peer"]["iteration_s"] / float(np.median(seconds))
    costs = program_costs(step)  # of one device's program
    # Only CPUs analyse what is not compiled.
    analysed = lowered.cost_analysis() or {"flops": costs.flops}
    flops, moved = analysed["flops"] * mesh.size, costs.bytes * mesh.size
    median = float(np.median(seconds))
    row = {
        "grid": {
            "batch": grid.batch,
            "frames": grid.frames,
            "size": grid.size,
            "sub_batch": grid.sub_batch,
        },
        "iteration_s": median,
        "iteration_s_p10": float(np.percentile(seconds, 10)),
        "iteration_s_p90": float(np.percentile(seconds, 90)),
        "clips_per_s": grid.batch / median,
        "flops": flops,
        "of_matmul_peak": flops / median / limits["matmul_flops_per_s"],
        "bytes": moved,
        "of_bandwidth": moved / median / limits["copy_bytes_per_s"],
        "memory_bytes": memory.needed_bytes(step),
        "allocator_peak_bytes": memory.peak_bytes(),
        "lower_s": lowered_at - start,
        "compile_s": compiled_at - lowered_at,
        **compared,
    }
    return state, row


def _time_iterations(
    step: jax.stages.Compiled,
    state: TrainState,
    batch: dict[str, jax.Array],
    arguments: dict[str, jax.Array],
    iterations: int,
) -> tuple[TrainState, np.ndarray]:
    """Seconds from the end of an iteration to the end of the next."""
    ends, previous = [], None
    for _ in range(_WARM_UP + iterations + 1):
        state, metrics = step(state, batch, arguments)
        if previous is not None:
            jax.block_until_ready(previous)
            ends.append(time.perf_counter())
        previous = metrics
    return state, np.diff(ends[_WARM_UP - 1 :])


def random_batch(config, mesh: Mesh, program: Program) -> dict[str, jax.Array]:
    """A batch of noise, made on the devices."""
    sharding = NamedSharding(mesh, parallel.SPLIT)

    def make():
        batch = {}
        for name, leaf in batch_shapes(config, program).items():
            bits = jax.random.bits(jax.random.key(0), leaf.shape, jnp.uint8)
            # Labels 0 and 1 are valid for any number of classes.
            batch[name] = (bits if name == "clips" else bits % 2).astype(leaf.dtype)
        return batch

    return jax.jit(make, out_shardings=sharding)()


_HEADER = (
    f"{'clips x frames x size^2 / bn':<29} {'ms/it':>8} {'p10 - p90':>15} {'of base':>8} "
    f"{'clips/s':>8} {'TFLOP/s':>8} {'of peak':>8} {'of GB/s':>8} {'GB':>6} {'of base':>8} "
    f"{'compile s':>9}"
)


def _line(row: dict[str, Any], base: dict[str, Any]) -> str:
    seconds = row["iteration_s"]
    spread = f"{1e3 * row['iteration_s_p10']:.1f} - {1e3 * row['iteration_s_p90']:.1f}"
    return (
        f"{format_grid(row['grid'], sub_batch=True):<29} {1e3 * seconds:>8.1f} {spread:>15} "
        f"{seconds / base['iteration_s']:>8.2f} "
        f"{row['clips_per_s']:>8.1f} {row['flops'] / seconds / 1e12:>8.3f} "
        f"{row['of_matmul_peak']:>8.1%} {row['of_bandwidth']:>8.1%} "
        f"{row['memory_bytes'] / 1e9:>6.2f} "
        f"{row['memory_bytes'] / base['memory_bytes']:>8.2f} "
        f"{row['lower_s'] + row['compile_s']:>9.1f}"
    )


def plot(result: dict[str, Any], workdir: pathlib.Path) -> pathlib.Path:
    """Draws time per iteration and memory by grid, and returns the PNG's path."""
    rows = result["grids"]
    texts = [format_grid(row["grid"], sub_batch=True) for row in rows]
    names = [text.replace(" x ", "\u00d7").replace("^2", "\u00b2") for text in texts]
    panels = (
        ("ms per iteration", [1e3 * row["iteration_s"] for row in rows]),
        ("GB on each device", [row["memory_bytes"] / 1e9 for row in rows]),
    )
    figure = Figure(figsize=(10, 1.2 + 0.35 * len(rows)), layout="constrained")
    for axes, (title, values) in zip(figure.subplots(1, 2, sharey=True), panels, strict=True):
        bars = axes.barh(
            range(len(rows)), values, color=["#444444", *["#4c78a8"] * (len(rows) - 1)]
        )
        axes.bar_label(bars, fmt="%.3g", padding=3)
        axes.axvline(values[0], color="#444444", linewidth=0.8, linestyle=":")
        axes.margins(x=0.15)
        axes.set_xlabel(title)
        axes.set_yticks(range(len(rows)), names)
        axes.spines[["top", "right"]].set_visible(False)
    axes.invert_yaxis()
    path = workdir / "step.png"
    figure.savefig(path, dpi=150)
    return path
