"""The JPEGs of one video, in memory while they are few and on disk when they are many."""

import array
import pathlib
import tempfile
from collections.abc import Iterable, Sequence

from mg_jax.errors import UserError

_IN_MEMORY = 16 * 2**20  # bytes; a clip of ten seconds takes some 6 MB


class WriteError(UserError):
    """The disk is full, or the folder cannot be written to."""


class StoredJpegs(Sequence[bytes]):
    """A list of JPEGs of any length that takes little memory.

    Its file has no name, so that none is left behind when a process is killed.
    """

    def __init__(self, folder: pathlib.Path | None):
        """Starts empty.

        Args:
          folder: for what does not fit into memory; by default the system's temporary one.
        """
        self._folder = folder
        self._file = tempfile.SpooledTemporaryFile(_IN_MEMORY, dir=folder)  # noqa: SIM115
        self._ends = array.array("q", [0])
        self._order = None

    def append(self, jpeg: bytes) -> None:
        """Adds a JPEG.

        Raises:
          WriteError: if the disk is full.
        """
        try:
            self._file.seek(self._ends[-1])
            self._file.write(jpeg)
            self._file.flush()
        except OSError as error:
            folder = self._folder or tempfile.gettempdir()
            raise WriteError(f"{folder} cannot be written to: {error.strerror}") from error
        self._ends.append(self._ends[-1] + len(jpeg))

    def reorder(self, indices: Iterable[int]) -> None:
        """Makes the items those of these indices, which may repeat some and omit others."""
        self._order = array.array("q", indices)

    def close(self) -> None:
        """Frees memory and disk."""
        self._file.close()

    def __len__(self) -> int:
        return len(self._ends) - 1 if self._order is None else len(self._order)

    def __getitem__(self, index: int) -> bytes:
        index = range(len(self))[index]
        if self._order is not None:
            index = self._order[index]
        start, end = self._ends[index : index + 2]
        self._file.seek(start)
        return self._file.read(end - start)
