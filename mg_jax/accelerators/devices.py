"""Facts about accelerators, from their makers' data sheets."""

import dataclasses

from mg_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Cuda:
    """What XLA compiles for, of an NVIDIA GPU.

    Attributes:
      capability: compute capability, major and minor.
      cores: streaming multiprocessors.
      fpus_per_core: float32 units of each.
      clock_ghz: boost clock.
      l2_bytes: of the second-level cache.
      shared_bytes: shared memory of a core; a block may have 1 KiB less.
      threads_per_core: at most, at once.
    """

    capability: tuple[int, int]
    cores: int
    fpus_per_core: int
    clock_ghz: float
    l2_bytes: int
    shared_bytes: int
    threads_per_core: int


@dataclasses.dataclass(frozen=True)
class Accelerator:
    """A kind of device.

    Attributes:
      title: its name.
      sheet: where its figures are from.
      memory_bytes: of device memory, as the driver counts it where that is known.
      bytes_per_s: of device memory.
      flops_per_s: of dense matrix products by precision: bf16, tf32 (float32 as JAX multiplies it
        unless told otherwise; on TPUs those are bfloat16 products) and fp32.
      cuda: of an NVIDIA GPU.
      tpu: name of the topology of a TPU.
    """

    title: str
    sheet: str
    memory_bytes: int
    bytes_per_s: float
    flops_per_s: dict[str, float]
    cuda: Cuda | None = None
    tpu: str = ""


_MIB, _GIB = 2**20, 2**30
_HOPPER = {"bf16": 989.4e12, "tf32": 494.7e12, "fp32": 66.9e12}
_HOPPER_CORES = Cuda((9, 0), 132, 128, 1.98, 50 * _MIB, 228 * 1024, 2048)
_AMPERE = {"bf16": 312e12, "tf32": 156e12, "fp32": 19.5e12}
_AMPERE_CORES = Cuda((8, 0), 108, 64, 1.41, 40 * _MIB, 164 * 1024, 2048)


def _ada(cores: int, clock_ghz: float, l2_mib: int) -> Cuda:
    return Cuda((8, 9), cores, 128, clock_ghz, l2_mib * _MIB, 100 * 1024, 1536)


ACCELERATORS = {
    "h100": Accelerator(
        "NVIDIA H100 80GB HBM3",
        "NVIDIA H100 data sheet (SXM) and Hopper architecture white paper",
        84_942_979_072,
        3.35e12,
        _HOPPER,
        _HOPPER_CORES,
    ),
    "h200": Accelerator(
        "NVIDIA H200 141GB HBM3e",
        "NVIDIA H200 data sheet (SXM)",
        151_397_597_184,
        4.8e12,
        _HOPPER,
        _HOPPER_CORES,
    ),
    "a100-40": Accelerator(
        "NVIDIA A100-SXM4-40GB",
        "NVIDIA A100 data sheet (SXM) and Ampere architecture white paper",
        42_331_013_120,
        1.555e12,
        _AMPERE,
        _AMPERE_CORES,
    ),
    "a100-80": Accelerator(
        "NVIDIA A100-SXM4-80GB",
        "NVIDIA A100 data sheet (SXM) and Ampere architecture white paper",
        85_100_068_864,
        2.039e12,
        _AMPERE,
        _AMPERE_CORES,
    ),
    "l4": Accelerator(
        "NVIDIA L4",
        "NVIDIA L4 data sheet",
        23_034 * _MIB,
        300e9,
        {"bf16": 121e12, "tf32": 60e12, "fp32": 30.3e12},
        _ada(58, 2.04, 48),
    ),
    "rtx4090": Accelerator(
        "NVIDIA GeForce RTX 4090",
        "NVIDIA Ada GPU architecture white paper, appendix A",
        24_564 * _MIB,
        1.008e12,
        {"bf16": 165.2e12, "tf32": 82.6e12, "fp32": 82.6e12},
        _ada(128, 2.52, 72),
    ),
    "rtx6000ada": Accelerator(
        "NVIDIA RTX 6000 Ada Generation",
        "NVIDIA RTX 6000 Ada data sheet and Ada GPU architecture white paper",
        49_140 * _MIB,
        960e9,
        {"bf16": 364.2e12, "tf32": 182.1e12, "fp32": 91.1e12},
        _ada(142, 2.505, 96),
    ),
    "v5e": Accelerator(
        "TPU v5e",
        "Google Cloud, TPU v5e",
        16 * _GIB,
        819e9,
        {"bf16": 197e12, "tf32": 197e12, "fp32": 197e12 / 6},
        tpu="v5e",
    ),
    "v6e": Accelerator(
        "TPU v6e",
        "Google Cloud, TPU v6e",
        32 * _GIB,
        1.638e12,
        {"bf16": 918e12, "tf32": 918e12, "fp32": 918e12 / 6},
        tpu="v6e",
    ),
}


def find_accelerator(name: str) -> Accelerator:
    """The accelerator of a name.

    Raises:
      UserError: for an unknown name, with those that are known.
    """
    if name not in ACCELERATORS:
        raise UserError(f"--gpu={name} is not known; there are {', '.join(ACCELERATORS)}")
    return ACCELERATORS[name]
