"""What memory is in use."""

import jax
import psutil


def host_bytes() -> int:
    """Resident memory of this process."""
    return psutil.Process().memory_info().rss


def in_use_gb() -> dict[str, float]:
    """Gigabytes of this process, and of its fullest device where devices tell."""
    stats = [device.memory_stats() for device in jax.local_devices()]
    on_devices = [s["bytes_in_use"] for s in stats if s]
    used = {"host_gb": host_bytes() / 1e9}
    return {**used, "device_gb": max(on_devices) / 1e9} if on_devices else used
