import os
import subprocess
import sys

import numpy as np

from mg_jax.input.shared_memory import (
    BatchMemory,
    Field,
    arrays_in,
    load_shared,
    map_of,
    share,
    size_of,
)
from tests import runs


def address(array):
    return array.ctypes.data


def test_memory_is_used_again_once_nothing_is_left_of_a_batch():
    memory = BatchMemory(1_000)
    _, first = memory.take()
    at = address(first)
    view = first[300:].reshape(7, 100)[1:]
    del first
    _, other = memory.take()
    assert not at <= address(other) < at + 1_000
    assert address(view) == at + 400
    del view
    assert address(memory.take()[1]) == at


def test_batches_that_are_held_keep_their_content():
    memory = BatchMemory(64)
    batches = [memory.take()[1] for _ in range(50)]
    for i, batch in enumerate(batches):
        batch[:] = i
    assert all(np.all(batch == i) for i, batch in enumerate(batches))


def test_arrays_lie_where_they_are_taken_without_a_copy():
    fields = {"a": Field((3, 5), np.uint8), "b": Field((7,), np.int64), "c": Field((2,), np.bool_)}
    _, memory = BatchMemory(size_of(fields)).take()
    arrays = arrays_in(memory, fields)
    for name, array in arrays.items():
        assert (array.shape, array.dtype) == (fields[name].shape, fields[name].dtype)
        assert address(array) % 64 == 0
        assert np.shares_memory(array, memory)
        array[:] = 1
    assert memory.sum() == 15 + 7 + 2


def test_what_is_shared_arrives_whole_and_its_arrays_cannot_be_changed():
    value = {"names": np.array(["é", "b"]), "numbers": np.arange(100_000), "text": "x"}
    file = share(value)
    found = load_shared(map_of(os.getpid(), file.fd))
    assert found["text"] == "x"
    np.testing.assert_array_equal(found["names"], value["names"])
    np.testing.assert_array_equal(found["numbers"], value["numbers"])
    assert not found["numbers"].flags.writeable


def test_memory_is_given_back_while_another_process_still_has_it_open():
    memory = BatchMemory(1 << 20)
    file, owner = memory.take()
    owner[:] = 1
    reads = "import sys; file = open(sys.argv[1]); print(flush=True); sys.stdin.read()"
    other = subprocess.Popen(
        [sys.executable, "-c", reads, f"/proc/{os.getpid()}/fd/{file.fd}"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    runs.STARTED.append(other)
    other.stdout.readline()
    path = next(f for f in os.listdir(f"/proc/{other.pid}/fd") if _is_shared(other.pid, f))
    assert os.stat(f"/proc/{other.pid}/fd/{path}").st_blocks > 0
    del file, owner, memory
    assert os.stat(f"/proc/{other.pid}/fd/{path}").st_blocks == 0
    other.communicate()


def _is_shared(pid, fd):
    return "memfd:mg_jax" in os.readlink(f"/proc/{pid}/fd/{fd}")
