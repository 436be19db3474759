"""A folder for one process at a time, however the process before it ended."""

import contextlib
import errno
import pathlib
from collections.abc import Iterator

import filelock

from mg_jax.errors import UserError

# With what flock(2) fails on file systems that have no locks.
_NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)


class Busy(UserError):
    """Another process holds the lock of a folder."""


@contextlib.contextmanager
def locked(folder: pathlib.Path, busy: str) -> Iterator[None]:
    """Keeps other processes out of a folder, which is created if need be.

    The lock is flock(2) on the file `lock` in the folder: the kernel releases it however the
    process ends, and NFS and SMB pass it on to the server, so that it holds for all hosts. On a
    file system without locks a line says so, and the folder is not locked.

    Args:
      folder: may hold other files.
      busy: what to say if another process holds the lock.

    Raises:
      Busy: if another process holds the lock.
      OSError: if the folder cannot be written to.
    """
    # Without flock(2) filelock would fall back to a file that a killed process leaves behind.
    lock = filelock.FileLock(folder / "lock", blocking=False, fallback_to_soft=False)
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(lock)
        except filelock.Timeout as error:
            raise Busy(busy) from error
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            print(f"{folder} lies where there are no locks; start only one run there")
        yield
