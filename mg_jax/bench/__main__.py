"""`python -m mg_jax.bench --what=WHAT --workdir=DIR`: prints a table and writes DIR/WHAT.json."""

import contextlib
import os
import pathlib
import sys

from absl import app, flags, logging

from configs.kinetics_slowfast import get_config
from mg_jax.machine import environment
from mg_jax.machine.atomic_file import write_json
from mg_jax.runtime.allocator import keep_freed_memory
from mg_jax.tools import command_line, gpu_flags

flags.adopt_module_key_flags(command_line)
flags.adopt_module_key_flags(gpu_flags)
_WHAT = flags.DEFINE_enum(
    "what",
    "input",
    ["input", "prepare", "step", "kernels", "profile", "losses", "program", "compile"],
    "input: clips per second of each grid of the config (default: Kinetics SlowFast); prepare: "
    "preparing with 1, 2 ... workers; step: an iteration on each grid, and the wall clock of the "
    "whole schedule; kernels: blocks of the network in several forms; profile: the kernels of an "
    "iteration, timed and by count; losses: --iterations of the schedule, --beside another "
    "process; program: what an iteration on each grid would cost --gpu, which need not be there, "
    "at least; compile: what compiling each program costs this machine.",
)
_CLIPS = flags.DEFINE_integer("clips", 1, "For --what=kernels: clips of a batch.", lower_bound=1)
_ITERATIONS = flags.DEFINE_integer(
    "iterations",
    20,
    "For --what=step and compile: iterations on each grid; for --what=losses: in all.",
    lower_bound=1,
)
_PEER = flags.DEFINE_enum(
    "peer",
    None,
    ["torch"],
    "For --what=step: times the same step in plain PyTorch as well, turn by turn.",
)
_BESIDE = flags.DEFINE_enum(
    "beside",
    "cpu",
    ["cpu", "again"],
    "For --what=losses: beside the CPU's, or those of another process on the same devices, which "
    "TPUs do not let in.",
)
_AGAINST = flags.DEFINE_string(
    "against",
    None,
    "For --what=program: an earlier program.json to compare with; for --what=compile: another "
    "checkout's folder; the two take turns.",
)
_CLIPS_PER_S = flags.DEFINE_float(
    "clips_per_s",
    None,
    "For --what=input: clips of the base grid that the devices take in a second, to say how many "
    "cores each grid needs.",
    lower_bound=0,
)
_WORKDIR = flags.DEFINE_string("workdir", "work/bench", "Keeps results, and videos made for them.")
# The flags that only some benchmarks have.
_BENCHMARK_FLAGS = {
    "kernels": (_CLIPS,),
    "step": (_ITERATIONS, _PEER),
    "losses": (_ITERATIONS, _BESIDE),
    "compile": (_ITERATIONS, _AGAINST),
    "program": (_AGAINST,),
    "input": (_CLIPS_PER_S,),
}

environment.set_defaults()


def main(argv: list[str]) -> None:
    """Measures by the flags."""
    if len(argv) > 1:
        sys.exit(f"error: unexpected arguments {argv[1:]}")
    logging.set_verbosity(logging.ERROR)
    command_line.check_flags(_WHAT, _BENCHMARK_FLAGS)
    needs_config = _WHAT.value in ("step", "profile", "losses", "compile")
    if needs_config and command_line.CONFIG.value is None:
        sys.exit("error: --config is missing, for example --config=configs/demo.py")
    gpu_flags.check_flags("--what=program", wanted=_WHAT.value == "program")
    if _WHAT.value == "program" and gpu_flags.GPU.value is None:
        sys.exit("error: --what=program goes with --gpu=NAME, for example --gpu=h100")
    config = command_line.CONFIG.value or get_config()
    workdir = pathlib.Path(_WORKDIR.value).expanduser()
    try:
        workdir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        sys.exit(f"error: --workdir={workdir} cannot be made ({error.strerror}); choose another")
    # Without effect once JAX and TensorFlow are loaded.
    keep_freed_memory()
    with command_line.signals_as_statuses(), command_line.errors_as_messages():
        result = _measure(_WHAT.value, config, workdir)
    path = workdir / f"{_WHAT.value}.json"
    write_json(path, result)
    print(f"see {path}; main.py --mode=train trains, with the same --config")


def _measure(what: str, config, workdir: pathlib.Path) -> dict:
    if what in ("input", "prepare", "program"):
        command_line.stay_on_cpu()
    if what == "prepare":
        from mg_jax.bench import preparation

        result = preparation.measure(config, workdir)
        print(preparation.format_table(result))
        return result
    if what == "step":
        return _time_step(config, workdir)
    if what == "program":
        return _count(config, workdir)
    if what == "compile":
        from mg_jax.bench import compilation

        against = None if _AGAINST.value is None else pathlib.Path(_AGAINST.value).expanduser()
        return compilation.measure(config, workdir, _ITERATIONS.value, against)
    if what == "kernels":
        from mg_jax.bench import kernels

        return kernels.measure(config, _CLIPS.value)
    if what == "profile":
        from mg_jax.bench import profile

        return profile.measure(config)
    if what == "losses":
        if _BESIDE.value == "again":
            # Both are to find room on the device.
            os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
        from mg_jax.bench import losses

        return losses.measure(config, workdir, _ITERATIONS.value, _BESIDE.value)
    from mg_jax.bench import input as input_bench

    return input_bench.measure(config, workdir, _CLIPS_PER_S.value)


def _time_step(config, workdir: pathlib.Path) -> dict:
    if _PEER.value is not None:
        # Both are to find room on the device.
        os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    from mg_jax.bench import step, torch_peer
    from mg_jax.input.prepared import with_classes

    config = with_classes(config)
    with contextlib.ExitStack() as stack:
        peer = None
        if _PEER.value is not None:
            peer = stack.enter_context(contextlib.closing(torch_peer.TorchPeer(config)))
        result = step.measure(config, _ITERATIONS.value, peer)
    print(f"see {step.plot(result, workdir)}")
    return result


def _count(config, workdir: pathlib.Path) -> dict:
    from mg_jax.bench import program, program_compared

    against = None
    if _AGAINST.value is not None:  # read before it may be overwritten, and before compilation
        against = program_compared.read_result(pathlib.Path(_AGAINST.value).expanduser())
    devices = gpu_flags.GPU.value, gpu_flags.GPUS.value, gpu_flags.HOSTS.value
    result = program.measure(config, *devices)
    if against is not None:
        print(f"\n{program_compared.format_comparison(result, against)}")
    print(f"see {program_compared.plot(result, workdir)}")
    return result


if __name__ == "__main__":
    app.run(main, flags_parser=command_line.parse_flags)
