"""Requests from outside to stop: Ctrl-C, and SIGTERM as a notice of preemption."""

import contextlib
import functools
import signal
from collections.abc import Iterator

import jax
from jax.sharding import Mesh

from mg_jax.machine.exit_status import INTERRUPTED
from mg_jax.runtime import hosts, parallel

CONTINUES = "the same command continues from the newest checkpoint"

# What the processes tell each other; the highest number wins.
_GO_ON, _PREEMPTED, _CTRL_C = range(3)


class Preempted(Exception):
    """SIGTERM has arrived; the run is to write a checkpoint and end."""


class Stops:
    """Records signals, and raises them at checks, where a run can stop in good order.

    Raised in the middle of anything, an exception could be lost in a library's callback.
    """

    def __init__(self):
        # Not threading.Event: a signal during its `set` would wait for itself.
        self._interrupted = self._terminated = False
        self._said: jax.Array | None = None

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Records signals for the checks; a second Ctrl-C ends the process at once."""
        handlers = {signal.SIGINT: self._interrupt, signal.SIGTERM: self._terminate}
        previous = {number: signal.signal(number, handlers[number]) for number in handlers}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    def check(self) -> None:
        """Raises what a signal asks for; all processes call it as often and at the same places.

        Raises:
          KeyboardInterrupt: after Ctrl-C to any process, on all of them at the same call.
          Preempted: after SIGTERM to any process, likewise.
        """
        if jax.process_count() == 1:
            return self.check_alone()
        # What the processes said at the last check: the devices have it by now, nothing waits.
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
        """As `check_now`, but does nothing where there are several processes.

        Raises:
          KeyboardInterrupt: after Ctrl-C, where this process is the only one.
          Preempted: after SIGTERM, likewise.
        """
        if jax.process_count() == 1:
            _raise(self._wanted)

    @functools.cached_property
    def _mesh(self) -> Mesh:
        return parallel.make_mesh()

    @property
    def _wanted(self) -> int:
        if self._interrupted:
            return _CTRL_C
        return _PREEMPTED if self._terminated else _GO_ON

    def _terminate(self, signum, frame) -> None:
        self._terminated = True

    def _interrupt(self, signum, frame) -> None:
        if self._interrupted:
            # Libraries would log an exception that is raised in them as a failure.
            hosts.exit_now(f"interrupted; {CONTINUES}, if there is one", INTERRUPTED)
        self._interrupted = True


def _raise(wanted: int) -> None:
    if wanted == _CTRL_C:
        raise KeyboardInterrupt
    if wanted == _PREEMPTED:
        raise Preempted
