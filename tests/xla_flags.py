"""What XLA is told in the processes of the tests."""

import os

# Most of their programs run a few times on small arrays, so they take longer to optimise than to
# run; `make nightly` and `make test-newest` have them optimised, but for those that ask not to be.
_IS_OPTIMISED = os.environ.get("TESTS_OPTIMISED") == "1"
_LEVEL = "" if _IS_OPTIMISED else " --xla_backend_optimization_level=0"
# An option, XLA's default, of programs whose numbers are to be those of runs whatever the level.
OPTIMISED = {"xla_backend_optimization_level": 3}


def xla_flags(devices: int = 1) -> str:
    """The value of XLA_FLAGS for a process with so many CPU devices."""
    return f"--xla_force_host_platform_device_count={devices}{_LEVEL}"
