"""Kinetics-400, -600 and -700 (Kay et al., 2017; Carreira et al., 2018 and 2019)."""

import pathlib
from typing import ClassVar

from data.builder import VideoBuilder
from data.listing import lists
from data.listing.class_folders import find_class_folders, folders_in, listing_of_class_folders
from data.listing.findings import Findings
from data.listing.sources import leave_out_others, lists_in, splits_among
from data.listing.videos import Listing, Video
from mg_jax.errors import UserError


class Builder(VideoBuilder):
    """Kinetics from PySlowFast's lists or from class folders.

    `prepare.source` holds `train.csv`, `val.csv` and optionally `test.csv` with rows `path label`,
    paths in `prepare.videos`, by default in the source; or folders `train`, `val` and optionally
    `test` with a folder per class. A `classes.txt`, if there is one, names the classes.
    """

    VARIANTS: ClassVar = "400, 600 or 700"

    def listing(self, findings: Findings) -> Listing:
        """The lists, or else the folders.

        Raises:
          UserError: if neither is there or a file cannot be read.
        """
        count = self._class_count()
        source = self.settings.source
        classes = lists.class_names(source)
        if classes is not None and len(classes) != count:
            raise UserError(
                f"{source / lists.CLASS_FILE} holds {len(classes)} names; Kinetics-{count} has "
                f"{count} classes"
            )
        found, folders = (lists_in(source), folders_in(source)) if source.is_dir() else ([], [])
        files = splits_among(found, self.settings.splits, findings)
        leave_out_others(found, files, "lists", findings)
        if files:
            names = classes or [f"class {k}" for k in range(count)]
            splits = {
                split: self._read_list(path, names, findings) for split, path in files.items()
            }
            how = "numbers of Kinetics" if classes is None else lists.CLASS_FILE
            return Listing(names, splits, how, True, {s: path.name for s, path in files.items()})
        split_folders = splits_among(folders, self.settings.splits, findings)
        if not split_folders:
            raise UserError(
                f"prepare.source={source} holds neither train.csv, val.csv or test.csv (rows: path "
                "label) nor folders train, val or test with a folder per class; "
                "--config.prepare.source=... says where they are"
            )
        return self._from_folders(split_folders, classes, count, findings)

    def _class_count(self) -> int:
        if self.variant not in ("400", "600", "700"):
            raise UserError(
                f"data.name=kinetics/{self.variant} is not known; use kinetics/400, kinetics/600 "
                "or kinetics/700"
            )
        return int(self.variant)

    def _read_list(self, path: pathlib.Path, classes: list[str], findings: Findings) -> list[Video]:
        root = self.settings.source / self.settings.videos
        numbers = {name: k for k, name in enumerate(classes)}
        rows = lists.read_list(path, self.settings.separator, root, False, findings)
        return lists.videos_of(rows, root, numbers, findings)

    def _from_folders(
        self,
        folders: dict[str, pathlib.Path],
        classes: list[str] | None,
        count: int,
        findings: Findings,
    ) -> Listing:
        found = find_class_folders(folders, self.settings.source, findings)
        listing = listing_of_class_folders(found, folders, classes, findings)
        if len(listing.classes) != count:
            raise UserError(
                f"{', '.join(map(str, folders.values()))} hold {len(listing.classes)} class "
                f"folders; Kinetics-{count} has {count} classes. For a subset list the classes in "
                f"{lists.CLASS_FILE}, or use --config.data.name=video_folder/NAME"
            )
        return listing
