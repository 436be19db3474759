"""Anybody's videos."""

import pathlib
from typing import ClassVar

from data import lists
from data.builder import VideoBuilder
from data.videos import Action, Listing, Video

_MOST_CLASSES = 100_000


class Builder(VideoBuilder):
    """Videos in class folders or named by lists.

    `prepare.source` holds for each split, such as train and validation, either a list `SPLIT.csv`
    with rows `path,label[,label ...]` (`prepare.separator`; paths in `prepare.videos`, which is
    `prepare.source` if not set; labels names or numbers) or a folder `SPLIT` with a folder per
    class. Classes are those of `classes.txt`, a name per line, or else all that occur, in
    alphabetical order.
    """

    VARIANTS: ClassVar = "any name you like"

    def listing(self) -> Listing:
        """The lists, or else the folders.

        Raises:
          ValueError: if neither is there, or they mix.
        """
        source = self.settings.source
        if not source.is_dir():
            raise ValueError(
                f"prepare.source={source} is no folder; set --config.prepare.source=... to the "
                "folder that holds train.csv and validation.csv, or train/ and validation/"
            )
        classes = lists.class_names(source)
        files = {path.stem: path for path in sorted(source.glob("*.csv"))}
        if files:
            return self._from_lists(files, classes)
        folders = {
            path.name: path
            for path in sorted(source.iterdir())
            if path.is_dir() and not path.name.startswith(".")
        }
        if not folders:
            raise ValueError(
                f"prepare.source={source} holds neither lists SPLIT.csv (rows: path,label) nor "
                "folders SPLIT/CLASS/ with videos, such as train/ and validation/"
            )
        return lists.from_class_folders(folders, classes)

    def _from_lists(self, files: dict[str, pathlib.Path], classes: list[str] | None) -> Listing:
        root = self.settings.source / self.settings.videos
        rows = {
            split: list(lists.path_label_rows(path, self.settings.separator, root))
            for split, path in files.items()
        }
        classes = classes or _classes_of(
            {label for r in rows.values() for *_, ls in r for label in ls}, self.settings.source
        )
        splits = {}
        for split in files:
            splits[split] = []
            for where, video, labels in rows[split]:
                numbers = [lists.class_number(label, classes, where) for label in labels]
                actions = tuple(map(Action, sorted(set(numbers))))
                splits[split].append(Video(str(video), root / video, actions))
        return Listing(classes, splits)


def _classes_of(labels: set[str], source: pathlib.Path) -> list[str]:
    """Names in order; where all are numbers, as many classes as the largest asks for."""
    if all(label.isdecimal() and len(label) < 10 for label in labels):
        count = max(map(int, labels), default=0) + 1
        if count > _MOST_CLASSES:
            raise ValueError(
                f"{source}: label {count - 1} asks for {count:,} classes; number them from 0, or "
                f"name them in {lists.CLASS_FILE}"
            )
        return [f"class {k}" for k in range(count)]
    return sorted(labels)
