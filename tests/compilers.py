"""Run by itself, it installs the compilers for accelerators that are not there, see `absent`."""

import shlex
import subprocess

from mg_jax.accelerators import topology
from mg_jax.accelerators.devices import ACCELERATORS


def install():
    """One compiler for all GPUs and one for all TPUs."""
    missing = [each for each in ACCELERATORS.values() if not topology.has_compiler(each)]
    for line in dict.fromkeys(map(topology.install_line, missing)):
        if subprocess.run([*shlex.split(line), "--quiet"]).returncode:
            print(f"the tests of programs for accelerators are left out; they need: {line}")


if __name__ == "__main__":
    install()
