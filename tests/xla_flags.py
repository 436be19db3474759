"""What XLA is told in the processes of the tests."""

import os

from mg_jax.machine import environment

# Most of their programs run a few times on small arrays, so they take longer to optimise than to
# run; `make nightly` has all of them optimised, as those of runs are. Tests that compare numbers
# which only optimised programs promise, or that are to be those of runs, say so themselves.
LEVEL = os.environ.get("XLA_LEVEL", "0")
OPTIMISED = {"xla_backend_optimization_level": 3}  # as an option of a program; XLA's default


def xla_flags(devices: int = 1) -> str:
    """The value of XLA_FLAGS for a process with so many CPU devices."""
    return (
        f"--xla_force_host_platform_device_count={devices} "
        f"--xla_backend_optimization_level={LEVEL} {environment.XLA_FLAG}"
    )
