"""Trains, evaluates, plans, previews or applies a video model by a config. See README.md."""

import os
import pathlib
import sys

from absl import app, flags, logging

from mg_jax import command_line
from mg_jax.allocator import keep_freed_memory

flags.adopt_module_key_flags(command_line)
_WORKDIR = flags.DEFINE_string("workdir", None, "Where the run keeps its files.")
_MODE = flags.DEFINE_enum(
    "mode",
    "train",
    ["train", "eval", "plan", "preview", "prepare", "predict"],
    "train: train, or continue, and evaluate; eval: evaluate the newest checkpoint; plan: print "
    "the schedule; preview: draw the first clips of its grids; prepare: prepare the data set; "
    "predict: print the classes of --video.",
)
_VIDEO = flags.DEFINE_string("video", None, "A video file, for --mode=predict.")

# Only what a user can act on; each line of Orbax and TensorFlow is about their own affairs.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")


def main(argv: list[str]) -> None:
    """Dispatches on --mode; a setting that cannot work ends with its message, not a traceback."""
    mode, config = _MODE.value, command_line.CONFIG.value
    if len(argv) > 1:
        sys.exit(f"error: unexpected arguments {argv[1:]}; settings are --config.KEY=VALUE")
    if config is None:
        sys.exit("error: --config is missing, for example --config=configs/demo.py")
    if _WORKDIR.value is None and mode not in ("prepare", "predict"):
        sys.exit(f"error: --workdir=DIR is missing; --mode={mode} keeps its files there")
    if (_VIDEO.value is None) == (mode == "predict"):
        sys.exit("error: --mode=predict and --video=FILE go together")
    workdir = None if _WORKDIR.value is None else pathlib.Path(_WORKDIR.value).expanduser()
    if workdir is not None and workdir.is_file():
        sys.exit(f"error: --workdir={workdir} is a file; give a folder, existing or not")
    logging.set_verbosity(logging.WARNING)
    try:
        with command_line.errors_as_messages():
            _dispatch(mode, config, workdir)
    except KeyboardInterrupt:
        continues = {"train": "the newest checkpoint", "prepare": "what is prepared so far"}
        if mode not in continues:
            sys.exit("interrupted")
        sys.exit(f"interrupted; the same command continues from {continues[mode]}")


def _dispatch(mode: str, config, workdir: pathlib.Path | None) -> None:
    # Each mode imports what it needs: the plan is there at once, training loads TensorFlow.
    if mode == "prepare":
        from mg_jax.datasets import prepare

        return prepare(config)
    if mode == "plan":
        from mg_jax.plan import write_plan

        print(write_plan(config, workdir))
        return None
    if mode == "preview":
        from mg_jax.preview import write_preview

        print(write_preview(config, workdir))
        return None
    # Without effect once JAX and TensorFlow are loaded.
    keep_freed_memory()
    if mode == "predict":
        from mg_jax.predict import predict

        print(predict(config, pathlib.Path(_VIDEO.value).expanduser(), workdir))
        return None
    if mode == "eval":
        from mg_jax.train import evaluate_run

        return evaluate_run(config, workdir)
    from mg_jax.train import train

    return train(config, workdir)


if __name__ == "__main__":
    app.run(main, flags_parser=command_line.parse_flags)
