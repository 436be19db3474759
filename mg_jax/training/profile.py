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

    def start(self, step: int, state: Any) -> None:
        """Starts the trace if iteration `step` is its first, once the state before it is there."""
        if step == self._first and hosts.is_first():
            jax.block_until_ready(state)
            jax.profiler.start_trace(self._folder)
            self._running = True

    def end(self, step: int, state: Any) -> None:
        """Ends the trace if iteration `step` is the one after its last, once the state is there."""
        if step == self._end and self._running:
            jax.block_until_ready(state)
            self.close()
            say(f"trace of iterations {self._first} to {self._end - 1} in {self._folder}")

    def close(self) -> None:
        """Ends a trace that is running."""
        if self._running:
            self._running = False
            jax.profiler.stop_trace()
