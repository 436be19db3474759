"""Runs tasks in a process per core, with progress that arrives while they run."""

import concurrent.futures
import contextlib
import dataclasses
import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator

from tqdm import tqdm

_SAY_EVERY_S = 30.0  # where there is no terminal for a progress bar
# Shared by all workers; set in each when it starts.
_tally = None


class Tally:
    """Counts of done and failed items, shared between processes."""

    def __init__(self, context):
        self._done = context.Value("q", 0)
        self._failed = context.Value("q", 0)

    def add(self, succeeded: bool) -> None:
        """Counts an item."""
        counter = self._done if succeeded else self._failed
        with counter.get_lock():
            counter.value += 1

    @property
    def done(self) -> int:
        return self._done.value

    @property
    def failed(self) -> int:
        return self._failed.value


@dataclasses.dataclass(frozen=True)
class Pool:
    """How many processes, and what to do between their reports.

    Attributes:
      workers: processes; one works in this process.
      watch: called with the tally several times a second; raises to stop everything.
    """

    workers: int
    watch: Callable[[Tally], None]

    def run(self, function: Callable, tasks: Iterable) -> None:
        """Calls `function(task, count)` for each task, in any order.

        `count(succeeded)` counts an item as done or failed.

        Raises:
          Exception: what the first failing task or `watch` raised; the other tasks are given up.
        """
        # A fork would copy TensorFlow's threads in an undefined state.
        context = multiprocessing.get_context("spawn")
        tally = Tally(context)
        if self.workers == 1:
            for task in tasks:
                function(task, lambda succeeded: (tally.add(succeeded), self.watch(tally)))
            return
        with concurrent.futures.ProcessPoolExecutor(
            self.workers, context, initializer=_start, initargs=(tally,)
        ) as pool:
            try:
                waiting = {pool.submit(_call, function, task) for task in tasks}
                while waiting:
                    done, waiting = concurrent.futures.wait(
                        waiting, 0.2, concurrent.futures.FIRST_COMPLETED
                    )
                    for future in done:
                        future.result()
                    self.watch(tally)
            except BaseException:
                _kill(pool)
                raise


@contextlib.contextmanager
def progress(what: str, total: int, initial: int = 0) -> Iterator[Callable[[Tally], None]]:
    """Shows rate and time left: a bar on a terminal, otherwise a line now and then.

    Args:
      what: the work.
      total: videos that there are.
      initial: those of them that were done before.
    """
    terminal = sys.stderr.isatty()
    with tqdm(
        desc=what,
        total=total,
        initial=initial,
        unit="video",
        dynamic_ncols=True,
        disable=not terminal,
        smoothing=0,
    ) as bar:
        start = said = time.monotonic()

        def show(tally: Tally) -> None:
            nonlocal said
            count = tally.done + tally.failed
            bar.update(initial + count - bar.n)
            now = time.monotonic()
            if terminal or not count or now - said < _SAY_EVERY_S:
                return
            said = now
            rate = count / (now - start)
            left = tqdm.format_interval((total - initial - count) / rate)
            at = f"{initial + count:,} of {total:,} videos, {rate:.1f} a second, {left} left"
            print(f"{what}: {at}", flush=True)

        yield show


def _start(tally: Tally) -> None:
    global _tally
    _tally = tally
    # Ctrl-C reaches all processes of a terminal; the parent ends its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Without its parent, which may be killed, a worker would wait for tasks for ever.
    threading.Thread(target=_exit_with_parent, daemon=True).start()


def _exit_with_parent() -> None:
    multiprocessing.connection.wait([multiprocessing.parent_process().sentinel])
    os._exit(1)


def _call(function: Callable, task) -> None:
    function(task, _tally.add)


def _kill(pool: concurrent.futures.ProcessPoolExecutor) -> None:
    """Ends the workers in the middle of what they do; they only ever write files whole."""
    pool.shutdown(wait=False, cancel_futures=True)
    for process in multiprocessing.active_children():
        process.terminate()
