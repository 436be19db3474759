"""Whether a folder can be made, before there is anything to put into it; what a path may mean."""

import os
import pathlib
import tempfile

from mg_jax.errors import UserError, near_name

_MOST_COMPARED = 5000  # names, which take a tenth of a second


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


def did_you_mean_beside(path: pathlib.Path) -> str:
    """As `did_you_mean`, for a path that is not there, from what lies beside it."""
    try:
        names = [] if path.exists() else os.listdir(path.parent)
    except OSError:
        return ""
    visible = [name for name in names[:_MOST_COMPARED] if not name.startswith(".")]
    near = near_name(path.name, visible)
    return f". Did you mean {str(path.with_name(near))!r}?" if near else ""
