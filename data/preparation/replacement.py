"""Puts a data set that was prepared again in the place of the one that is there."""

import contextlib
import dataclasses
import pathlib
import shutil
from collections.abc import Iterator

from data.preparation.resuming import PLAN
from data.preparation.together import alone, in_turn_of, joined
from mg_jax.machine.atomic_file import replace_folder


@dataclasses.dataclass(frozen=True)
class Replacement:
    """The replacement of a prepared data set by a newer one.

    Attributes:
      folder: of the data set.
      root: folder in which the newer one is prepared, and nothing else; on the same file system.
      newer: folder of the newer one, in `root`; it exists only when the data set is whole.
    """

    folder: pathlib.Path
    root: pathlib.Path
    newer: pathlib.Path

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps other processes out of `root`; at the end removes it if it holds nothing of use.

        Raises:
          Busy: if another process is preparing there.
        """
        try:
            with alone(self.root):
                try:
                    yield
                finally:
                    if not self._is_needed():
                        shutil.rmtree(self.root, ignore_errors=True)
        finally:
            self._remove_empty()

    @contextlib.contextmanager
    def joined(self) -> Iterator[None]:
        """Takes part in a replacement by several processes; the last one removes `root` likewise.

        Raises:
          Busy: if a process that was started alone is preparing there.
        """
        try:
            with joined(self.root, lambda others_at_work: self.finish(), self._is_needed):
                yield
                with in_turn_of(self.root):
                    self.finish()
        finally:
            self._remove_empty()

    def finish(self) -> None:
        """Puts the newer one, if it is whole, in the place of the one that is there.

        If the process is killed in between, the next one finishes this.
        """
        if self.newer.exists():
            replace_folder(self.folder, self.newer, self.root / "old")

    def tell_unfinished(self) -> None:
        """Says where an interrupted renewal lies, and how to go on with it."""
        if self._is_unfinished():
            print(
                f"a preparation that was to replace it was cut off; what there is of it is in "
                f"{self.root}; --config.prepare.renew=True goes on with it"
            )

    def _is_needed(self) -> bool:
        return self.newer.exists() or self._is_unfinished()

    def _is_unfinished(self) -> bool:
        return any(self.root.rglob(PLAN))

    def _remove_empty(self) -> None:
        """Removes the folders around `root`, unless others are renewed there as well."""
        for folder in self.root.parents:
            if self.root.exists() or ".renewing" not in folder.parts:
                return
            try:
                folder.rmdir()
            except OSError:
                return
