"""Looks up the paths that lists name in the folder of the videos; each folder is read once."""

import os
import pathlib
import unicodedata

from mg_jax.errors import UserError

SETS_VIDEOS = "--config.prepare.videos=... names the folder that all videos lie in"


def path_inside(root: pathlib.Path, name: str, where: str) -> pathlib.Path:
    """A path that a list names, relative to the root.

    Raises:
      UserError: if it leads out of the root.
    """
    # Links are not resolved: those in the root may lead anywhere.
    root = pathlib.Path(os.path.abspath(root))
    path = pathlib.Path(os.path.abspath(root / name))
    if root not in path.parents or "\0" in name:
        raise UserError(f"{where}: {name[:200]!r} is no path in {root}; {SETS_VIDEOS}")
    return path.relative_to(root)


class VideoRoot:
    """The folder that paths of lists start from."""

    def __init__(self, folder: pathlib.Path):
        self.folder = folder
        self._names: dict[str, set[str]] = {}

    def has(self, name: str) -> bool:
        """Whether the path exists, exactly as it is written."""
        path = os.path.abspath(self.folder / name)
        return bool(name) and os.path.basename(path) in self._in(os.path.dirname(path))

    def find(self, name: str) -> tuple[str, str]:
        """The path as it is on the disk, and how it differs from the name; as given if not there.

        Lists made on other systems write backslashes or encode accents in another way; some lists
        leave the suffix out.
        """
        if self.has(name):
            return name, ""
        for other, how in (
            (name.replace("\\", "/"), "backslashes are read as slashes"),
            (unicodedata.normalize("NFC", name), "accents are encoded in another way"),
            (unicodedata.normalize("NFD", name), "accents are encoded in another way"),
        ):
            if other != name and self.has(other):
                return other, how
        path = pathlib.Path(os.path.abspath(self.folder / name))
        same_stem = [
            entry for entry in self._in(str(path.parent)) if entry.rpartition(".")[0] == path.name
        ]
        if len(same_stem) == 1:
            return f"{name}{same_stem[0].removeprefix(path.name)}", "suffixes are added"
        return name, ""

    def count(self, name: str) -> int | None:
        """How many files a folder holds; None where there is no folder."""
        path = os.path.abspath(self.folder / name)
        return len(self._in(path)) if os.path.isdir(path) else None

    def _in(self, folder: str) -> set[str]:
        if folder not in self._names:
            try:
                self._names[folder] = set(os.listdir(folder))
            except (OSError, ValueError):  # no such folder, or no name of one
                self._names[folder] = set()
        return self._names[folder]
