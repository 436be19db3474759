"""The options of XLA that we set, all of them, each with its reason.

They go with every program of a run or a count. An option that the environment's XLA_FLAGS names is
left as it says. For GPUs that train there are none but those of `run.deterministic`: no other has
been shown to help on a device.
"""

import os
import re

import jax

Options = dict[str, bool | int | str]

CPU: Options = {
    # By default XLA leaves sums, products and convolutions to YNNPACK, whose convolutions keep a
    # core idle and whose products gain nothing here (docs/programs.md has the times).
    "xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_REDUCE",
}
if jax.__version_info__ < (0, 11):  # which knows no other emitters
    # The newer emitters take a third more time to compile a step, which is no faster for them.
    CPU["xla_cpu_use_fusion_emitters"] = False
# What is large and of float64 compiles in a fifth fewer CPU seconds, on one core.
ONE_MODULE = {**CPU, "xla_cpu_parallel_codegen_split_count": 1}
# What runs once compiles in a fifth of the time.
_ONCE = {"xla_backend_optimization_level": 0}

# `run.deterministic` on GPUs; programs for CPUs and TPUs give the same bits as they are.
DETERMINISTIC = {
    # Without kernels whose sums depend on the order in which threads come, such as those with
    # atomic additions; what has no other form does not compile.
    "xla_gpu_deterministic_ops": True,
    # Which algorithm is fastest is measured otherwise, so two compilations may choose differently.
    "xla_gpu_autotune_level": 0,
    # Without tuning XLA's compiler stops at some products that it gives to Triton (JAX 0.10.2).
    # JAX 0.12 leaves Triton out of deterministic programs by itself.
    "xla_gpu_enable_triton_gemm": False,
}

# Programs for absent devices, which are only counted.
ABSENT = {
    # Of the machine code nothing is read, and without it a fifth of the time is saved.
    "xla_backend_optimization_level": 0,
}
ABSENT_GPU = {
    # As above: there is no device to tune on. On a device Triton's products are the faster ones, so
    # these counts are of cuBLAS's.
    "xla_gpu_enable_triton_gemm": False,
}


def for_run(platform: str, *, deterministic: bool) -> Options:
    """The options of a run's programs.

    Args:
      platform: cpu, gpu or tpu.
      deterministic: whether equal inputs are to give equal bits.
    """
    options = {"cpu": CPU, "gpu": DETERMINISTIC if deterministic else {}}
    return _not_in_environment(options.get(platform, {}))


def for_once(platform: str) -> Options:
    """The options of programs that run once, such as one that draws parameters; as `for_run`."""
    return {**_not_in_environment(_ONCE), **for_run(platform, deterministic=False)}


def for_absent(platform: str, *, deterministic: bool) -> Options:
    """The options of programs that are compiled for absent devices; as `for_run`."""
    absent = {**ABSENT, **(ABSENT_GPU if platform == "gpu" else {})}
    return {**_not_in_environment(absent), **for_run(platform, deterministic=deterministic)}


def _not_in_environment(options: Options) -> Options:
    # Options of a program would override those of the environment.
    given = set(re.findall(r"--(\w+)", os.environ.get("XLA_FLAGS", "")))
    return {name: value for name, value in options.items() if name not in given}
