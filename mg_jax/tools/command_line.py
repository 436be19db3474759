"""What the commands share: a config as a flag, and errors that end as messages."""

import contextlib
import re
import signal
import sys
from collections.abc import Callable, Iterator

from absl import flags
from ml_collections import config_flags

from mg_jax.errors import UserError
from mg_jax.machine.exit_status import INTERRUPTED, TERMINATED

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
    except (flags.Error, UserError, OSError, ValueError, TypeError) as error:
        if missing := re.search(r"No such file or directory: '(.+?)'", str(error)):
            sys.exit(f"error: --config={missing[1]} is not there; recipes are configs/*.py")
        # In between ml_collections shows a traceback.
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        sys.exit(f"error: {' '.join(dict.fromkeys((lines[0], lines[-1])))}")


def check_flags(
    chosen: flags.FlagHolder, by_modes: dict[tuple[str, ...], tuple[flags.FlagHolder, ...]]
) -> None:
    """Ends the program where a flag is given that goes with another mode.

    Args:
      chosen: the flag that chooses the mode.
      by_modes: flags by the modes that have them.
    """
    for modes, own in by_modes.items():
        for flag in own if chosen.value not in modes else ():
            if flag.present:
                given = f"--{flag.name}" if flag.value is True else f"--{flag.name}={flag.value}"
                *right, wrong = (f"--{chosen.name}={mode}" for mode in (*modes, chosen.value))
                sys.exit(f"error: {given} goes with {' or '.join(right)}, not with {wrong}")


def stay_on_cpu() -> None:
    """Keeps JAX off the accelerators, which may be in use, in programs that do not train."""
    # Imported here, since most programs with flags need no JAX.
    import jax

    jax.config.update("jax_platforms", "cpu")


@contextlib.contextmanager
def errors_as_messages() -> Iterator[None]:
    """Ends the program with the message of a `UserError`; everything else keeps its traceback.

    A file that cannot be read or written ends it with a message as well.
    """
    try:
        yield
    except UserError as error:
        sys.exit(f"error: {error}")
    except OSError as error:
        if error.filename is None:
            raise
        sys.exit(f"error: {error.filename}: {error.strerror}")


class _Terminated(BaseException):
    """SIGTERM was received."""


@contextlib.contextmanager
def signals_as_statuses(hint: Callable[[], str] = lambda: "") -> Iterator[None]:
    """Ends the program with a message and a status of `exit_status` after Ctrl-C or SIGTERM.

    Args:
      hint: returns what to add to the message.
    """
    handler = signal.signal(signal.SIGTERM, _raise_terminated)
    try:
        yield
    except (KeyboardInterrupt, _Terminated) as stopped:
        by_keys = isinstance(stopped, KeyboardInterrupt)
        words = ["interrupted" if by_keys else "stopped by SIGTERM", hint()]
        print("; ".join(filter(None, words)), file=sys.stderr, flush=True)
        sys.exit(INTERRUPTED if by_keys else TERMINATED)
    finally:
        signal.signal(signal.SIGTERM, handler)


def _raise_terminated(signum, frame) -> None:
    raise _Terminated
