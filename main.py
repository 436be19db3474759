"""Trains, evaluates, plans, previews, applies or compares video models. See README.md."""

import dataclasses
import os
import pathlib
import sys
import traceback
from collections.abc import Callable
from typing import Any

from absl import app, flags, logging

from mg_jax.errors import first_line
from mg_jax.machine import environment
from mg_jax.machine.folder import check_can_be_made
from mg_jax.machine.held_signals import held_signals
from mg_jax.machine.launcher import launched_process
from mg_jax.runtime.allocator import keep_freed_memory
from mg_jax.tools import command_line, gpu_flags
from mg_jax.workdir.config import check_has_checkpoint, has_checkpoint

flags.adopt_module_key_flags(command_line)
flags.adopt_module_key_flags(gpu_flags)
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "Where the run keeps its files; not for --mode=prepare."
)
_COORDINATOR = flags.DEFINE_string(
    "coordinator", None, "HOST:PORT of process 0, where no launcher says how processes meet."
)
_PROCESSES = flags.DEFINE_integer(
    "num_processes",
    None,
    "With --coordinator, or --mode=prepare, which needs none: the number of processes.",
)
_PROCESS = flags.DEFINE_integer("process_id", None, "With --num_processes: index of this process.")
_ON_DEVICE = flags.DEFINE_bool(
    "on_device",
    False,
    "For --mode=plan: open this machine's devices and compile for them, to check that the grids "
    "fit into their memory.",
)
_DEVICE_MEMORY = flags.DEFINE_float(
    "device_memory_gb",
    None,
    "For --mode=plan: memory of a device that XLA may use, to check that the grids fit into it. "
    "Without --on_device or --gpu they are compiled for the CPU; with --on_device, the devices' "
    "own number is the default. JAX uses XLA_PYTHON_CLIENT_MEM_FRACTION of a GPU's memory, 0.75, "
    "and so does --gpu.",
)
_VIDEOS = flags.DEFINE_integer(
    "videos",
    None,
    "For --mode=plan: the number of training videos that epochs are counted over; by default that "
    "of the prepared data set.",
    lower_bound=1,
)
_VIDEO = flags.DEFINE_multi_string(
    "video",
    None,
    "For --mode=predict: a video file, a folder of videos, or a list of them, .txt or .csv; may be "
    "given several times. For --mode=features too; without it data.eval_split is taken.",
)
_OUTPUT = flags.DEFINE_string(
    "output",
    None,
    "For --mode=predict: the file for the classes of many videos, .csv or .json. For "
    "--mode=features: the file for these, .npz or .safetensors.",
)
_EACH_CLIP = flags.DEFINE_bool(
    "each_clip", False, "For --mode=features: keep every clip's, not the mean of a video's."
)
_FORMAT = flags.DEFINE_enum(
    "format",
    None,
    ["stablehlo", "savedmodel", "onnx"],
    "For --mode=export: for JAX, for TensorFlow, or for ONNX runtimes.",
)
_RUNS = flags.DEFINE_list(
    "runs", None, "Work directories of finished or running runs, for --mode=report."
)
environment.set_defaults()


@dataclasses.dataclass(frozen=True)
class _Mode:
    """What --mode can be.

    Attributes:
      help: what it does.
      run: does it, with the config and the work directory; returns what to print, if anything.
      own_flags: that not every mode has.
      needs: those of its flags that must be given, with what they are given as.
      config_of: whose config it takes instead of --config.
      needs_workdir: whether --workdir must be given.
      writes_to: where it writes instead of --workdir.
      again: what the same command does after this one was stopped.
    """

    help: str
    run: Callable[[Any, pathlib.Path | None], str | None]
    own_flags: tuple[flags.FlagHolder, ...] = ()
    needs: tuple[tuple[flags.FlagHolder, str], ...] = ()
    config_of: str = ""
    needs_workdir: bool = True
    writes_to: str = ""
    again: str = ""


def main(argv: list[str]) -> None:
    """Runs the mode; a setting that cannot work ends with its message, not a traceback."""
    if len(argv) > 1:
        meant = f"--mode={argv[1]}" if argv[1] in _MODES else "--config.KEY=VALUE for settings"
        sys.exit(f"error: unexpected arguments {argv[1:]}; write {meant}")
    mode, config = _MODES[_MODE.value], command_line.CONFIG.value
    _check_flags(_MODE.value, mode)
    workdir = _path(_WORKDIR.value)
    if workdir is not None and workdir.is_file():
        sys.exit(f"error: --workdir={workdir} is a file; give a folder, existing or not")
    logging.set_verbosity(logging.ERROR)
    with (
        command_line.signals_as_statuses(lambda: mode.again),
        command_line.errors_as_messages(),
    ):
        if said := mode.run(config, workdir):
            print(said)


