"""What the commands share: a config as a flag, and errors that end as messages."""

import contextlib
import pathlib
import re
import signal
import sys
import sysconfig
import traceback
from collections.abc import Callable, Iterator
from typing import Any

from absl import flags
from ml_collections import ConfigDict, config_flags

from mg_jax.errors import UserError, did_you_mean, near_name, text_of
from mg_jax.machine.exit_status import INTERRUPTED, TERMINATED
from mg_jax.machine.folder import did_you_mean_beside

# Where files lie that are neither recipes nor ours; Python's frozen modules have names like <...>.
_LIBRARIES = (
    *(sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")),
    "<frozen",
)

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
    except UserError as error:
        sys.exit(f"error: {error}")
    except SyntaxError as error:
        sys.exit(f"error: --config={error.filename} is no recipe; those are configs/*.py")
    except (flags.Error, AttributeError, KeyError, OSError, TypeError, ValueError) as error:
        sys.exit(f"error: {_fault_of_recipe(error) or _fault_of_arguments(error)}")


def _fault_of_recipe(error: BaseException | None) -> str:
    """File, line and error where the code of a recipe, or what it calls, failed; or nothing."""
    if error is None:
        return ""
    # ml_collections and absl raise errors of their own over it, which tell less.
    if inner := _fault_of_recipe(error.__cause__ or error.__context__):
        return inner
    calls = traceback.extract_tb(error.__traceback__)
    # Calls up to this file's are those of the program that parses its flags.
    own = max((i for i, call in enumerate(calls) if call.filename == __file__), default=-1)
    ours = [call for call in calls[own + 1 :] if not call.filename.startswith(_LIBRARIES)]
    if not ours:
        return ""
    return f"{ours[-1].filename}:{ours[-1].lineno}: {type(error).__name__}: {_words(error)}"


def _fault_of_arguments(error: Exception) -> str:
    """What is wrong with a command line, in one sentence."""
    if isinstance(error, flags.UnrecognizedFlagError):
        return f"unknown flag --{error.flagname}{_meant(error.flagname)}"
    if isinstance(error, (KeyError, AttributeError)):
        reason = _words(error)
        if "get_config" in reason:
            return f"{reason}; --config takes a recipe, such as configs/demo.py"
        return f"no such setting in the config: {reason}"
    if missing := re.search(r"No such file or directory: '(.+?)'", str(error)):
        near = did_you_mean_beside(pathlib.Path(missing[1]))
        return f"--config={missing[1]} is not there; recipes are configs/*.py{near}"
    # In between ml_collections shows a traceback.
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return _plain(" ".join(dict.fromkeys((lines[0], lines[-1]))))


def _meant(name: str) -> str:
    """The end of a message about an unknown flag: which one was meant, if one is near."""
    section, _, setting = name.partition(".")
    config = flags.FLAGS[CONFIG.name].value
    if section == CONFIG.name and config is None:
        return "; settings go with --config=FILE, in modes that take a recipe"
    for wanted in (name, setting):  # without its first part, or with that misspelt
        if _has(config, wanted) and not name.startswith("no"):
            return f". Did you mean --{CONFIG.name}.{wanted}?"
    own = [flag.name for flag in flags.FLAGS.get_key_flags_for_module(sys.argv[0])]
    near = near_name(name, own)
    return f". Did you mean --{near}?" if near else ""


def _has(config: Any, setting: str) -> bool:
    """Whether a config, which may not have been loaded, has a setting."""
    for part in setting.split("."):
        if not isinstance(config, ConfigDict) or part not in config:
            return False
        config = config[part]
    return not isinstance(config, ConfigDict)  # a section takes no value


# What Python and absl say of a value of the wrong kind, and what is said here.
_KINDS = {
    r": invalid literal for int\(\) with base 10: .*": " must be a whole number",
    r": could not convert string to float: .*": " must be a number",
    r": \('Non-boolean argument to boolean flag', .*\)": " must be True or False",
    r": \S+ is not a non-negative number": " must not be negative",
    r": Error while parsing string: .*": " must be a tuple, such as (1, 2) or ('a', 'b')",
}


def _plain(said: str) -> str:
    """What is wrong with a flag's value, in plain words."""
    if tuple_ := re.search(r"Error while parsing string: (.*) as tuple\.", said):
        opened, closed = (tuple_[1].count(bracket) for bracket in "()")
        if opened != closed:
            return f"{said.partition(': ')[0]} has {opened} '(' and {closed} ')'"
    if one_of := re.search(r"=(.*): value should be one of <(.*)>", said):
        return said + did_you_mean(one_of[1], one_of[2].split("|"))
    for theirs, ours in _KINDS.items():
        said = re.sub(theirs, ours, said)
    return said


def _words(error: BaseException) -> str:
    if not isinstance(error, (KeyError, AttributeError)) or not error.args:
        return text_of(error)
    # ml_collections quotes its message once or twice over.
    reason = str(error.args[0]).replace("\\n", "\n").replace("\\", "")
    return re.sub(r"^'('.*)'$", r"\1", ". ".join(reason.splitlines()))


def check_flags(chosen: flags.FlagHolder, by_mode: dict[str, tuple[flags.FlagHolder, ...]]) -> None:
    """Ends the program where a flag is given that goes with another mode.

    Args:
      chosen: the flag that chooses the mode.
      by_mode: the flags that each mode has and not every mode.
    """
    names = {mode: {flag.name for flag in own} for mode, own in by_mode.items()}
    for flag in (flag for own in by_mode.values() for flag in own):
        if flag.present and flag.name not in names.get(chosen.value, ()):
            value = ",".join(flag.value) if isinstance(flag.value, list) else flag.value
            given = f"--{flag.name}" if value is True else f"--{flag.name}={value}"
            right = [f"--{chosen.name}={mode}" for mode in names if flag.name in names[mode]]
            wrong = f"--{chosen.name}={chosen.value}"
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
