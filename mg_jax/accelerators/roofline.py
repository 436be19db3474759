"""The least time of kernels by what they move and compute: max(bytes / bandwidth, FLOPs / peak)."""

from mg_jax.accelerators.devices import Accelerator
from mg_jax.accelerators.hlo_costs import Kernel, ProgramCosts

ASSUMPTIONS = """\
A lower bound by count, not a measurement: each kernel takes max(bytes / bandwidth, FLOPs / peak)
by the data sheet, one after the other; it reads its inputs and writes its results once, through
memory; only convolutions and matrix products count FLOPs. Not counted: launches, the links between
devices, and what libraries choose and keep as workspace, which takes the device itself to know.
Caches may keep small arrays from one kernel to the next, which would make it less."""


def kernel_seconds(kernel: Kernel, accelerator: Accelerator) -> float:
    """The least time of one call of a kernel."""
    peaks = accelerator.flops_per_s
    precision = {"f16": "bf16", "f64": "fp32"}.get(kernel.precision, kernel.precision)
    computing = kernel.flops / peaks.get(precision, peaks["bf16"])
    return max(kernel.bytes / accelerator.bytes_per_s, computing)


def program_seconds(costs: ProgramCosts, accelerator: Accelerator) -> float:
    """The least time of a program."""
    return sum(kernel.calls * kernel_seconds(kernel, accelerator) for kernel in costs.kernels)
