"""Bars on a terminal: how far, how fast, how much longer."""

import contextlib
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from tqdm import tqdm

T = TypeVar("T")


class Bar(tqdm):
    """A bar on a terminal; shows nothing where there is none, or one without a width."""

    def __init__(
        self,
        items: Iterable | None = None,
        what: str | None = None,
        total: int | None = None,
        unit: str = "it",
        *,
        show: bool = True,
        **options: Any,
    ):
        """A bar that is updated by hand, or by iterating over it.

        Args:
          items: to iterate over; lines are printed meanwhile by `say`.
          what: the work.
          total: how many items there are.
          unit: what an item is.
          show: False on all but the first process of several.
          options: others of tqdm.
        """
        shown = show and _has_terminal()
        super().__init__(
            items, what, total, unit=unit, dynamic_ncols=True, disable=not shown, **options
        )

    @property
    def is_shown(self) -> bool:
        """Whether people see it; where not, lines may stand for it."""
        return not self.disable

    def advance_to(self, count: int) -> None:
        """Shows that so many items are done."""
        self.update(count - self.n)


def shown(
    items: Iterable[T], what: str, unit: str, total: int, *, show: bool = True
) -> Iterator[T]:
    """The items, under a bar that disappears when they end; arguments as of `Bar`."""
    return iter(Bar(items, what, total, unit, show=show, leave=False))


@contextlib.contextmanager
def waiting(what: str, *, show: bool = True) -> Iterator[Callable[[], None]]:
    """A line with the time that passes, which disappears when the block ends.

    Args:
      what: is waited for.
      show: as of `Bar`.

    Returns:
      What to call now and then.
    """
    with Bar(what=what, show=show, leave=False, bar_format="{desc}: {elapsed}") as line:
        yield line.refresh


def say(line: str) -> None:
    """Prints a line at once, without tearing a bar."""
    tqdm.write(line)
    sys.stdout.flush()


def _has_terminal() -> bool:
    return sys.stderr.isatty() and os.get_terminal_size(sys.stderr.fileno()).columns > 0
