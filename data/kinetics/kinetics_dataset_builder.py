"""Kinetics-400, -600 and -700 (Kay et al., 2017; Carreira et al., 2018 and 2019)."""

import pathlib
from typing import ClassVar

from data import lists
from data.builder import VideoBuilder
from data.videos import Action, Listing, Video

# Split: the list's name and the folder's.
SPLITS = {"train": "train", "validation": "val", "test": "test"}


class Builder(VideoBuilder):
    """Kinetics from PySlowFast's lists or from class folders.

    `prepare.source` holds `train.csv`, `val.csv` and optionally `test.csv` with rows `path label`,
    paths in `prepare.videos`, by default in the source; or folders `train`, `val` and optionally
    `test` with a folder per class. Names of the classes of lists come from a `classes.txt`, if
    there is one.
    """

    VARIANTS: ClassVar = "400, 600 or 700"

    def listing(self) -> Listing:
        """The lists, or else the folders.

        Raises:
          ValueError: if neither is there or a label is out of range.
        """
        count = self._class_count()
        source = self.settings.source
        classes = lists.class_names(source)
        if classes is not None and len(classes) != count:
            raise ValueError(
                f"{source / lists.CLASS_FILE} holds {len(classes)} names; Kinetics-{count} has "
                f"{count} classes"
            )
        files = {s: source / f"{name}.csv" for s, name in SPLITS.items()}
        files = {split: path for split, path in files.items() if path.exists()}
        if files:
            classes = classes or [f"class {k}" for k in range(count)]
            splits = {split: self._read_list(path, classes) for split, path in files.items()}
            return Listing(classes, splits)
        folders = {split: source / name for split, name in SPLITS.items()}
        folders = {split: path for split, path in folders.items() if path.is_dir()}
        if not folders:
            raise ValueError(
                f"prepare.source={source} holds neither train.csv, val.csv or test.csv (rows: path "
                "label) nor folders train, val or test with a folder per class; "
                "--config.prepare.source=... says where they are"
            )
        return self._from_folders(folders, classes, count)

    def _class_count(self) -> int:
        if self.variant not in ("400", "600", "700"):
            raise ValueError(
                f"data.name=kinetics/{self.variant} is not known; use kinetics/400, kinetics/600 "
                "or kinetics/700"
            )
        return int(self.variant)

    def _read_list(self, path: pathlib.Path, classes: list[str]) -> list[Video]:
        root, videos = self.settings.source / self.settings.videos, []
        for where, video, labels in lists.path_label_rows(path, self.settings.separator, root):
            if len(labels) > 1:
                raise ValueError(
                    f"{where}: {len(labels)} labels; a Kinetics video has one. A path that holds "
                    "the separator must be in double quotes"
                )
            label = lists.class_number(labels[0], classes, where)
            videos.append(Video(str(video), root / video, (Action(label),)))
        return videos

    def _from_folders(
        self, folders: dict[str, pathlib.Path], classes: list[str] | None, count: int
    ) -> Listing:
        listing = lists.from_class_folders(folders, classes)
        if len(listing.classes) != count:
            raise ValueError(
                f"{', '.join(map(str, folders.values()))} hold {len(listing.classes)} class "
                f"folders; Kinetics-{count} has {count} classes. For a subset list the classes in "
                f"{lists.CLASS_FILE}, or use --config.data.name=video_folder/NAME"
            )
        return listing
