"""Processes that read clips straight into the memory of batches.

One interpreter, whose lock threads share, ends at some 740 clips of 32 x 224^2 a second, however
many cores there are. So readers are processes, and the one that trains asks for a batch in one
message and does nothing for a single clip. Its memory is shared (`shared_memory`).
"""

import functools
import itertools
import os
import select
import signal
import threading
import weakref

import numpy as np

from data.format.records import DamagedVideos, DataError
from mg_jax.errors import UserError
from mg_jax.input.clips import ClipSource, ViewSource
from mg_jax.input.messages import DAMAGED, FAILED, NOTHING_LEFT, TASK, Answer, Task, unpacked
from mg_jax.input.reader_process import ReaderProcess, start_reader
from mg_jax.input.shared_memory import BatchMemory, arrays_in, share
from mg_jax.machine.cores import usable_cores

# Signals that come to all processes of a job and that the one that trains deals with.
_NOT_FOR_READERS = {signal.SIGINT, signal.SIGTERM}
_ANSWERS_BYTES = 1 << 16


class ReaderError(UserError):
    """A reader could not be started, or has ended before the run."""


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

    def stream(
        self, source: ClipSource | ViewSource, largest: int, damaged: DamagedVideos
    ) -> "Stream":
        """Starts the readers if need be.

        Args:
          source: what to read from.
          largest: bytes of the largest batch that will be asked for.
          damaged: counts what turns out to be.

        Raises:
          ReaderError: if one cannot be started.
        """
        with self._starting:
            if self._state is None:
                self._state = _State(self.count)
                self.pids = self._state.pids
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
          shape: index of the grid.
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
        fixed = file.id, file.fd, self._file.id, self._file.fd, shape, first, count
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
        self._batch_ids = itertools.count()
        self._lock = threading.Lock()
        self._ending = False
        tasks, self._tasks = os.pipe()
        self._answers, answers = os.pipe()
        try:
            self._readers = _start_readers(count, tasks, answers)
        except BaseException:
            os.close(self._tasks)
            os.close(self._answers)
            raise
        finally:
            os.close(tasks)
            os.close(answers)
        self.pids = [reader.process.pid for reader in self._readers]
        threading.Thread(target=self._collect, name="readers", daemon=True).start()

    def ask(self, batch: _Batch, fixed: tuple[int, ...], parts: list[tuple[int, int]]) -> None:
        """Gives the readers the parts of a batch to do; `fixed` is the same in all tasks."""
        batch_id = next(self._batch_ids)
        self._batches[batch_id] = batch
        tasks = b"".join([TASK.pack(*Task(batch_id, *fixed, *part)) for part in parts])
        with self._lock:
            while tasks and self.failure is None:
                try:
                    tasks = tasks[os.write(self._tasks, tasks) :]
                except OSError:  # all readers have ended, which the thread below will say
                    break
        if self.failure is not None:
            batch.done.set()

    def end(self) -> None:
        """Ends the readers at once; unfinished work is discarded."""
        self._ending = True
        self._fail(ReaderError("the readers have been ended"))
        _kill(self._readers)
        with self._lock:
            os.close(self._tasks)

    def _collect(self) -> None:
        poll, by_alive = select.poll(), {reader.alive: reader for reader in self._readers}
        for fd in (self._answers, *by_alive):
            poll.register(fd, select.POLLIN)
        rest, ended = b"", []
        while not ended:
            ready = [fd for fd, _ in poll.poll()]
            if self._answers in ready:
                rest = self._take(rest + os.read(self._answers, _ANSWERS_BYTES))
            ended = [by_alive[fd] for fd in ready if fd in by_alive]
        if not self._ending:
            self._fail(ReaderError(ended[0].describe_end()))
        os.close(self._answers)
        for reader in self._readers:
            reader.close()

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
            reason = answer.text.rstrip().rpartition("\n")[2]
            self._fail(RuntimeError(f"a reader has failed ({reason}):\n{answer.text}"))
        else:
            batch.left -= 1
            if not batch.left:
                del self._batches[answer.batch]
                batch.done.set()

    def _fail(self, failure: Exception) -> None:
        self.failure = self.failure or failure
        for batch in list(self._batches.values()):
            batch.done.set()


def _start_readers(count: int, tasks: int, answers: int) -> list[ReaderProcess]:
    """Starts readers; if one cannot be started, ends those that were.

    Raises:
      ReaderError: if one cannot be started.
    """
    started = []
    # What is blocked here stays so in the processes.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _NOT_FOR_READERS)
    try:
        for _ in range(count):
            started.append(start_reader(tasks, answers))
    except BaseException as error:
        _kill(started)
        for reader in started:
            reader.close()
        if not isinstance(error, OSError):
            raise
        raise ReaderError(
            f"input reader {len(started) + 1} of {count} cannot be started ({error.strerror}); set "
            "a smaller --config.run.readers"
        ) from error
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return started


def _kill(readers: list[ReaderProcess]) -> None:
    for reader in readers:
        reader.process.kill()
    for reader in readers:
        reader.process.wait()
