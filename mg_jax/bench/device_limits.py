"""Measured peak rates of the devices: of matrix products and of memory traffic."""

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from mg_jax.runtime import xla_options

_ROUNDS = 5
# Side of the matrices and elements of the vector, on a CPU and on an accelerator, to fill it.
_CPU_SIZES = 1024, 2**24
_ACCELERATOR_SIZES = 8192, 2**29
# Products in a row, so that the overhead of the call does not count.
_PRODUCTS = 8


def measure(dtype: str, mesh: Mesh) -> dict[str, Any]:
    """Peak rates of all devices together, with the options of XLA that a run has by default.

    They are extrapolated from one device, measured alone.

    Args:
      dtype: of the matrices.
      mesh: the devices.

    Returns:
      device, devices, matmul_flops_per_s, and copy_bytes_per_s, read and written.
    """
    device = mesh.devices.flat[0]
    on_cpu = device.platform == "cpu"
    count = 1 if on_cpu else mesh.size  # the devices of one CPU share it
    side, elements = _CPU_SIZES if on_cpu else _ACCELERATOR_SIZES
    options = xla_options.for_run(device.platform, deterministic=False)
    with jax.default_device(device):
        a = jax.random.normal(jax.random.key(0), (side, side)).astype(dtype) / side**0.5
        x = jnp.zeros(elements, jnp.float32)

        @partial(jax.jit, compiler_options=options)
        def multiply(a):
            product = a
            for _ in range(_PRODUCTS):
                product = product @ a
            return product

        multiply_s = _fastest(multiply, a)
        copy_s = _fastest(jax.jit(lambda x: x + 1, compiler_options=options), x)
    return {
        "device": device.device_kind,
        "devices": mesh.size,
        "dtype": dtype,
        "matmul_flops_per_s": count * 2 * side**3 * _PRODUCTS / multiply_s,
        "copy_bytes_per_s": count * 2 * x.nbytes / copy_s,
    }


def _fastest(function: Callable[[jax.Array], jax.Array], x: jax.Array) -> float:
    """Seconds of the fastest call."""
    seconds = []
    for _ in range(_ROUNDS + 1):
        start = time.perf_counter()
        jax.block_until_ready(function(x))
        seconds.append(time.perf_counter() - start)
    return min(seconds[1:])


def format_limits(limits: dict[str, Any]) -> str:
    """One line."""
    return (
        f"{limits['devices']} x {limits['device']}: {limits['matmul_flops_per_s'] / 1e12:.3g} "
        f"TFLOP/s of {limits['dtype']} matrix products, {limits['copy_bytes_per_s'] / 1e9:.3g} "
        "GB/s of memory, measured"
    )
