"""What the commands share: a config as a flag, and errors that end as messages."""

import contextlib
import pathlib
import re
import sys
import traceback
from collections.abc import Iterator

from absl import flags
from ml_collections import config_flags

# --config=FILE[:VARIANT] and --config.KEY=VALUE
CONFIG = config_flags.DEFINE_config_file(
    "config",
    None,
    "A file of configs/, for example configs/kinetics_slowfast.py[:baseline]; with "
    "--config.KEY=VALUE for any of its values.",
)


def parse_flags(argv: list[str]) -> list[str]:
    """Parses a command line; what is wrong with it or the config file ends with a message."""
    try:
        rest = flags.FLAGS(argv)
        if CONFIG.value is not None:
            CONFIG.value.keys()  # a file that could not be loaded raises when it is looked at
        return rest
    except (KeyError, AttributeError) as error:
        # ml_collections quotes its message once or twice over.
        reason = str(error.args[0]).replace("\\n", "\n").replace("\\", "")
        reason = re.sub(r"^'('.*)'$", r"\1", ". ".join(reason.splitlines()))
        if "get_config" in reason:
            sys.exit(f"error: {reason}; --config takes a recipe, such as configs/demo.py")
        sys.exit(f"error: no such setting in the config: {reason}")
    except SyntaxError as error:
        sys.exit(f"error: --config={error.filename} is no recipe; those are configs/*.py")
    except (flags.Error, OSError, ValueError, TypeError) as error:
        if missing := re.search(r"No such file or directory: '(.+?)'", str(error)):
            sys.exit(f"error: --config={missing[1]} is not there; recipes are configs/*.py")
        # In between ml_collections shows a traceback.
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        sys.exit(f"error: {' '.join(dict.fromkeys((lines[0], lines[-1])))}")


@contextlib.contextmanager
def errors_as_messages() -> Iterator[None]:
    """Ends the program with the message of an error that mg_jax raised itself.

    Those say what is wrong and what to do; so does a file that cannot be read or written. Other
    errors of libraries keep their tracebacks.
    """
    try:
        yield
    except (ValueError, ArithmeticError) as error:
        *_, innermost = traceback.extract_tb(error.__traceback__)
        root = pathlib.Path(__file__).parents[1]
        ours = [root / folder for folder in ("mg_jax", "data", "configs")]
        if not any(folder in pathlib.Path(innermost.filename).parents for folder in ours):
            raise
        sys.exit(f"error: {error}")
    except OSError as error:
        if error.filename is None:
            raise
        sys.exit(f"error: {error.filename}: {error.strerror}")
