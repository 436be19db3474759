"""A trace of some iterations for XProf or Perfetto: `run.profile_steps`."""

import pathlib
from typing import Any

import jax

from mg_jax.machine.progress import say
from mg_jax.runtime import hosts


class Profile:
    """Traces the iterations from one to another on the first process."""

    def __init__(self, folder: pathlib.Path, steps: tuple[int, ...]):
        """Takes where to write and the first iteration and the one after the last; or none."""
        self._folder = folder
        self._first, self._end = steps or (-1, -1)
        self._running = False

    def before(self, step: int, state: Any) -> None:
        """Starts or ends the trace before iteration `step`, once the state before it is there."""
        if step not in (self._first, self._end) or not hosts.is_first():
            return
        jax.block_until_ready(state)
        if step == self._first:
            jax.profiler.start_trace(self._folder)
            self._running = True
        elif self._running:
            self.close()
            say(f"trace of iterations {self._first} to {self._end - 1} in {self._folder}")

    def close(self) -> None:
        """Ends a trace that is running."""
        if self._running:
            self._running = False
            jax.profiler.stop_trace()