def _check_flags(name: str, mode: _Mode) -> None:
    """Ends the program where flags are missing, or given that this mode does not have."""
    if command_line.CONFIG.value is None and not mode.config_of:
        sys.exit("error: --config is missing, for example --config=configs/demo.py")
    if command_line.CONFIG.value is not None and mode.config_of:
        sys.exit(f"error: --mode={name} takes no --config; {mode.config_of} has its own")
    if _WORKDIR.value is None and mode.needs_workdir:
        sys.exit(f"error: --workdir=DIR is missing; --mode={name} keeps its files there")
    if _WORKDIR.value is not None and mode.writes_to:
        sys.exit(f"error: --mode={name} takes no --workdir; it writes to {mode.writes_to}")
    for flag, given_as in mode.needs:
        values = flag.value if isinstance(flag.value, list) else [flag.value]
        if not values or not all(values):
            lacks = "is missing" if values in ([], [None]) else "has an empty name"
            sys.exit(f"error: --{flag.name} {lacks}; --mode={name} needs --{flag.name}={given_as}")
    command_line.check_flags(_MODE, {other: _MODES[other].own_flags for other in _MODES})


# Each mode imports only what it needs, and checks what it can before TensorFlow and JAX, which take
# seconds. Signals wait meanwhile: raised in an extension's import, their exceptions crash Python.


def _prepare(config, workdir: None) -> None:
    with held_signals():
        from mg_jax.tools import checks
    checks.check_preparation(config)
    with held_signals():
        command_line.stay_on_cpu()
        from mg_jax.tools.prepare import prepare
    # The others need not be met, only the folder that all share.
    prepare(config, launched_process(_PROCESSES.value, _PROCESS.value))


def _preview(config, workdir: pathlib.Path) -> str:
    with held_signals():
        from mg_jax.tools import checks
    checks.check_preview(config, workdir)
    with held_signals():
        command_line.stay_on_cpu()
        from mg_jax.tools.preview import write_preview
    return write_preview(config, workdir)


def _report(config: None, workdir: pathlib.Path) -> str:
    check_can_be_made(workdir, "--workdir")
    with held_signals():
        from mg_jax.report.groups import read_groups
    groups = read_groups(_paths(_RUNS.value))
    with held_signals():
        command_line.stay_on_cpu()
        from mg_jax.report.write import write_report
    page = write_report(groups, workdir)
    return f"see {page} in a browser; the same command renews it, --runs=...,DIR adds runs"


def _export(config: None, workdir: pathlib.Path) -> str:
    check_has_checkpoint(workdir)
    with held_signals():
        command_line.stay_on_cpu()
        from mg_jax.tools.export import export_run
    return export_run(workdir, _FORMAT.value)


def _predict(config, workdir: pathlib.Path | None) -> str:
    given = config, _paths(_VIDEO.value), workdir, _path(_OUTPUT.value)
    with held_signals():
        from mg_jax.tools import checks
    checks.check_prediction(*given)
    keep_freed_memory()  # which has no effect once JAX and TensorFlow are loaded
    with held_signals():
        from mg_jax.tools.predict_many import predict_videos
    return predict_videos(*given)


def _features(config, workdir: pathlib.Path | None) -> str:
    videos = None if _VIDEO.value is None else _paths(_VIDEO.value)
    given = config, videos, workdir, _path(_OUTPUT.value)
    with held_signals():
        from mg_jax.tools import checks
    checks.check_features(*given)
    keep_freed_memory()
    with held_signals():
        from mg_jax.tools.features import write_features
    return write_features(*given, each_clip=_EACH_CLIP.value)


def _path(text: str | None) -> pathlib.Path | None:
    return None if text is None else pathlib.Path(text).expanduser()


def _paths(texts: list[str]) -> list[pathlib.Path]:
    return [pathlib.Path(text).expanduser() for text in texts]


def _plan(config, workdir: pathlib.Path) -> None:
    gpu_flags.check_flags("--mode=plan, and without --on_device", wanted=not _ON_DEVICE.value)
    if _DEVICE_MEMORY.value is not None and not _DEVICE_MEMORY.value > 0:
        sys.exit(f"error: --device_memory_gb={_DEVICE_MEMORY.value:g} must be positive")
    check_can_be_made(workdir, "--workdir")
    with held_signals():
        from mg_jax.tools.plan import write_plan

    def write_schedule() -> None:
        print(write_plan(config, workdir, _VIDEOS.value), flush=True)

    # Devices that cannot be used are refused before anything is written.
    if (gpu := gpu_flags.GPU.value) is not None:
        with held_signals():
            command_line.stay_on_cpu()
            from mg_jax.tools.plan_absent import absent_devices, write_absent_plan
        devices = gpu, gpu_flags.GPUS.value, gpu_flags.HOSTS.value
        absent_devices(config, *devices)
        write_schedule()
        return write_absent_plan(config, workdir, *devices, _DEVICE_MEMORY.value)
    if _ON_DEVICE.value:
        # JAX would reserve most of a GPU's memory; compiling needs little.
        os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    elif _DEVICE_MEMORY.value is None:
        return write_schedule()
    with held_signals():
        if not _ON_DEVICE.value:
            command_line.stay_on_cpu()
        from mg_jax.tools.plan_memory import present_devices, write_memory_plan
    present_devices(config)
    write_schedule()
    return write_memory_plan(config, workdir, _DEVICE_MEMORY.value)


