"""Trains, evaluates, plans, previews, applies or compares video models. See README.md."""

import os
import pathlib
import sys
import traceback

from absl import app, flags, logging

from mg_jax.errors import first_line
from mg_jax.machine import environment
from mg_jax.machine.held_signals import held_signals
from mg_jax.machine.launcher import launched_process
from mg_jax.runtime.allocator import keep_freed_memory
from mg_jax.tools import command_line, gpu_flags

flags.adopt_module_key_flags(command_line)
flags.adopt_module_key_flags(gpu_flags)
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "Where the run keeps its files; not for --mode=prepare."
)
_MODE = flags.DEFINE_enum(
    "mode",
    "train",
    ["train", "eval", "plan", "preview", "prepare", "predict", "report", "features", "export"],
    "train: train, or continue, and evaluate; eval: evaluate the newest checkpoint; plan: print "
    "the schedule; preview: draw the first clips of its grids; prepare: prepare the data set; "
    "predict: the classes of --video; report: compare --runs on a page; "
    "features: write what the network pools before its classifier; export: write the network of "
    "--workdir for other programs.",
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
    lower_bound=0,
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
# The flags that only some modes have.
_MODE_FLAGS = {
    ("plan",): (_VIDEOS, _ON_DEVICE, _DEVICE_MEMORY),
    ("predict", "features"): (_OUTPUT,),
    ("features",): (_EACH_CLIP,),
    ("train", "eval"): (_COORDINATOR,),
    ("train", "eval", "prepare"): (_PROCESSES, _PROCESS),
}

environment.set_defaults()


def main(argv: list[str]) -> None:
    """Dispatches on --mode; a setting that cannot work ends with its message, not a traceback."""
    mode, config = _MODE.value, command_line.CONFIG.value
    if len(argv) > 1:
        sys.exit(f"error: unexpected arguments {argv[1:]}; settings are --config.KEY=VALUE")
    if (config is None) != (mode in ("report", "export")):
        of_runs = {"report": "each of its --runs", "export": "its --workdir"}
        sys.exit(
            "error: --config is missing, for example --config=configs/demo.py"
            if config is None
            else f"error: --mode={mode} takes no --config; {of_runs[mode]} has its own"
        )
    if _WORKDIR.value is None and mode not in ("prepare", "predict", "features"):
        sys.exit(f"error: --workdir=DIR is missing; --mode={mode} keeps its files there")
    if _WORKDIR.value is not None and mode == "prepare":
        sys.exit("error: --mode=prepare takes no --workdir; it writes to --config.data.dir")
    if (_VIDEO.value is None) == (mode == "predict") and mode != "features":
        sys.exit("error: --mode=predict and --video=FILE go together")
    if _OUTPUT.value is None and mode == "features":
        sys.exit("error: --output=FILE.npz or FILE.safetensors is missing; it gets the features")
    if (_FORMAT.value is None) == (mode == "export"):
        sys.exit("error: --mode=export and --format=stablehlo, savedmodel or onnx go together")
    runs = _RUNS.value
    if (runs is None) == (mode == "report") or runs == [] or "" in (runs or []):
        sys.exit("error: --mode=report and --runs=DIR,DIR,... go together")
    command_line.check_flags(_MODE, _MODE_FLAGS)
    gpu_flags.check_flags(
        "--mode=plan, and without --on_device", wanted=mode == "plan" and not _ON_DEVICE.value
    )
    if _DEVICE_MEMORY.value == 0:
        sys.exit("error: --device_memory_gb=0 must be positive")
    workdir = _path(_WORKDIR.value)
    if workdir is not None and workdir.is_file():
        sys.exit(f"error: --workdir={workdir} is a file; give a folder, existing or not")
    logging.set_verbosity(logging.ERROR)
    hints = {
        "prepare": "the same command continues from what is prepared so far",
        "train": "the same command starts it again",
    }
    with (
        command_line.signals_as_statuses(lambda: hints.get(mode, "")),
        command_line.errors_as_messages(),
    ):
        _dispatch(mode, config, workdir)


def _dispatch(mode: str, config, workdir: pathlib.Path | None) -> None:
    # Each mode imports only what it needs: a plan starts at once, training loads TensorFlow.
    # Signals wait meanwhile: raised in an extension's import, their exceptions crash Python.
    if mode == "plan":
        return _plan(config, workdir)
    if mode in ("prepare", "preview", "report", "export"):
        with held_signals():
            command_line.stay_on_cpu()
    if mode == "prepare":
        with held_signals():
            from mg_jax.tools.prepare import prepare
        # The others need not be met, only the folder that all share.
        return prepare(config, launched_process(_PROCESSES.value, _PROCESS.value))
    if mode == "preview":
        with held_signals():
            from mg_jax.tools.preview import write_preview
        print(write_preview(config, workdir))
        return None
    if mode == "report":
        with held_signals():
            from mg_jax.report.write import write_report
        page = write_report(_paths(_RUNS.value), workdir)
        print(f"see {page} in a browser; the same command renews it, --runs=...,DIR adds runs")
        return None
    if mode == "export":
        with held_signals():
            from mg_jax.tools.export import export_run
        print(export_run(workdir, _FORMAT.value))
        return None
    # It has no effect once JAX and TensorFlow are loaded.
    keep_freed_memory()
    if mode == "predict":
        with held_signals():
            from mg_jax.tools.predict_many import predict_videos
        print(predict_videos(config, _paths(_VIDEO.value), workdir, _path(_OUTPUT.value)))
        return None
    if mode == "features":
        with held_signals():
            from mg_jax.tools.features import write_features
        videos = None if _VIDEO.value is None else _paths(_VIDEO.value)
        output, each = _path(_OUTPUT.value), _EACH_CLIP.value
        print(write_features(config, videos, workdir, output, each_clip=each))
        return None
    return _train_or_evaluate(mode, config, workdir)


def _path(text: str | None) -> pathlib.Path | None:
    return None if text is None else pathlib.Path(text).expanduser()


def _paths(texts: list[str]) -> list[pathlib.Path]:
    return [pathlib.Path(text).expanduser() for text in texts]


def _plan(config, workdir: pathlib.Path) -> None:
    with held_signals():
        from mg_jax.tools.plan import write_plan

    def write_schedule() -> None:
        print(write_plan(config, workdir, _VIDEOS.value), flush=True)

    # Devices that do not do are refused before anything is written.
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


def _train_or_evaluate(mode: str, config, workdir: pathlib.Path) -> None:
    """Joins the other processes of the run, if any, then trains or evaluates.

    If that ends early, this process exits without waiting for the others, which may be gone, or for
    the compiler.
    """
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
    from mg_jax.workdir.config import has_checkpoint

    if mode != "train":
        return f"{how}; the same command starts it again"
    if has_checkpoint(workdir):
        return f"{how}; {CONTINUES}"
    return f"{how} before the first checkpoint; the same command starts it again"


if __name__ == "__main__":
    app.run(main, flags_parser=command_line.parse_flags)
