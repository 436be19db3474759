"""One run at a time in a work directory."""

import contextlib
import pathlib
from collections.abc import Iterator

from mg_jax.errors import UserError
from mg_jax.machine.lock import locked


@contextlib.contextmanager
def locked_workdir(workdir: pathlib.Path) -> Iterator[None]:
    """Keeps other runs out of a work directory, which is created if need be.

    Raises:
      Busy: if another run is in there.
      UserError: if it cannot be written to.
    """
    busy = f"another run trains in {workdir}; wait for it, or choose another --workdir"
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(locked(workdir, busy))
        except OSError as error:
            raise UserError(
                f"--workdir={workdir} cannot be written to ({error.strerror}); choose another one"
            ) from error
        yield