def _train(config, workdir: pathlib.Path) -> None:
    _train_or_evaluate("train", config, workdir)


def _evaluate(config, workdir: pathlib.Path) -> None:
    _train_or_evaluate("eval", config, workdir)


def _train_or_evaluate(mode: str, config, workdir: pathlib.Path) -> None:
    """Joins the other processes of the run, if any, then trains or evaluates.

    If that ends early, this process exits without waiting for the others, which may be gone, or for
    the compiler.
    """
    keep_freed_memory()
    with held_signals():
        import jax

        from mg_jax.machine.exit_status import INTERRUPTED, TERMINATED
        from mg_jax.runtime import hosts
        from mg_jax.runtime.meeting import connect
        from mg_jax.runtime.stops import Preempted, Stops
    connect(_COORDINATOR.value, _PROCESSES.value, _PROCESS.value)
    stops = Stops()
    try:
        with command_line.errors_as_messages(), stops.listening():
            from mg_jax.training.evaluate_checkpoint import evaluate_checkpoint
            from mg_jax.training.loop import train

            work = train if mode == "train" else evaluate_checkpoint
            work(config, workdir, stops)
    except Preempted:
        hosts.print_once(_stopped("stopped by SIGTERM", mode, workdir))
        hosts.exit_together(TERMINATED)
    except KeyboardInterrupt:
        hosts.print_once(_stopped("interrupted", mode, workdir))
        hosts.exit_together(INTERRUPTED)
    except SystemExit as ended:
        hosts.exit_now(str(ended))
    except Exception as error:
        if jax.process_count() == 1:
            raise
        traceback.print_exc()
        hosts.exit_now(
            f"error: process {jax.process_index()} of {jax.process_count()} cannot go on, most "
            f"likely because another one ended ({first_line(error)}). Start all of them again; "
            "the run continues from the newest checkpoint"
        )


def _stopped(how: str, mode: str, workdir: pathlib.Path) -> str:
    """The message of a run that was stopped."""
    from mg_jax.runtime.stops import CONTINUES

    if mode != "train":
        return f"{how}; the same command starts it again"
    if has_checkpoint(workdir):
        return f"{how}; {CONTINUES}"
    return f"{how} before the first checkpoint; the same command starts it again"


# Whoever adds a mode adds it here, with a function above and its flags at the top.
_MODES = {
    "train": _Mode(
        "train, or continue, and evaluate",
        _train,
        own_flags=(_COORDINATOR, _PROCESSES, _PROCESS),
        again="the same command starts it again",
    ),
    "eval": _Mode(
        "evaluate the newest checkpoint", _evaluate, own_flags=(_COORDINATOR, _PROCESSES, _PROCESS)
    ),
    "plan": _Mode(
        "print the schedule",
        _plan,
        own_flags=(
            *(_VIDEOS, _ON_DEVICE, _DEVICE_MEMORY),
            *(gpu_flags.GPU, gpu_flags.GPUS, gpu_flags.HOSTS),
        ),
    ),
    "preview": _Mode("draw the first clips of its grids", _preview),
    "prepare": _Mode(
        "prepare the data set",
        _prepare,
        own_flags=(_PROCESSES, _PROCESS),
        needs_workdir=False,
        writes_to="--config.data.dir",
        again="the same command continues from what is prepared so far",
    ),
    "predict": _Mode(
        "the classes of --video",
        _predict,
        own_flags=(_VIDEO, _OUTPUT),
        needs=((_VIDEO, "FILE"),),
        needs_workdir=False,
    ),
    "report": _Mode(
        "compare --runs on a page",
        _report,
        own_flags=(_RUNS,),
        needs=((_RUNS, "DIR,DIR,..."),),
        config_of="each of its --runs",
    ),
    "features": _Mode(
        "write what the network pools before its classifier",
        _features,
        own_flags=(_VIDEO, _OUTPUT, _EACH_CLIP),
        needs=((_OUTPUT, "FILE.npz or FILE.safetensors"),),
        needs_workdir=False,
    ),
    "export": _Mode(
        "write the network of --workdir for other programs",
        _export,
        own_flags=(_FORMAT,),
        needs=((_FORMAT, "stablehlo, savedmodel or onnx"),),
        config_of="its --workdir",
    ),
}
_MODE = flags.DEFINE_enum(
    "mode",
    "train",
    list(_MODES),
    "; ".join(f"{name}: {mode.help}" for name, mode in _MODES.items()) + ".",
)

if __name__ == "__main__":
    app.run(main, flags_parser=command_line.parse_flags)
