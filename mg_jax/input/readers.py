"""Processes that read clips straight into the memory of batches.

One interpreter, whose lock threads share, ends at some 740 clips of 32 x 224^2 a second, however
many cores there are. So readers are processes, and the one that trains asks for a batch in one
message and does nothing for a single clip. Its memory is shared (`shared_memory`).
"""

import functools
import itertools
import os
import pathlib
import select
import signal
import subprocess
import sys
import threading
import weakref

import numpy as np

from data.format.records import DamagedVideos, DataError
from mg_jax.errors import UserError
from mg_jax.input.clips import ClipSource, ViewSource
from mg_jax.input.messages import DAMAGED, FAILED, NOTHING_LEFT, TASK, Answer, Task, unpacked
from mg_jax.input.shared_memory import BatchMemory, arrays_in, share
from mg_jax.machine.cores import usable_cores

_ROOT = pathlib.Path(__file__).parents[2]
# Signals that come to all processes of a job and that the one that trains deals with.
_NOT_FOR_READERS = {signal.SIGINT, signal.SIGTERM}
_ANSWERS_BYTES = 1 << 16


class ReaderError(UserError):
    """A reader has ended before the run."""


class _Batch:
    """A batch that readers work at."""

    def __init__(self, tasks: int, damaged: DamagedVideos):
        self.left = tasks
        self.damaged = damaged
        self.done = threading.Event()


class Readers:
    """Reader processes, started when they are first needed and kept. Threads may share them.

    They end when nothing refers to this object any more, and with this process.

    Attributes:
      count: of the processes.
      pids: of those that have been started.
    """

    def __init__(self, count: int):
        """Takes how many; 0 for one per usable core."""
        self.count = count or usable_cores()
        self.pids: list[int] = []
        self._state: _State | None = None
        self._starting = threading.Lock()

    def stream(self, source: ClipSource | ViewSource, largest: int, damaged: DamagedVideos):
        """Starts the readers if need be.

        Args:
          source: what to read from.
          largest: bytes of the largest batch that will be asked for.
          damaged: counts what turns out to be.

        Returns:
          A `Stream`.
        """
        with self._starting:
            if self._state is None:
                self._state = _State(self.count)
                self.pids = [process.pid for process in self._state.processes]
                weakref.finalize(self, self._state.end)
        return Stream(self, self._state, source, largest, damaged)


@functools.cache
def shared_readers(count: int) -> Readers:
    """The readers that all of this process shares."""
    return Readers(count)


class Stream:
    """Batches of one source. Threads may share it.

    Attributes:
      source: of the batches.
    """

    def __init__(
        self,
        readers: Readers,
        state: "_State",
        source: ClipSource | ViewSource,
        largest: int,
        damaged: DamagedVideos,
    ):
        self._readers = readers  # kept
        self._state = state
        self.source = source
        self._damaged = damaged
        self._file = share(source)
        self._memory = BatchMemory(largest)

    def read(self, shape: int, first: int, count: int) -> dict[str, np.ndarray]:
        """Waits for a batch; its memory is used again when nothing refers to its arrays.

        Args:
          shape: number of the grid.
          first: position or row of its first item.
          count: its items.

        Raises:
          DataError: if a video is damaged and no other can take its place.
          ReaderError: if a reader has ended.
          RuntimeError: if one has failed.
        """
        file, memory = self._memory.take()
        parts = self.source.tasks(shape, count, self._readers.count)
        batch = _Batch(len(parts), self._damaged)
        fixed = file.number, file.fd, self._file.number, self._file.fd, shape, first, count
        self._state.ask(batch, fixed, parts)
        batch.done.wait()
        if self._state.failure is not None:
            raise self._state.failure
        if self._damaged.fatal is not None:
            self._damaged.check()
        return arrays_in(memory, self.source.fields(shape, count))


