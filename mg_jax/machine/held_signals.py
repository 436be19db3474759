"""Signals that wait until they do no harm."""

import contextlib
import signal
from collections.abc import Callable, Iterator

_HELD = (signal.SIGINT, signal.SIGTERM)


@contextlib.contextmanager
def held_signals() -> Iterator[Callable[[], None]]:
    """Holds Ctrl-C and SIGTERM back, so that their exceptions do not strike inside a library.

    An exception from a signal handler may leave a lock of `concurrent.futures` taken for ever, or
    a process half started. Only the main thread may call this.

    Yields:
      A function that runs the handlers of the signals that have come since, which may raise. What
      has come and was not asked for is handled at the end.
    """
    handlers = {number: signal.getsignal(number) for number in _HELD}
    come: list[int] = []

    def deliver() -> None:
        while come:
            number = come.pop(0)
            signal.signal(number, handlers[number])
            try:
                signal.raise_signal(number)
            finally:
                signal.signal(number, hold)

    def hold(number, frame) -> None:
        come.append(number)

    for number in _HELD:
        signal.signal(number, hold)
    try:
        yield deliver
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        for number in come:
            signal.raise_signal(number)
