"""Requests from outside to stop: Ctrl-C, and SIGTERM as a notice of preemption."""

import contextlib
import functools
import signal
import threading
from collections.abc import Iterator

import jax
from jax.sharding import Mesh

from mg_jax.machine.exit_status import INTERRUPTED
from mg_jax.runtime import hosts, parallel

CONTINUES = "the same command continues from the newest checkpoint"

# What the processes tell each other, the higher the more urgent.
_GO_ON, _PREEMPTED, _CTRL_C = range(3)


class Preempted(Exception):
    """SIGTERM has come; the run is to write a checkpoint and end."""


class Stops:
    """Hears of signals and passes them on where a run can stop in good order.

    An exception that Python raises in the middle of anything can be lost in a library's callback.
    """

    def __init__(self):
        self._interrupted = threading.Event()
        self._terminated = threading.Event()
        self._said: jax.Array | None = None

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Holds back signals for the checks; a second Ctrl-C ends at once."""
        handlers = {signal.SIGINT: self._interrupt, signal.SIGTERM: self._terminate}
        previous = {number: signal.signal(number, handlers[number]) for number in handlers}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    def check(self) -> None:
        """To be called by all processes as often and at the same places.

        Raises:
          KeyboardInterrupt: after Ctrl-C to any process, on all of them at the same call.
          Preempted: after a SIGTERM to any process, as well.
        """
        if jax.process_count() == 1:
            return self.check_alone()
        # What the processes said at the last check: devices have long agreed, nothing waits.
        said, self._said = self._said, hosts.highest(self._wanted, self._mesh)
        return None if said is None else _raise(int(said))

    def check_now(self) -> None:
        """As `check`, but waits for the other processes' answers.

        Raises:
          KeyboardInterrupt: as `check` does.
          Preempted: as `check` does.
        """
        if jax.process_count() == 1:
            return self.check_alone()
        return _raise(int(hosts.highest(self._wanted, self._mesh)))

    def check_alone(self) -> None:
        """While one process waits for itself; several go on to the next `check`.

        Raises:
          KeyboardInterrupt: after Ctrl-C, where this process is the only one.
          Preempted: after SIGTERM, as well.
        """
        if jax.process_count() == 1:
            _raise(self._wanted)

    @functools.cached_property
    def _mesh(self) -> Mesh:
        return parallel.make_mesh()

    @property
    def _wanted(self) -> int:
        if self._interrupted.is_set():
            return _CTRL_C
        return _PREEMPTED if self._terminated.is_set() else _GO_ON

    def _terminate(self, signum, frame) -> None:
        self._terminated.set()

    def _interrupt(self, signum, frame) -> None:
        if self._interrupted.is_set():
            # Libraries log an exception in their midst as if something had failed.
            hosts.exit_now(f"interrupted; {CONTINUES}, if there is one", INTERRUPTED)
        self._interrupted.set()


def _raise(wanted: int) -> None:
    if wanted == _CTRL_C:
        raise KeyboardInterrupt
    if wanted == _PREEMPTED:
        raise Preempted
