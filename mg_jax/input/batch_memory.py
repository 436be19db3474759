"""Memory for batches, reused once nothing refers to a batch any more."""

import math
import weakref

import numpy as np

# Bytes to which TensorFlow's tensors are aligned.
_ALIGNMENT = 64


class BatchMemory:
    """Arrays for batches. Threads may share it.

    Whatever its settings, glibc returns freed blocks of more than 64 MB to the kernel, which clears
    the pages of new ones: a tenth of the time that input took.
    """

    def __init__(self, size: int):
        """Starts empty; `size` is the bytes of the largest batch."""
        self._size = size
        self._free: list[memoryview] = []

    def array(self, shape: tuple[int, ...]) -> np.ndarray:
        """An uninitialised uint8 array, aligned so that TensorFlow takes it without a copy."""
        try:
            memory = self._free.pop()
        except IndexError:
            memory = _aligned(self._size)
        # Not a view of another array, so all views of it refer to this one and keep it alive.
        owner = np.frombuffer(memory, np.uint8, math.prod(shape))
        weakref.finalize(owner, self._free.append, memory).atexit = False
        return owner.reshape(shape)


def _aligned(size: int) -> memoryview:
    memory = np.empty(size + _ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % _ALIGNMENT
    return memoryview(memory)[start : start + size]
