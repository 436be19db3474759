"""What went wrong, for the person who started a command, and what its messages are made of."""

import difflib
from collections.abc import Collection, Iterable


class UserError(Exception):
    """Something given does not fit; the message names it, valid values and what to run.

    Commands end with this message alone. Every other exception is a fault of the program, and ends
    with its traceback.
    """


def text_of(error: BaseException) -> str:
    """An error's message, or its type if it has none."""
    return str(error).strip() or type(error).__name__


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or its type if it has none."""
    return text_of(error).splitlines()[0]


def some(names: Iterable[object], most: int = 5) -> str:
    """The first few names, and how many more there are."""
    names = list(map(str, names))
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def did_you_mean(given: str, names: Collection[str]) -> str:
    """What follows in a message, ". Did you mean 'plan'?"; empty if no name is near.

    Args:
      given: the beginning of a name, or a name that was misspelt.
      names: those that are known.
    """
    near = near_name(given, names)
    return f". Did you mean {near!r}?" if near else ""


def near_name(given: str, names: Collection[str]) -> str | None:
    """The name that was most likely meant; arguments as of `did_you_mean`."""
    longer = [name for name in names if given and name.startswith(given)]
    return next(iter(longer or difflib.get_close_matches(given, names, n=1)), None)
