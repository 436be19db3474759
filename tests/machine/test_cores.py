"""Cores under the quotas of containers, by files as the kernel lays them out."""

import os
import subprocess
import sys

import pytest

from mg_jax.machine.cores import cpu_quota, usable_cores

V1 = "5:memory:/pod/a\n4:cpu,cpuacct:{}\n1:name=systemd:/pod/a\n"


def tree(folder, membership, files):
    """Control groups, and the file that says which are this process's."""
    for name, content in files.items():
        path = folder / "cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content + "\n")
    (folder / "membership").write_text(membership)
    return folder / "cgroup", folder / "membership"


def v1(group, quota, period=100000):
    folder = "/".join(["cpu,cpuacct", *group])
    return {f"{folder}/cpu.cfs_quota_us": str(quota), f"{folder}/cpu.cfs_period_us": str(period)}


@pytest.mark.parametrize(
    ("membership", "files", "expected"),
    [
        # Version 2: docker run --cpus=1.5, whose group is the root of what it sees.
        ("0::/\n", {"cpu.max": "150000 100000"}, 2),
        ("0::/\n", {"cpu.max": "400000 100000"}, 4),
        ("0::/\n", {"cpu.max": "5000 100000"}, 1),
        ("0::/\n", {"cpu.max": "750000 250000"}, 3),
        ("0::/\n", {"cpu.max": "max 100000"}, None),
        ("0::/\n", {}, None),
        # Nested: the smallest on the way, whichever that is.
        ("0::/pod/a\n", {"pod/cpu.max": "300000 100000", "pod/a/cpu.max": "max 100000"}, 3),
        ("0::/pod/a\n", {"pod/cpu.max": "300000 100000", "pod/a/cpu.max": "700000 100000"}, 3),
        ("0::/pod/a\n", {"pod/cpu.max": "900000 100000", "pod/a/cpu.max": "700000 100000"}, 7),
        ("0::/pod/a\n", {"pod/b/cpu.max": "100000 100000"}, None),
        ("0::/pod:a b\n", {"pod:a b/cpu.max": "200000 100000"}, 2),
        # Paths of the host, or from outside of what is mounted.
        ("0::/docker/0123abc\n", {"cpu.max": "250000 100000"}, 3),
        ("0::/../../pod\n", {"cpu.max": "250000 100000"}, 3),
        # Version 1.
        (V1.format("/"), v1([], 250000), 3),
        (V1.format("/"), v1([], -1), None),
        (V1.format("/pod/a"), {**v1(["pod"], 200000), **v1(["pod", "a"], -1)}, 2),
        (V1.format("/pod/a"), {**v1(["pod"], 200000), **v1(["pod", "a"], 50000)}, 1),
        (V1.format("/docker/0123abc"), v1([], 600000, 200000), 3),
        ("4:cpuset:/\n3:cpuacct:/\n", v1([], 100000), None),
        # Both, as where systemd keeps the second beside the first.
        (V1.format("/") + "0::/\n", v1([], 250000), 3),
        # What does not read as a quota is none.
        ("0::/\n", {"cpu.max": ""}, None),
        ("0::/\n", {"cpu.max": "100000 0"}, None),
        ("", {"cpu.max": "100000 100000"}, None),
    ],
)
def test_quotas_are_in_cores_rounded_up(tmp_path, membership, files, expected):
    assert cpu_quota(*tree(tmp_path, membership, files)) == expected


def test_without_control_groups_there_is_no_quota(tmp_path):
    assert cpu_quota(tmp_path / "none", tmp_path / "none") is None


def test_usable_are_the_fewer_of_affinity_and_quota(tmp_path):
    affinity = len(os.sched_getaffinity(0))
    assert usable_cores(*tree(tmp_path / "one", "0::/\n", {"cpu.max": "99999 100000"})) == 1
    many = f"{(affinity + 1) * 100000} 100000"
    assert usable_cores(*tree(tmp_path / "many", "0::/\n", {"cpu.max": many})) == affinity


def test_a_process_on_one_core_uses_one():
    program = "import mg_jax.machine.cores; print(mg_jax.machine.cores.usable_cores())"
    core = min(os.sched_getaffinity(0))
    done = subprocess.run(
        ["taskset", "-c", str(core), sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "1\n"
