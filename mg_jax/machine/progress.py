"""Bars on a terminal: how far, how fast, how long still."""

import contextlib
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

T = TypeVar("T")


def has_terminal() -> bool:
    """Whether there is a terminal with room for a bar; some have no width."""
    return sys.stderr.isatty() and os.get_terminal_size(sys.stderr.fileno()).columns > 0


def shown(
    items: Iterable[T], what: str, unit: str, total: int, *, show: bool = True
) -> Iterator[T]:
    """The items, under a bar that disappears when they end.

    Args:
      items: that work goes through; lines are printed meanwhile by `say`.
      what: the work.
      unit: an item.
      total: how many there are.
      show: False on all but the first process of several.
    """
    if not show or not has_terminal():
        return iter(items)
    return iter(tqdm(items, what, total, leave=False, unit=unit, dynamic_ncols=True))


@contextlib.contextmanager
def waiting(what: str, *, show: bool = True) -> Iterator[Callable[[], None]]:
    """A line with the time that passes, which disappears in the end.

    Args:
      what: is waited for.
      show: as of `shown`.

    Returns:
      What to call now and then.
    """
    with tqdm(
        desc=what,
        bar_format="{desc}: {elapsed}",
        leave=False,
        disable=not show or not has_terminal(),
    ) as line:
        yield line.refresh


def say(line: str) -> None:
    """Prints a line at once, without tearing a bar."""
    tqdm.write(line)
    sys.stdout.flush()
