"""What the commands share: a config as a flag, and errors that end as messages."""

import contextlib
import pathlib
import re
import sys
import traceback
from collections.abc import Callable, Iterator

from absl import flags
from ml_collections import config_flags


def define_config() -> flags.FlagHolder:
    """Defines --config=FILE[:VARIANT] and --config.KEY=VALUE."""
    return config_flags.DEFINE_config_file(
        "config",
        None,
        "A file of configs/, for example configs/kinetics_slowfast.py[:baseline]; with "
        "--config.KEY=VALUE for any of its values.",
    )


def parser(config: flags.FlagHolder) -> Callable[[list[str]], list[str]]:
    """Parses a command line; what is wrong with it or the config file ends with a message."""

    def parse(argv: list[str]) -> list[str]:
        try:
            rest = flags.FLAGS(argv)
            if config.value is not None:
                config.value.keys()  # a file that could not be loaded raises when it is looked at
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

    return parse


@contextlib.contextmanager
def errors_as_messages() -> Iterator[None]:
    """Ends the program with the message of an error that mg_jax raised itself.

    Those say what is wrong and what to do; errors of libraries keep their tracebacks.
    """
    try:
        yield
    except (ValueError, ArithmeticError) as error:
        *_, innermost = traceback.extract_tb(error.__traceback__)
        if pathlib.Path(__file__).parents[1] not in pathlib.Path(innermost.filename).parents:
            raise
        sys.exit(f"error: {error}")
