"""`python -m mg_jax.input.reader TASKS ANSWERS STDERR`: reads what another process asks for.

It is started by `mg_jax.input.readers` with the descriptors of two pipes, and of the stderr to
write to once it has started; what it says before that is kept for the process that asks. It imports
neither JAX nor TensorFlow, and ends when the pipe of tasks does, so with the process that asks.
"""

import collections
import contextlib
import os
import sys
import traceback
from collections.abc import Callable
from typing import TypeVar

import numpy as np

from mg_jax.errors import first_line
from mg_jax.input.clips import ClipSource, NothingLeft, ViewSource
from mg_jax.input.messages import DAMAGED, DONE, FAILED, NOTHING_LEFT, TASK, Answer, Task
from mg_jax.input.shared_memory import arrays_in, load_shared, map_of
from mg_jax.runtime.allocator import keep_freed_memory

T = TypeVar("T")

# Files kept open, of batches and of sources.
_MEMORIES, _SOURCES = 32, 4


class _Reader:
    def __init__(self, asking: int, answers: int):
        """Takes the process that asks, and the pipe for answers."""
        self._answers = answers
        self._memories = _Kept(_MEMORIES, lambda fd: np.frombuffer(map_of(asking, fd), np.uint8))
        self._sources = _Kept(_SOURCES, lambda fd: load_shared(map_of(asking, fd)))

    def work(self, task: Task) -> None:
        """Does a task and says so."""
        try:
            source = self._sources.get(task.source, task.source_fd)
            memory = self._memories.get(task.memory, task.memory_fd)
            self._read(source, memory, task)
        except NothingLeft as error:
            self._say(Answer(task.batch, NOTHING_LEFT, text=str(error)))
        except Exception:
            self._say(Answer(task.batch, FAILED, text=traceback.format_exc()))
        self._say(Answer(task.batch, DONE))

    def _read(self, source: ClipSource | ViewSource, memory: np.ndarray, task: Task) -> None:
        def on_damage(row: int, error: Exception, instead: str) -> None:
            text = f"video {source.videos.ids[row]} is damaged ({first_line(error)}): {instead}"
            self._say(Answer(task.batch, DAMAGED, row, text))

        batch = arrays_in(memory, source.fields(task.shape, task.count))
        source.read(task.shape, task.first, (task.start, task.extent), batch, on_damage)

    def _say(self, answer: Answer) -> None:
        os.write(self._answers, answer.packed())


class _Kept:
    """What was opened last, by id."""

    def __init__(self, most: int, open_it: Callable[[int], T]):
        self._most, self._open = most, open_it
        self._kept: collections.OrderedDict[int, T] = collections.OrderedDict()

    def get(self, file_id: int, fd: int) -> T:
        if file_id not in self._kept:
            self._kept[file_id] = self._open(fd)
            if len(self._kept) > self._most:
                self._kept.popitem(last=False)
        self._kept.move_to_end(file_id)
        return self._kept[file_id]


def main() -> None:
    """Works until nobody can ask any more."""
    keep_freed_memory()
    tasks, answers, stderr = map(int, sys.argv[1:])
    asking = os.getppid()
    os.dup2(stderr, sys.stderr.fileno())
    os.close(stderr)
    reader = _Reader(asking, answers)
    # The process that asks may be gone before the answer, and leave tasks.
    with contextlib.suppress(BrokenPipeError):
        while (content := os.read(tasks, TASK.size)) and os.getppid() == asking:
            reader.work(Task._make(TASK.unpack(content)))


if __name__ == "__main__":
    main()
