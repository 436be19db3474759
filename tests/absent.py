"""Devices that are not there, to compile for."""

import pytest

from mg_jax.accelerators import topology
from mg_jax.accelerators.devices import find_accelerator


def mesh(name, per_host=1, hosts=1):
    """A mesh of absent devices; tests are left out where their compiler is not installed."""
    accelerator = find_accelerator(name)
    if not topology.has_compiler(accelerator):
        pytest.skip(f"no compiler for {accelerator.title}: {topology.install_line(accelerator)}")
    return topology.make_mesh(accelerator, per_host, hosts)
