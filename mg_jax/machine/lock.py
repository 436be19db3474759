"""Folders and files for one process at a time, however the process before it ended.

The lock is flock(2): the kernel releases it however the process ends, and NFS and SMB pass it on to
the server, so that it holds for all hosts.
"""

import contextlib
import errno
import pathlib
import time
from collections.abc import Iterator

import filelock

from mg_jax.errors import UserError

# With what flock(2) fails on file systems that have no locks.
_NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)
# A network file system says so of a file that another host has removed since it was opened.
_GONE = (errno.ENOENT, errno.ESTALE)
_TRY_EVERY_S = 0.2


class Busy(UserError):
    """Another process holds the lock of a folder."""


@contextlib.contextmanager
def locked(folder: pathlib.Path, busy: str) -> Iterator[None]:
    """Keeps other processes out of a folder, which is created if need be.

    The lock is on the file `lock` in the folder. On a file system without locks a line says so, and
    the folder is not locked.

    Args:
      folder: may hold other files.
      busy: what to say if another process holds the lock.

    Raises:
      Busy: if another process holds the lock.
      OSError: if the folder cannot be written to.
    """
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(_lock(folder / "lock"))
        except filelock.Timeout as error:
            raise Busy(busy) from error
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            print(f"{folder} lies where there are no locks; start only one run there")
        yield


@contextlib.contextmanager
def claimed(path: pathlib.Path) -> Iterator[bool]:
    """Takes the lock of a file unless another process has it; yields whether it was taken.

    On a file system without locks every process is told that it was; see `has_locks`.

    Args:
      path: of a file that is there for the lock alone, created if need be.

    Raises:
      OSError: if the folder cannot be written to.
    """
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(_lock(path))
        except filelock.Timeout:
            yield False
            return
        except OSError as error:
            if error.errno in _GONE:
                yield False
                return
            if error.errno not in _NO_LOCKS:
                raise
        yield True


@contextlib.contextmanager
def in_turn(path: pathlib.Path) -> Iterator[None]:
    """Waits for the lock of a file and takes it; arguments and errors as of `claimed`."""
    while True:
        with claimed(path) as is_mine:
            if is_mine:
                yield
                return
        time.sleep(_TRY_EVERY_S)


def has_locks(path: pathlib.Path) -> bool:
    """Whether the file system of a file has locks; path as of `claimed`."""
    try:
        with _lock(path):
            return True
    except filelock.Timeout:
        return True
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        return False


def _lock(path: pathlib.Path) -> filelock.FileLock:
    # Without flock(2) filelock would fall back to a file that a killed process leaves behind.
    return filelock.FileLock(path, blocking=False, fallback_to_soft=False)
