"""Errors of the machine are told from damaged files."""

import errno
import os

import pytest

from mg_jax.machine.failure import is_of_machine


def wrapped(error):
    try:
        try:
            raise error
        except Exception as cause:
            raise ValueError("cannot restore") from cause
    except ValueError as outer:
        return outer


def os_error(number):
    return OSError(number, os.strerror(number), "file")


# What TensorStore 0.1 raises for a file that it cannot open.
TOO_MANY = ValueError("Failed to open: \"a\": Too many open files [os_error_code='24']")
MISSING = ValueError("Failed to open: \"a\": No such file or directory [os_error_code='2']")


@pytest.mark.parametrize(
    "error",
    [
        *map(os_error, (errno.ENOSPC, errno.EIO, errno.EACCES, errno.EMFILE)),
        MemoryError(),
        RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 8 bytes"),
        TOO_MANY,
    ],
    ids=repr,
)
def test_memory_disks_permissions_and_limits_are_the_machine(error):
    assert is_of_machine(error)
    assert is_of_machine(wrapped(error))


@pytest.mark.parametrize(
    "error",
    [os_error(errno.ENOENT), os_error(errno.EISDIR), MISSING, ValueError("DATA_LOSS: checksum")],
    ids=repr,
)
def test_what_is_missing_or_damaged_is_not(error):
    assert not is_of_machine(error)
    assert not is_of_machine(wrapped(error))
