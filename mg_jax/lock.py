"""One run at a time in a work directory, however the one before ended."""

import contextlib
import errno
import fcntl
import pathlib
from collections.abc import Iterator

from absl import logging

_NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)


@contextlib.contextmanager
def locked(workdir: pathlib.Path) -> Iterator[None]:
    """Keeps other runs out of a work directory, which is created if need be.

    Raises:
      ValueError: if another run is in there.
      OSError: if it cannot be written to.
    """
    workdir.mkdir(parents=True, exist_ok=True)
    with (workdir / "lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ValueError(
                f"another run trains in {workdir}; wait for it, or choose another --workdir"
            ) from error
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            logging.warning("%s has no locks (%s); start only one run there", workdir, error)
        yield
