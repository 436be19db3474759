"""Meshes of absent accelerators, to compile for.

XLA compiles for a device from its facts alone. What it takes beside JAX is the device's compiler,
a Python package without drivers or libraries, in a folder of its own: installed beside JAX it would
complain in every process of a machine without GPUs.
"""

import importlib
import importlib.metadata
import os
import pathlib
import shlex
import sys
import warnings

import jax
import numpy as np
from jax.experimental import topologies
from jax.sharding import Mesh

from mg_jax.accelerators.devices import Accelerator
from mg_jax.errors import UserError
from mg_jax.runtime.parallel import AXIS

# Chips of a host by the sides of their rectangle, and rectangles that are sold, by chips.
_TPU_HOSTS = {1: (1, 1, 1), 4: (2, 2, 1), 8: (2, 4, 1)}
_TPU_SLICES = {1: "1x1", 4: "2x2", 8: "2x4", 16: "4x4", 32: "4x8", 64: "8x8", 128: "8x16"}


def make_mesh(accelerator: Accelerator, per_host: int = 1, hosts: int = 1) -> Mesh:
    """All devices along the one axis 'batch', those of a host side by side. None is opened.

    Args:
      accelerator: of what kind they are.
      per_host: devices of a host.
      hosts: hosts.

    Raises:
      UserError: where the compiler for them is missing, with the line that installs it; and for
        numbers of TPUs that there are none of.
    """
    if accelerator.tpu:
        devices = _tpus(accelerator, per_host, hosts)
    else:
        devices = _gpus(accelerator, per_host, hosts)
    ordered = sorted(devices, key=lambda device: (device.process_index, device.id))
    return Mesh(np.array(ordered), (AXIS,))


def has_compiler(accelerator: Accelerator) -> bool:
    """Whether the compiler for a kind of device is there, in the version that JAX needs."""
    return _missing(accelerator) is None


def install_line(accelerator: Accelerator) -> str:
    """The command that installs the compiler for a kind of device."""
    packages = [f"{name}=={version}" for name, version in _packages(accelerator).items()]
    command = [sys.executable, "-m", "pip", "install", "--no-deps"]
    return shlex.join([*command, "--target", str(_folder(accelerator)), *packages])


def _folder(accelerator: Accelerator) -> pathlib.Path:
    return pathlib.Path(sys.prefix) / "compilers" / ("tpu" if accelerator.tpu else "cuda")


def _packages(accelerator: Accelerator) -> dict[str, str]:
    """The packages and the versions of them that the installed JAX goes with."""
    if not accelerator.tpu:
        return dict.fromkeys(("jax-cuda13-plugin", "jax-cuda13-pjrt"), jax.__version__)
    wanted = importlib.metadata.requires("jax") or []
    libtpu = next(line for line in wanted if line.startswith("libtpu"))
    return {"libtpu": libtpu.split(";")[0].removeprefix("libtpu").strip().removeprefix("==")}


def _missing(accelerator: Accelerator) -> str | None:
    """What stands in the way of compiling for a kind of device; None where nothing does."""
    path = [str(_folder(accelerator)), *sys.path]
    for name, wanted in _packages(accelerator).items():
        found = next(iter(importlib.metadata.distributions(name=name, path=path)), None)
        if found is None:
            return f"{name} is not installed"
        if not f"{found.version}.".startswith(wanted.removesuffix("*").rstrip(".") + "."):
            return f"{name} is {found.version}, and JAX {jax.__version__} needs {wanted}"
    return None


def _load_compiler(accelerator: Accelerator) -> None:
    if missing := _missing(accelerator):
        raise UserError(
            f"compiling for {accelerator.title} needs its compiler, and {missing}. No driver or "
            f"device is needed; install it with\n{install_line(accelerator)}"
        )
    folder = str(_folder(accelerator))
    if folder not in sys.path:
        sys.path.insert(0, folder)


def _gpus(accelerator: Accelerator, per_host: int, hosts: int) -> list[jax.Device]:
    _load_compiler(accelerator)
    # CUDA's libraries are looked for otherwise, and nothing here needs them.
    os.environ.setdefault("JAX_SKIP_CUDA_CONSTRAINTS_CHECK", "1")

    def describe():
        return topologies.get_topology_desc(
            platform="cuda",
            topology=f"1x{hosts}x{per_host}",  # partitions, hosts of each, devices of each
            target_config=target_config(accelerator),
        )

    try:
        return describe().devices
    except NotImplementedError:
        # JAX looked for its plugins before the folder was on the path.
        importlib.import_module("jax_plugins.xla_cuda13").initialize()
        return describe().devices


def _tpus(accelerator: Accelerator, per_host: int, hosts: int) -> list[jax.Device]:
    chips = per_host * hosts
    if per_host not in _TPU_HOSTS or chips not in _TPU_SLICES:
        raise UserError(
            f"--gpus={per_host} on --hosts={hosts} make {chips} chips; TPU hosts have "
            f"{', '.join(map(str, _TPU_HOSTS))}, and together there are "
            f"{', '.join(map(str, _TPU_SLICES))}"
        )
    _load_compiler(accelerator)
    # Else it asks Google Cloud which machine this is, and complains.
    for name, value in (("SKIP_MDS_QUERY", "1"), ("WORKER_HOSTNAMES", "localhost")):
        os.environ.setdefault(f"TPU_{name}", value)
    os.environ.setdefault("TPU_ACCELERATOR_TYPE", "v5litepod-8")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return topologies.get_topology_desc(
            f"{accelerator.tpu}:{_TPU_SLICES[chips]}",
            "tpu",
            chips_per_host_bounds=_TPU_HOSTS[per_host],
        ).devices


def target_config(accelerator: Accelerator) -> str:
    """An NVIDIA GPU's facts as XLA reads them, a GpuTargetConfigProto in text form."""
    cuda = accelerator.cuda
    major, minor = cuda.capability
    # From Hopper on, kernels may use what only their own architecture has.
    extension = "feature_extension: ACCELERATED_FEATURES" if major >= 9 else ""
    return f"""
        gpu_device_info {{
          threads_per_block_limit: 1024
          threads_per_warp: 32
          threads_per_core_limit: {cuda.threads_per_core}
          shared_memory_per_block: 49152
          shared_memory_per_block_optin: {cuda.shared_bytes - 1024}
          shared_memory_per_core: {cuda.shared_bytes}
          registers_per_block_limit: 65536
          registers_per_core_limit: 65536
          core_count: {cuda.cores}
          fpus_per_core: {cuda.fpus_per_core}
          clock_rate_ghz: {cuda.clock_ghz}
          l2_cache_size: {cuda.l2_bytes}
          memory_bandwidth: {accelerator.bytes_per_s:.0f}
          device_memory_size: {accelerator.memory_bytes}
          block_dim_limit_x: 2147483647
          block_dim_limit_y: 65535
          block_dim_limit_z: 65535
          cuda_compute_capability {{ major: {major} minor: {minor} {extension} }}
        }}
        platform_name: "CUDA"
        dnn_version_info {{ major: 9 minor: 10 patch: 0 }}
        device_description_str: "{accelerator.title}"
    """
