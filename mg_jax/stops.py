"""Requests from outside to stop: Ctrl-C, and SIGTERM as a notice of preemption."""

import contextlib
import signal
import threading
from collections.abc import Iterator

import jax
from jax.sharding import Mesh

from mg_jax import hosts

INTERRUPTED = "interrupted; the same command continues from the newest checkpoint"


class Preempted(Exception):
    """SIGTERM has come; the run is to write a checkpoint and end."""


class Stops:
    """Hears of signals and passes them on where a run can stop in good order.

    An exception that Python raises in the middle of anything can be lost in a library's callback.
    """

    def __init__(self, mesh: Mesh):
        """Takes the devices of all processes."""
        self._mesh = mesh
        self._interrupted = threading.Event()
        self._terminated = threading.Event()
        self._listening = False
        self._said: jax.Array | None = None

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Holds back signals for `check`; a second Ctrl-C ends at once."""
        handlers = {signal.SIGINT: self._interrupt, signal.SIGTERM: self._terminate}
        previous = {number: signal.signal(number, handlers[number]) for number in handlers}
        self._listening = True
        try:
            yield
        finally:
            self._listening = False
            for number, handler in previous.items():
                signal.signal(number, handler)

    def check(self) -> None:
        """To be called by all processes as often and at the same places.

        Raises:
          KeyboardInterrupt: after Ctrl-C, on the process that got it.
          Preempted: after a SIGTERM to any process, on all of them at the same call.
        """
        if jax.process_count() == 1:
            return self.check_alone()
        if self._interrupted.is_set():
            raise KeyboardInterrupt
        if not self._listening:
            return None
        # What the processes said at the last check: devices have long agreed, nothing waits.
        said, self._said = self._said, hosts.any_of(self._terminated.is_set(), self._mesh)
        if said is not None and bool(said):
            raise Preempted
        return None

    def check_alone(self) -> None:
        """While one process waits for itself; several go on to the next `check`.

        Raises:
          KeyboardInterrupt: after Ctrl-C.
          Preempted: after SIGTERM, where this process is the only one.
        """
        if self._interrupted.is_set():
            raise KeyboardInterrupt
        if self._terminated.is_set() and jax.process_count() == 1:
            raise Preempted

    def _terminate(self, signum, frame) -> None:
        self._terminated.set()

    def _interrupt(self, signum, frame) -> None:
        if self._interrupted.is_set():
            # Libraries log an exception in their midst as if something had failed.
            hosts.leave(INTERRUPTED)
        self._interrupted.set()
