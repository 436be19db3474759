"""The memory of this process and of its devices: in use, needed and available."""

import jax
import psutil

# Batches that wait on the devices for their iteration.
DEVICE_AHEAD = 2


def host_bytes() -> int:
    """Resident memory of this process."""
    return psutil.Process().memory_info().rss


def needed_bytes(program: jax.stages.Compiled) -> int:
    """Memory of one device while a program runs: its arguments, results and temporaries.

    As the compiler plans it; the allocator takes at least that.
    """
    plan = program.memory_analysis()
    held = plan.argument_size_in_bytes + plan.output_size_in_bytes - plan.alias_size_in_bytes
    return held + plan.temp_size_in_bytes


def limit_bytes() -> int | None:
    """Memory for programs on the smallest of this process's devices; None if none reports it."""
    return min(_of_devices("bytes_limit"), default=None)


def peak_bytes() -> int | None:
    """The most that was allocated at once on one of this process's devices, if any reports it."""
    return max(_of_devices("peak_bytes_in_use"), default=None)


def in_use_gb() -> dict[str, float]:
    """Gigabytes in use by this process, and on its fullest device where devices tell."""
    on_devices = _of_devices("bytes_in_use")
    used = {"host_gb": host_bytes() / 1e9}
    return {**used, "device_gb": max(on_devices) / 1e9} if on_devices else used


def _of_devices(name: str) -> list[int]:
    """A statistic of each of this process's devices that tells it."""
    stats = [device.memory_stats() or {} for device in jax.local_devices()]
    return [s[name] for s in stats if name in s]
