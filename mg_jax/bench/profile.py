"""A training step's kernels as the device timed them, beside what each takes at least by count.

The step is compiled for this machine's device, its kernels are counted, and a few iterations run
under JAX's profiler. Both name a kernel after its instruction, so they can be told together. Needs
neither TensorFlow nor data.
"""

import collections
import gzip
import json
import pathlib
import tempfile
from typing import Any

import jax

from mg_jax.accelerators.devices import ACCELERATORS, Accelerator
from mg_jax.accelerators.hlo_costs import ProgramCosts, program_costs
from mg_jax.accelerators.roofline import kernel_seconds
from mg_jax.bench import device_limits
from mg_jax.bench.step import random_batch
from mg_jax.errors import UserError
from mg_jax.input.prepared import with_classes
from mg_jax.recipe import as_baseline, check_devices, schedule_from_config
from mg_jax.runtime import parallel
from mg_jax.runtime.executables import Program
from mg_jax.training.arguments import step_arguments
from mg_jax.training.programs import compile_lowered, lower_program, train_program
from mg_jax.training.state import create_state

_WARM_UP, _ITERATIONS = 2, 3
_SHOWN = 20
# Kernels of a CUDA graph would not tell which instructions they are of.
_OPTIONS = {"gpu": {"xla_gpu_enable_command_buffer": ""}}


def measure(config) -> dict[str, Any]:
    """Profiles iterations on the base grid and prints the kernels that take longest.

    Args:
      config: of a run.

    Raises:
      UserError: where the profiler sees no kernels.
    """
    config = with_classes(config)
    mesh = parallel.make_mesh()
    schedule = schedule_from_config(as_baseline(config))
    check_devices(schedule, mesh.size)
    rates = _rates(mesh, config.model.dtype)
    program = train_program(schedule.grid(0))
    costs, measured = _profiled(config, mesh, program)
    rows = _compare(costs, rates, measured)
    result = {
        "jax": jax.__version__,
        "device": rates.title,
        "rates": rates.sheet,
        "program": str(program),
        "dtype": config.model.dtype,
        "measured_s": sum(measured.values()),
        "measured_of_counted_s": sum(row["measured_s"] for row in rows),
        "at_least_s": sum(row["at_least_s"] for row in rows),
        "kernels": rows,
    }
    print(format_table(result))
    return result


def _profiled(
    config, mesh: jax.sharding.Mesh, program: Program
) -> tuple[ProgramCosts, dict[str, float]]:
    """A program's costs by count, and by kernel the seconds of an iteration on one device."""
    state = create_state(config, mesh)
    lowered = lower_program(config, mesh, state, program)
    step = compile_lowered(config, mesh, lowered, _OPTIONS.get(parallel.platform(mesh)))
    batch = random_batch(config, mesh, program)
    arguments = step_arguments(config, 0.0, mesh)
    for _ in range(_WARM_UP):
        state, metrics = step(state, batch, arguments)
    jax.block_until_ready(metrics)
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            for _ in range(_ITERATIONS):
                state, metrics = step(state, batch, arguments)
            jax.block_until_ready(metrics)
        measured = kernel_times(read_trace(pathlib.Path(folder)))
    if not measured:
        raise UserError(
            "JAX's profiler reports no kernels; for NVIDIA GPUs it needs CUPTI, which "
            "jax[cuda13] brings"
        )
    each = {name: s / _ITERATIONS / mesh.size for name, s in measured.items()}
    return program_costs(step), each


def _rates(mesh: jax.sharding.Mesh, dtype: str) -> Accelerator:
    """A data sheet's rates of the devices; of unknown ones those that are measured."""
    kind = mesh.devices.flat[0].device_kind
    for accelerator in ACCELERATORS.values():
        if kind and accelerator.title.startswith(kind):
            return accelerator
    limits = device_limits.measure(dtype, mesh)
    flops = dict.fromkeys(("bf16", "tf32", "fp32"), limits["matmul_flops_per_s"] / mesh.size)
    moved = limits["copy_bytes_per_s"] / mesh.size
    return Accelerator(kind, "a measurement in this run", 0, moved, flops)


def read_trace(folder: pathlib.Path) -> list[dict[str, Any]]:
    """The events of the trace that JAX's profiler has written into a folder."""
    (path,) = folder.rglob("*.trace.json.gz")
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return json.load(file)["traceEvents"]


def kernel_times(events: list[dict[str, Any]]) -> dict[str, float]:
    """Seconds of all events by the instruction that they belong to.

    Where devices have streams only what runs on those counts; lines above them repeat it.
    """
    streams = {
        (event["pid"], event["tid"])
        for event in events
        if event.get("name") == "thread_name" and event["args"]["name"].startswith("Stream")
    }
    seconds = collections.defaultdict(float)
    for event in events:
        name = event.get("args", {}).get("hlo_op")
        if name and (not streams or (event["pid"], event["tid"]) in streams):
            seconds[name] += event["dur"] * 1e-6
    return dict(seconds)


def _compare(
    costs: ProgramCosts, rates: Accelerator, measured: dict[str, float]
) -> list[dict[str, Any]]:
    rows = [
        {
            "name": kernel.name,
            "kind": kernel.kind,
            "layer": kernel.layer,
            "direction": kernel.direction,
            "bytes": kernel.calls * kernel.bytes,
            "flops": kernel.calls * kernel.flops,
            "measured_s": measured.get(kernel.name, 0.0),
            "at_least_s": kernel.calls * kernel_seconds(kernel, rates),
        }
        for kernel in costs.kernels
    ]
    return sorted(rows, key=lambda row: -row["measured_s"])


def format_table(result: dict[str, Any]) -> str:
    """The kernels that take longest, and the sums."""
    total = result["measured_s"]
    lines = [
        f"{result['program']}, {result['dtype']}, on {result['device']}; at least: by count, with "
        f"rates from {result['rates']}",
        f"{'ms':>8} {'of all':>6} {'at least':>8} {'times':>6} {'GB':>7} {'TFLOP':>7}  "
        f"{'kind':<22} layer",
    ]
    for row in result["kernels"][:_SHOWN]:
        seconds, least = row["measured_s"], row["at_least_s"]
        times = f"{seconds / least:.1f}" if least else ""
        lines.append(
            f"{1e3 * seconds:>8.3f} {seconds / total if total else 0:>6.1%} {1e3 * least:>8.3f} "
            f"{times:>6} {row['bytes'] / 1e9:>7.3g} {row['flops'] / 1e12:>7.3g}  "
            f"{row['kind']:<22} {row['layer'] or row['name']}"
            + (f", {row['direction']}" if row["direction"] else "")
        )
    lines.append(
        f"{1e3 * total:>8.3f} ms in all kernels, {1e3 * result['at_least_s']:.3f} at least"
    )
    return "\n".join(lines)
