"""Trains, evaluates or plans a video model by a config. See README.md."""

import os
import pathlib
import re
import sys
import traceback

from absl import app, flags, logging
from ml_collections import config_flags

from mg_jax.allocator import keep_freed_memory

_CONFIG = config_flags.DEFINE_config_file(
    "config", None, "A file of configs/, for example configs/kinetics_slowfast.py[:baseline]."
)
_WORKDIR = flags.DEFINE_string("workdir", None, "Where the run keeps its files.")
_MODE = flags.DEFINE_enum(
    "mode",
    "train",
    ["train", "eval", "plan", "prepare"],
    "train: train, or continue, and evaluate; eval: evaluate the newest checkpoint; plan: print "
    "the schedule; prepare: prepare the data set.",
)


# Only what a user can act on; each line of Orbax and TensorFlow is about their own affairs.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")


def main(argv: list[str]) -> None:
    """Dispatches on --mode; a setting that cannot work ends with its message, not a traceback."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments {argv[1:]}; settings are --config.KEY=VALUE")
    if _CONFIG.value is None:
        raise app.UsageError("--config is missing, for example --config=configs/demo.py")
    if _WORKDIR.value is None and _MODE.value != "prepare":
        raise app.UsageError(f"--workdir is missing: where --mode={_MODE.value} keeps its files")
    logging.set_verbosity(logging.WARNING)
    if _WORKDIR.value is not None and pathlib.Path(_WORKDIR.value).expanduser().is_file():
        sys.exit(f"error: --workdir={_WORKDIR.value} is a file; give a folder, existing or not")
    try:
        _dispatch(_MODE.value, _CONFIG.value)
    except KeyboardInterrupt:
        sys.exit("interrupted; the same command continues from the newest checkpoint")
    except (ValueError, ArithmeticError) as error:
        if not _is_ours(error):
            raise
        sys.exit(f"error: {error}")


def _is_ours(error: Exception) -> bool:
    """Whether mg_jax itself raised an error, to say what is wrong, and no library below it."""
    *_, innermost = traceback.extract_tb(error.__traceback__)
    return pathlib.Path(__file__).parent in pathlib.Path(innermost.filename).parents


def parse_flags(argv: list[str]) -> list[str]:
    """Parses the command line; what is wrong with it or the config file ends with a message."""
    try:
        rest = flags.FLAGS(argv)
        if _CONFIG.value is not None:
            _CONFIG.value.keys()  # a file that could not be loaded raises when it is looked at
        return rest
    except (KeyError, AttributeError) as error:
        # ml_collections quotes its message once or twice over.
        reason = str(error.args[0]).replace("\\n", "\n").replace("\\", "")
        reason = re.sub(r"^'('.*)'$", r"\1", ". ".join(reason.splitlines()))
        if "get_config" in reason:
            sys.exit(f"error: {reason}; --config takes a recipe, such as configs/demo.py")
        sys.exit(f"error: no such setting in the config: {reason}")
    except (flags.Error, OSError, ValueError, TypeError) as error:
        # In between ml_collections shows a traceback.
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        sys.exit(f"error: {' '.join(dict.fromkeys((lines[0], lines[-1])))}")


def _dispatch(mode: str, config) -> None:
    # Each mode imports what it needs: the plan is there at once, training loads TensorFlow.
    if mode == "prepare":
        from mg_jax.datasets import prepare

        return prepare(config)
    workdir = pathlib.Path(_WORKDIR.value).expanduser()
    if mode == "plan":
        from mg_jax.plan import write_plan

        print(write_plan(config, workdir))
        return None
    # Without effect once JAX and TensorFlow are loaded.
    keep_freed_memory()
    if mode == "eval":
        from mg_jax.train import evaluate_run

        return evaluate_run(config, workdir)
    from mg_jax.train import train

    return train(config, workdir)


if __name__ == "__main__":
    app.run(main, flags_parser=parse_flags)
