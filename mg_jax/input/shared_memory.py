"""Memory that a process shares with the readers it has started.

It lies in files without a name (memfd), which readers open as `/proc/PID/fd/NUMBER`: no folder has
to have room for them, as `/dev/shm` of a container often has not, and the kernel frees them when
the last process that has them open ends, however it ends.
"""

import dataclasses
import itertools
import math
import mmap
import os
import pickle
import struct
import weakref
from typing import Any

import numpy as np

# Bytes to which arrays are aligned, so that TensorFlow and JAX take them without a copy.
ALIGNMENT = 64

_ids = itertools.count()
_LENGTH = struct.Struct("<Q")


@dataclasses.dataclass(frozen=True)
class Field:
    """One array of a batch as it lies in shared memory."""

    shape: tuple[int, ...]
    dtype: type

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize


class SharedFile:
    """A file in memory, given back to the kernel when nothing refers to this object any more.

    Attributes:
      fd: its descriptor in this process.
      id: tells it from all others that this process has made; descriptors come again.
    """

    def __init__(self, size: int):
        """Takes its bytes, all 0; pages are taken where they are written first."""
        self.fd = os.memfd_create("mg_jax")
        self.id = next(_ids)
        weakref.finalize(self, _give_back, self.fd)
        os.ftruncate(self.fd, size)


def _give_back(fd: int) -> None:
    # Readers may keep the file open until they need the place in their tables.
    os.ftruncate(fd, 0)
    os.close(fd)


class BatchMemory:
    """Memory for batches, used again once nobody holds a batch any more. Threads may share it."""

    def __init__(self, size: int):
        """Takes the bytes of the largest batch."""
        self._size = max(size, 1)
        self._free: list[tuple[SharedFile, mmap.mmap]] = []

    def take(self) -> tuple[SharedFile, np.ndarray]:
        """A file and its bytes, uint8; it is taken again when all views of these are gone."""
        try:
            slot = self._free.pop()
        except IndexError:
            file = SharedFile(self._size)
            slot = file, mmap.mmap(file.fd, self._size)
        # Not a view of an array: it is what all views of it keep alive.
        owner = np.frombuffer(slot[1], np.uint8)
        weakref.finalize(owner, self._free.append, slot).atexit = False
        return slot[0], owner


def size_of(fields: dict[str, Field]) -> int:
    """The bytes that `arrays_in` needs."""
    return sum(_padded(field.nbytes) for field in fields.values())


def arrays_in(memory: np.ndarray, fields: dict[str, Field]) -> dict[str, np.ndarray]:
    """Views of bytes, one after the other."""
    arrays, start = {}, 0
    for name, field in fields.items():
        content = memory[start : start + field.nbytes]
        arrays[name] = content.view(field.dtype).reshape(field.shape)
        start += _padded(field.nbytes)
    return arrays


def share(value: Any) -> SharedFile:
    """A file that holds a value, for `load_shared`; its arrays are not copied by those who load."""
    buffers: list[pickle.PickleBuffer] = []
    parts = [memoryview(pickle.dumps(value, protocol=5, buffer_callback=buffers.append))]
    parts += [buffer.raw() for buffer in buffers]
    lengths = [part.nbytes for part in parts]
    head = b"".join(map(_LENGTH.pack, [len(parts), *lengths]))
    starts = np.cumsum([_padded(len(head)), *map(_padded, lengths)]).tolist()
    file = SharedFile(starts[-1])
    for start, part in zip([0, *starts], [memoryview(head), *parts], strict=False):
        while part:
            written = os.pwrite(file.fd, part, start)
            start, part = start + written, part[written:]
    return file


def load_shared(memory: mmap.mmap) -> Any:
    """The value that `share` has put there; its arrays are views that cannot be written to."""
    view = memoryview(memory).toreadonly()
    (count,) = _LENGTH.unpack_from(view)
    lengths = [_LENGTH.unpack_from(view, _LENGTH.size * (1 + i))[0] for i in range(count)]
    parts, start = [], _padded(_LENGTH.size * (1 + count))
    for length in lengths:
        parts.append(view[start : start + length])
        start += _padded(length)
    return pickle.loads(parts[0], buffers=parts[1:])


def map_of(pid: int, fd: int) -> mmap.mmap:
    """Maps a file that another process has open."""
    own = os.open(f"/proc/{pid}/fd/{fd}", os.O_RDWR)
    try:
        return mmap.mmap(own, os.fstat(own).st_size)
    finally:
        os.close(own)


def _padded(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT
