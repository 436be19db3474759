"""The number of cores that this process may keep busy."""

import os
import pathlib
from collections.abc import Iterator

_CGROUPS = pathlib.Path("/sys/fs/cgroup")
_MEMBERSHIP = pathlib.Path("/proc/self/cgroup")


def usable_cores(cgroups: pathlib.Path = _CGROUPS, membership: pathlib.Path = _MEMBERSHIP) -> int:
    """The number of cores that this process may use: its affinity, limited by its CPU quota.

    A container with `--cpus=2` may run on all cores of its host, but is paused for the rest of each
    period once it has used the time of two cores; more than two threads would only wait.

    Args:
      cgroups: where the kernel's control groups are mounted, version 1 or 2.
      membership: file that lists this process's control groups, a line for each hierarchy.
    """
    cores = len(os.sched_getaffinity(0))
    quota = cpu_quota(cgroups, membership)
    return cores if quota is None else min(cores, quota)


def cpu_quota(
    cgroups: pathlib.Path = _CGROUPS, membership: pathlib.Path = _MEMBERSHIP
) -> int | None:
    """The smallest CPU quota of this process's control groups, in cores, rounded up.

    None where there is no quota. Arguments as of `usable_cores`.
    """
    quotas = filter(None, map(_quota, _groups(cgroups, membership)))
    return min((max(-(-quota // period), 1) for quota, period in quotas), default=None)


def _groups(cgroups: pathlib.Path, membership: pathlib.Path) -> Iterator[pathlib.Path]:
    """Folders of this process's control groups for CPU time, and of their ancestors.

    In a container the listed path may be that on its host, while the mount is its own group.
    """
    try:
        lines = membership.read_text(errors="surrogateescape").splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        group = pathlib.PurePosixPath(path.lstrip("/"))
        # Version 1 mounts controllers that belong together in one folder and links to it.
        mounts = {cgroups / controllers, cgroups / "cpu"} if controllers else {cgroups}
        for ancestor in (group, *group.parents):
            if ".." not in ancestor.parts:
                yield from (mount / ancestor for mount in mounts)


def _quota(group: pathlib.Path) -> tuple[int, int] | None:
    """CPU time per period, and the period, microseconds; None where there is no limit."""
    for names in (["cpu.max"], ["cpu.cfs_quota_us", "cpu.cfs_period_us"]):
        try:
            numbers = " ".join((group / name).read_text() for name in names).split()
        except OSError:
            continue
        if len(numbers) == 2 and all(number.isdecimal() for number in numbers):
            quota, period = map(int, numbers)
            return (quota, period) if period else None
    return None  # "max" or -1: without a limit