class _State:
    """The processes, their pipes and what has been asked for; refers to nothing that holds it."""

    def __init__(self, count: int):
        self.failure: Exception | None = None
        self._batches: dict[int, _Batch] = {}
        self._numbers = itertools.count()
        self._lock = threading.Lock()
        self._ending = False
        tasks, self._tasks = os.pipe()
        self._answers, answers = os.pipe()
        # What is blocked here stays so in the processes.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _NOT_FOR_READERS)
        try:
            started = [_start(tasks, answers) for _ in range(count)]
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            os.close(tasks)
            os.close(answers)
        # The end of each process's own pipe tells of the process's; old kernels have no pidfd.
        self._alive = {alive: process for process, alive in started}
        self.processes = list(self._alive.values())
        threading.Thread(target=self._collect, name="readers", daemon=True).start()

    def ask(self, batch: _Batch, fixed: tuple[int, ...], parts: list[tuple[int, int]]) -> None:
        """Gives the readers the parts of a batch to do; `fixed` is the same in all tasks."""
        number = next(self._numbers)
        self._batches[number] = batch
        tasks = b"".join([TASK.pack(*Task(number, *fixed, *part)) for part in parts])
        with self._lock:
            while tasks and self.failure is None:
                try:
                    tasks = tasks[os.write(self._tasks, tasks) :]
                except OSError:  # all readers have ended, which the thread below will say
                    break
        if self.failure is not None:
            batch.done.set()

    def end(self) -> None:
        """Ends the readers in the midst of what they do, which is of no use to anyone any more."""
        self._ending = True
        self._fail(ReaderError("the readers have been ended"))
        for process in self.processes:
            process.kill()
        for process in self.processes:
            process.wait()
        with self._lock:
            os.close(self._tasks)

    def _collect(self) -> None:
        poll = select.poll()
        for fd in (self._answers, *self._alive):
            poll.register(fd, select.POLLIN)
        rest, ended = b"", []
        while not ended:
            ready = [fd for fd, _ in poll.poll()]
            if self._answers in ready:
                rest = self._take(rest + os.read(self._answers, _ANSWERS_BYTES))
            ended = [self._alive[fd] for fd in ready if fd in self._alive]
        if not self._ending:
            self._fail(ReaderError(_how(ended[0])))
        for fd in (self._answers, *self._alive):
            os.close(fd)

    def _take(self, content: bytes) -> bytes:
        """Deals with answers; returns what is left of one that has not come to its end."""
        taken = 0
        for answer, end in unpacked(content):
            self._take_one(answer)
            taken = end
        return content[taken:]

    def _take_one(self, answer: Answer) -> None:
        batch = self._batches[answer.batch]
        if answer.kind == DAMAGED:
            batch.damaged.add(answer.row, answer.text)
        elif answer.kind == NOTHING_LEFT:
            batch.damaged.fatal = DataError(answer.text)
        elif answer.kind == FAILED:
            self._fail(RuntimeError(f"a reader has failed:\n{answer.text}"))
        else:
            batch.left -= 1
            if not batch.left:
                del self._batches[answer.batch]
                batch.done.set()

    def _fail(self, failure: Exception) -> None:
        self.failure = self.failure or failure
        for batch in list(self._batches.values()):
            batch.done.set()


def _start(tasks: int, answers: int) -> tuple[subprocess.Popen, int]:
    """A reader, and what is ready to be read once it has ended."""
    path = os.pathsep.join(filter(None, [str(_ROOT), os.environ.get("PYTHONPATH")]))
    # Each works at one thing at a time.
    alone = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    alive, held = os.pipe()
    try:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "mg_jax.input.reader", str(tasks), str(answers)],
            env={**os.environ, **alone, "PYTHONPATH": path},
            stdin=subprocess.DEVNULL,
            pass_fds=(tasks, answers, held),
        )
    finally:
        os.close(held)
    return process, alive


def _how(process: subprocess.Popen) -> str:
    """What has become of a reader, and what to do about it."""
    status = process.wait()
    how = f"ended with status {status}"
    if status < 0:
        how = f"was killed by {signal.Signals(-status).name}"
    if status == -signal.SIGKILL:
        how += ", perhaps since memory ran out; fewer --config.run.readers need less"
    return (
        f"input reader {process.pid} {how}; the same command continues from the newest checkpoint"
    )
