"""Runs tasks in several processes, and shows their progress meanwhile."""

import concurrent.futures
import contextlib
import dataclasses
import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator

from mg_jax.machine.held_signals import held_signals
from mg_jax.machine.progress import Bar, say

_SAY_EVERY_S = 30.0  # where there is no terminal for a progress bar
# Shared by all workers; set in each when it starts.
_tally = None


class Tally:
    """Counts of videos done and failed and of frames, shared between processes."""

    def __init__(self, context, changed: Callable[["Tally"], None] | None = None):
        """All 0; `changed` is called after each video and frame, in the process that makes it."""
        self._done = context.Value("q", 0)
        self._failed = context.Value("q", 0)
        self._frames = context.Value("q", 0)
        self._whole = context.Value("q", 0)
        self._changed = changed

    def add_video(self, succeeded: bool) -> None:
        """Counts a video."""
        self._add(self._done if succeeded else self._failed)

    def add_frame(self) -> None:
        """Counts a decoded frame."""
        self._add(self._frames)

    def add_whole(self, videos: int) -> None:
        """Counts the videos of a part that is whole now, after each was counted by itself."""
        with self._whole.get_lock():
            self._whole.value += videos

    def _add(self, counter) -> None:
        with counter.get_lock():
            counter.value += 1
        if self._changed:
            self._changed(self)

    @property
    def done(self) -> int:
        return self._done.value

    @property
    def failed(self) -> int:
        return self._failed.value

    @property
    def frames(self) -> int:
        return self._frames.value

    @property
    def whole(self) -> int:
        return self._whole.value


@dataclasses.dataclass(frozen=True)
class Pool:
    """Processes that share the tasks.

    Attributes:
      workers: number of processes; for 1 the tasks run in this process.
      watch: called with the tally several times a second; may raise, which stops everything.
    """

    workers: int
    watch: Callable[[Tally], None]

    def run(self, function: Callable, tasks: Iterable) -> Tally:
        """Calls `function(task, tally)` for each task, in any order; returns the tally.

        Raises:
          Exception: that of the first task that fails, or of `watch`; the other tasks are stopped.
        """
        # A fork would copy TensorFlow's threads in an undefined state.
        context = multiprocessing.get_context("spawn")
        if self.workers == 1:
            tally = Tally(context, self.watch)
            for task in tasks:
                function(task, tally)
            return tally
        tally = Tally(context)
        with (
            held_signals() as deliver_signals,
            concurrent.futures.ProcessPoolExecutor(
                self.workers, context, initializer=_start, initargs=(tally,)
            ) as pool,
        ):
            try:
                waiting = {pool.submit(_call, function, task) for task in tasks}
                while waiting:
                    done, waiting = concurrent.futures.wait(
                        waiting, 0.2, concurrent.futures.FIRST_COMPLETED
                    )
                    for future in done:
                        future.result()
                    self.watch(tally)
                    deliver_signals()
            except BaseException:
                _kill(pool)
                raise
        return tally


@contextlib.contextmanager
def progress(
    what: str, total: int, initial: int = 0, frames: float = 0.0, *, is_shown: bool = True
) -> Iterator[Callable[..., None]]:
    """Shows rates and time left: a bar on a terminal, otherwise a line now and then.

    Args:
      what: the work.
      total: number of all videos.
      initial: number of those that were done before.
      frames: number of source frames of the others, estimated; 0 where it is unknown.
      is_shown: False on all but the first process of several.

    Returns:
      What shows a tally, and the number of videos that other processes have done meanwhile.
    """
    with Bar(
        what=what,
        total=total,
        unit="video",
        initial=initial,
        show=is_shown,
        smoothing=0,
        miniters=0,  # Otherwise frames would not be shown before the next video is done.
    ) as bar:
        start = said = time.monotonic()

        def show(tally: Tally, by_others: int = 0) -> None:
            nonlocal said
            count, now = tally.done + tally.failed + by_others, time.monotonic()
            if bar.is_shown:
                _show_on(bar, initial + count, tally.frames)
            elif is_shown and now - said >= _SAY_EVERY_S:
                said = now
                at = _at(count, total - initial, tally.frames, frames, now - start)
                say(f"{what}: {initial + count:,} of {total:,} videos, {at}")

        yield show


def _show_on(bar: Bar, count: int, frames: int) -> None:
    if frames and time.time() - bar.last_print_t >= bar.mininterval:
        rate = frames / max(bar.format_dict["elapsed"], 1e-9)
        bar.set_postfix_str(f"{frames:,} frames, {rate:,.0f} frames/s", refresh=False)
    bar.advance_to(count)


def _at(count: int, videos: int, frames: int, all_frames: float, seconds: float) -> str:
    """What is done, how fast, and how long the rest will take; by frames until a video is done."""
    at = f"{count / seconds:,.1f} a second"
    if frames:
        at += f", {frames:,} frames, {frames / seconds:,.1f} a second"
    done = count / videos if count else min(frames / all_frames, 1.0) if all_frames else 0.0
    if done:
        at += f", {Bar.format_interval(seconds * (1 / done - 1))} left"
    return at


def _start(tally: Tally) -> None:
    global _tally
    _tally = tally
    end_with_parent()


def end_with_parent() -> None:
    """Makes this worker end when its parent does, and leave Ctrl-C to it."""
    # Ctrl-C reaches all processes of a terminal; the parent ends its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Without its parent, which may be killed, a worker would wait for tasks for ever.
    threading.Thread(target=_exit_with_parent, daemon=True).start()


def _exit_with_parent() -> None:
    multiprocessing.connection.wait([multiprocessing.parent_process().sentinel])
    os._exit(1)


def _call(function: Callable, task) -> None:
    function(task, _tally)


def _kill(pool: concurrent.futures.ProcessPoolExecutor) -> None:
    """Ends the workers in the middle of their tasks; none leaves a file that looks whole."""
    pool.shutdown(wait=False, cancel_futures=True)
    for process in multiprocessing.active_children():
        process.terminate()
