"""One run at a time in a work directory, however the one before ended."""

import contextlib
import errno
import fcntl
import pathlib
from collections.abc import Iterator

from mg_jax.errors import UserError

_NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)


class Busy(UserError):
    """Another run is in there."""


@contextlib.contextmanager
def locked(workdir: pathlib.Path) -> Iterator[None]:
    """Keeps other runs out of a work directory, which is created if need be.

    Raises:
      Busy: if another run is in there.
      UserError: if it cannot be written to.
    """
    with contextlib.ExitStack() as stack:
        try:
            workdir.mkdir(parents=True, exist_ok=True)
            file = stack.enter_context((workdir / "lock").open("a"))
        except OSError as error:
            raise UserError(
                f"--workdir={workdir} cannot be written to ({error.strerror}); choose another one"
            ) from error
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Busy(
                f"another run trains in {workdir}; wait for it, or choose another --workdir"
            ) from error
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise UserError(f"--workdir={workdir} cannot be locked: {error}") from error
            print(f"{workdir} lies where there are no locks; start only one run there")
        yield
