import numpy as np

from mg_jax.input.batch_memory import BatchMemory


def address(array):
    return array.ctypes.data


def test_memory_is_used_again_once_nothing_is_left_of_a_batch():
    memory = BatchMemory(1_000)
    first = memory.array((10, 100))
    at = address(first)
    view = first[3]
    del first
    other = memory.array((5, 100))
    assert not at <= address(other) < at + 1_000
    assert address(view) == at + 300
    del view
    assert address(memory.array((2, 2))) == at


def test_batches_that_are_held_keep_their_content():
    memory = BatchMemory(64)
    batches = [memory.array((8, 8)) for _ in range(50)]
    for i, batch in enumerate(batches):
        batch[:] = i
    assert all(np.all(batch == i) for i, batch in enumerate(batches))
    assert all(address(batch) % 64 == 0 for batch in batches)
