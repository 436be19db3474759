"""Event loops for Orbax's reads: what ends late, after another read has failed, is not reported."""

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any


class _Loop(asyncio.SelectorEventLoop):
    """Leaves out what TensorStore's threads report to it once it is closed.

    Orbax closes its loop at the first read that fails. Those of all other arrays would each print
    a traceback, hundreds of lines before the one that says what is damaged.
    """

    def call_soon_threadsafe(self, callback: Callable, *args: Any, **options: Any) -> Any:
        try:
            return super().call_soon_threadsafe(callback, *args, **options)
        except RuntimeError:
            if not self.is_closed():
                raise

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        # Orbax raises the first error; those of other reads are found when they are collected.
        if not self.is_closed() and "never retrieved" not in context.get("message", ""):
            super().call_exception_handler(context)


class _Policy(asyncio.DefaultEventLoopPolicy):
    def new_event_loop(self) -> asyncio.AbstractEventLoop:
        return _Loop()


class _Use:
    """How many reads go on, and the policy from before the first of them."""

    lock = threading.Lock()
    reads = 0
    before: asyncio.AbstractEventLoopPolicy | None = None


@contextlib.contextmanager
def of_reads() -> Iterator[None]:
    """Within it new event loops, of all threads, are such ones."""
    with _Use.lock:
        if not _Use.reads:
            _Use.before = asyncio.get_event_loop_policy()
            asyncio.set_event_loop_policy(_Policy())
        _Use.reads += 1
    try:
        yield
    finally:
        with _Use.lock:
            _Use.reads -= 1
            if not _Use.reads:
                asyncio.set_event_loop_policy(_Use.before)
