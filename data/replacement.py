"""Puts a data set that was prepared again in the place of the one that is there."""

import dataclasses
import pathlib
import shutil


@dataclasses.dataclass(frozen=True)
class Replacement:
    """Of a prepared data set by a newer one, which comes to be in a folder of its own.

    Attributes:
      folder: of the data set.
      root: the folder that the newer one is prepared in, on the same file system.
      newer: of the newer one, in `root`; there only when it is whole.
    """

    folder: pathlib.Path
    root: pathlib.Path
    newer: pathlib.Path

    def finish(self) -> None:
        """Puts the newer one, if it is whole, in the place of the one that is there.

        A process that is killed in between leaves this to the next one.
        """
        if not self.newer.exists():
            return
        if self.folder.exists():
            old = self.root / "old"
            shutil.rmtree(old, ignore_errors=True)
            self.folder.rename(old)
        self.newer.rename(self.folder)
        self._remove()

    def tell_unfinished(self) -> None:
        """Says what a renewal that was cut off has left; removes what is of no more use."""
        if any(self.root.rglob("preparation.json")):
            print(
                f"a preparation that was to replace it was cut off; what there is of it is in "
                f"{self.root}; --config.prepare.renew=True goes on with it"
            )
        elif self.root.exists():
            self._remove()

    def _remove(self) -> None:
        shutil.rmtree(self.root, ignore_errors=True)
        for folder in self.root.parents:
            if ".renewing" not in folder.parts or any(folder.iterdir()):
                return
            folder.rmdir()
