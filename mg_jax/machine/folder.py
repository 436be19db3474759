"""Whether a folder can be made, found out before there is anything to put into it."""

import os
import pathlib
import tempfile

from mg_jax.errors import UserError


def check_can_be_made(folder: pathlib.Path, flag: str) -> None:
    """Checks that files can be written to a folder, which is there or can be made.

    It is tried in the nearest folder that is there, so that other processes see nothing of it.

    Args:
      folder: is left as it is.
      flag: that names it, for the message.

    Raises:
      UserError: with the reason.
    """
    nearest = next(f for f in (folder, *folder.absolute().parents) if os.path.lexists(f))
    try:
        with tempfile.TemporaryDirectory(prefix=".tried_", dir=nearest):
            pass
    except OSError as error:
        reason = error.strerror if nearest.exists() else f"{nearest} links to nothing"
        way = "written to" if folder.is_dir() else "made"
        raise UserError(f"{flag}={folder} cannot be {way} ({reason}); choose another") from error
