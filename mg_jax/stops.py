"""Requests from outside to stop: Ctrl-C, and SIGTERM as a notice of preemption."""

import contextlib
import signal
import threading
from collections.abc import Iterator

import jax
from jax.experimental import multihost_utils

from mg_jax import hosts

INTERRUPTED = "interrupted; the same command continues from the newest checkpoint"


class Preempted(Exception):
    """SIGTERM has come; the run is to write a checkpoint and end."""


class Stops:
    """Hears of signals and passes them on where a run can stop in good order.

    An exception that Python raises in the middle of anything can be lost in a library's callback.
    """

    def __init__(self):
        self._interrupted = threading.Event()
        self._terminated = threading.Event()
        self._checks = 0

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Holds back signals for `check`; a second Ctrl-C ends at once."""
        handlers = {signal.SIGINT: self._interrupt}
        if jax.process_count() == 1:
            # With several, the coordination service listens on each and tells all.
            handlers[signal.SIGTERM] = lambda signum, frame: self._terminated.set()
        previous = {number: signal.signal(number, handlers[number]) for number in handlers}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    def check(self) -> None:
        """To be called by all processes as often and at the same places.

        Raises:
          KeyboardInterrupt: after Ctrl-C, on the process that got it.
          Preempted: after a SIGTERM to any process, on all of them at the same call.
        """
        if self._interrupted.is_set():
            raise KeyboardInterrupt
        self._checks += 1
        if self._terminated.is_set() or multihost_utils.reached_preemption_sync_point(self._checks):
            raise Preempted

    def _interrupt(self, signum, frame) -> None:
        if self._interrupted.is_set():
            # Libraries log an exception in their midst as if something had failed.
            hosts.leave(INTERRUPTED)
        self._interrupted.set()
