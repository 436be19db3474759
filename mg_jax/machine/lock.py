"""Folders and files that one process at a time may use.

The lock is flock(2): the kernel releases it when the process that holds it ends, even if it is
killed, and NFS and SMB pass it on to the server, so that it holds for all hosts.
"""

import contextlib
import errno
import pathlib
import re
import time
from collections.abc import Iterator

import filelock

from mg_jax.errors import UserError

# With what flock(2) fails on file systems that have no locks.
_NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)
# A network file system says so of a file that another host has removed since it was opened.
_GONE = (errno.ENOENT, errno.ESTALE)
# Options of NFS and Lustre by which locks hold on one host only.
_LOCAL = {"local_lock=all", "local_lock=flock", "nolock", "localflock"}
_MOUNTS = pathlib.Path("/proc/self/mounts")
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
      OSError: if the folder cannot be made or written to.
    """
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(_lock(path))
        except filelock.Timeout:
            yield False
            return
        except OSError as error:
            if error.errno in _GONE:
                path.parent.mkdir(parents=True, exist_ok=True)  # raises if that is why
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


def has_locks(folder: pathlib.Path, mounts: pathlib.Path = _MOUNTS) -> bool:
    """Whether locks in a folder, which is created if need be, hold for all hosts that see it.

    Args:
      folder: leaves a file behind.
      mounts: the kernel's list of mounted file systems.
    """
    try:
        with _lock(folder / "lock_tried"):
            pass
    except filelock.Timeout:
        pass
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        return False
    return not _LOCAL & _mount_options(folder.resolve(), mounts)


def _mount_options(folder: pathlib.Path, mounts: pathlib.Path) -> set[str]:
    """How the file system that holds the folder is mounted; empty where it is not known."""
    try:
        lines = [line.split() for line in mounts.read_text(errors="surrogateescape").splitlines()]
    except OSError:
        return set()
    options = {_unescaped(on): set(listed.split(",")) for _, on, _, listed, *_ in lines}
    return next((options[str(f)] for f in (folder, *folder.parents) if str(f) in options), set())


def _unescaped(path: str) -> str:
    """A path of the kernel's list, which has blanks and the like in octal."""
    return re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), path)


def _lock(path: pathlib.Path) -> filelock.FileLock:
    # Without flock(2) filelock would fall back to a file that a killed process leaves behind.
    return filelock.FileLock(path, blocking=False, fallback_to_soft=False)
