"""Memory for batches, used again once nobody holds a batch any more."""

import math
import weakref

import numpy as np

# Bytes to which TensorFlow's tensors are aligned.
_ALIGNMENT = 64


class BatchMemory:
    """Gives arrays for batches. Threads may share it.

    glibc returns blocks of more than 64 MB that a thread has freed, whatever it is told, and the
    kernel clears the pages of new ones: a tenth of the time that input took.
    """

    def __init__(self, size: int):
        """Takes the bytes of the largest batch."""
        self._size = size
        self._free: list[memoryview] = []

    def array(self, shape: tuple[int, ...]) -> np.ndarray:
        """An array that TensorFlow takes without a copy, uint8, of any content."""
        try:
            memory = self._free.pop()
        except IndexError:
            memory = _aligned(self._size)
        # Not a view of an array: it is what all views of it keep alive.
        owner = np.frombuffer(memory, np.uint8, math.prod(shape))
        weakref.finalize(owner, self._free.append, memory).atexit = False
        return owner.reshape(shape)


def _aligned(size: int) -> memoryview:
    memory = np.empty(size + _ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % _ALIGNMENT
    return memoryview(memory)[start : start + size]
