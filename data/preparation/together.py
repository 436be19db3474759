"""Several processes that prepare one data set together, on one host or on several.

They share a folder and nothing else. Who works in it holds the lock of a file of its own there,
which the kernel, or the server of a network file system, releases however the process ends. What
only one may do at a time, planning and assembling, is done in turn. A part is claimed by the worker
that writes it, so that the parts of a process that dies are free for the others.
"""

import contextlib
import os
import pathlib
import secrets
import shutil
import socket
from collections.abc import Callable, Iterator
from typing import TypeVar

from data.preparation.parts import Part, Stored, write_part
from data.preparation.resuming import PLAN
from data.preparation.workers import Tally
from mg_jax.errors import UserError
from mg_jax.machine.atomic_file import remove_unfinished
from mg_jax.machine.lock import Busy, claimed, has_locks, in_turn, locked

T = TypeVar("T")

_LOCKS = "locks"


@contextlib.contextmanager
def alone(folder: pathlib.Path) -> Iterator[None]:
    """Keeps other processes out of a folder in which a data set is prepared.

    Raises:
      Busy: if another process is preparing there.
      OSError: if the folder cannot be written to.
    """
    busy = f"another process is preparing {folder}; wait for it"
    with locked(folder, busy):
        if _at_work(folder):
            raise Busy(busy)
        yield


@contextlib.contextmanager
def joined(
    folder: pathlib.Path, begin: Callable[[bool], T], is_needed: Callable[[], bool]
) -> Iterator[T]:
    """Takes part in what processes do in a folder together, which is created if need be.

    Args:
      folder: of them all.
      begin: called in turn, with whether others are at work; if it raises, this process does not
        take part.
      is_needed: whether the folder holds anything of use; if not, the last one to leave removes it.

    Returns:
      What `begin` returned.

    Raises:
      Busy: if a process is at work there that was started alone.
      UserError: where there are no locks.
      OSError: if the folder cannot be written to.
    """
    mine = folder / _LOCKS / f"at_work-{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
    busy = f"another process, started alone, is preparing {folder}; wait for it"
    if not has_locks(folder / _LOCKS):
        raise UserError(
            f"{folder} lies where there are no locks, or none that hold for other hosts, so that "
            "processes cannot prepare together; start one process alone, or choose another "
            "--config.data.dir"
        )
    try:
        with contextlib.ExitStack() as stack:
            with in_turn_of(folder), locked(folder, busy):
                begun = begin(bool(_at_work(folder)))
                stack.enter_context(claimed(mine))
            yield begun
    finally:
        _leave(folder, is_needed)


def in_turn_of(folder: pathlib.Path) -> contextlib.AbstractContextManager[None]:
    """Waits until no other process does in the folder what only one may do at a time."""
    return in_turn(folder / _LOCKS / "turn")


def is_planned(folder: pathlib.Path) -> bool:
    """Whether there is still something to do in the folder; the plan is removed at the end.

    It is opened, since a network file system asks its server then.
    """
    try:
        with (folder / PLAN).open():
            return True
    except FileNotFoundError:
        return False


def is_free(part: Part, folder: pathlib.Path) -> bool:
    """Whether no process is writing the part."""
    with claimed(_lock_of(part, folder)) as is_mine:
        return is_mine


def write_claimed(part: Part, tally: Tally, folder: pathlib.Path, stored: Stored) -> None:
    """Writes a part unless it is whole, or another process is writing it, or all is done.

    Arguments and errors as of `write_part`. Where a network file system shows late that the part is
    whole, it is written once more, to the same bytes.
    """
    with claimed(_lock_of(part, folder)) as is_mine:
        if is_mine and is_planned(folder) and not part.is_whole(folder):
            remove_unfinished(folder, part.path(folder).name)
            write_part(part, tally, folder, stored)


def _lock_of(part: Part, folder: pathlib.Path) -> pathlib.Path:
    return folder / _LOCKS / part.name


def _at_work(folder: pathlib.Path) -> list[pathlib.Path]:
    """The files of the processes that work in the folder; those of dead ones are removed."""
    found = []
    for path in (folder / _LOCKS).glob("at_work-*"):
        with claimed(path) as is_dead:
            if is_dead:
                path.unlink(missing_ok=True)
            else:
                found.append(path)
    return found


def _leave(folder: pathlib.Path, is_needed: Callable[[], bool]) -> None:
    with in_turn_of(folder), claimed(folder / "lock") as is_mine:
        if is_mine and not _at_work(folder) and not is_needed():
            shutil.rmtree(folder, ignore_errors=True)
