"""Your own videos, in class folders or named by lists."""

import dataclasses
import pathlib
from typing import ClassVar

from data.builder import VideoBuilder
from data.listing import lists
from data.listing.class_folders import find_class_folders, folders_in, listing_of_class_folders
from data.listing.classes import classes_that_occur
from data.listing.findings import Findings, printable
from data.listing.sources import leave_out_others, lists_in, splits_among
from data.listing.system_files import is_system
from data.listing.videos import Listing
from mg_jax.errors import UserError, some

UNSPLIT_LISTS = ("videos", "annotations", "labels")


class Builder(VideoBuilder):
    """Videos in class folders or named by lists.

    `prepare.source` holds for each split, such as train and validation, either a list `SPLIT.csv`
    with rows `path,label[,label ...]` (`prepare.separator`; paths in `prepare.videos`, which is
    `prepare.source` if not set; labels names or numbers) or a folder `SPLIT` with a folder per
    class. With `prepare.validation_share` it holds one list `videos.csv`, or a folder per class
    without splits. Classes are those of `classes.txt`, a name per line, or else all that occur, in
    alphabetical order.
    """

    VARIANTS: ClassVar = "any name you like"

    def listing(self, findings: Findings) -> Listing:
        """The lists, or else the folders.

        Raises:
          UserError: if neither is there or a file cannot be read.
        """
        source = self.settings.source
        if not source.is_dir():
            raise UserError(
                f"prepare.source={source} is no folder; set --config.prepare.source=... to the "
                "folder that holds train.csv and validation.csv, or train/ and validation/"
            )
        classes = lists.class_names(source)
        found, folders = lists_in(source), folders_in(source)
        files = splits_among(found, self.settings.splits, findings)
        files = files or self._unsplit_list(found, findings)
        split_folders = self._split_folders(folders, findings)
        leave_out_others(found, files, "lists", findings)
        if files:
            if split_folders:
                findings.notice(
                    f"there are lists ({', '.join(path.name for path in files.values())}) and "
                    f"folders ({', '.join(path.name for path in split_folders.values())}); the "
                    "lists say which videos are used"
                )
            return self._from_lists(files, classes, findings)
        if split_folders:
            leave_out_others(folders, split_folders, "folders", findings)
            in_splits = find_class_folders(split_folders, source, findings)
            return listing_of_class_folders(in_splits, split_folders, classes, findings)
        return self._from_class_folders(found, classes, findings)

    def _unsplit_list(
        self, found: list[pathlib.Path], findings: Findings
    ) -> dict[str, pathlib.Path]:
        named = [path for path in found if path.stem.lower() in UNSPLIT_LISTS]
        if len(named) > 1:
            findings.error(
                f"{' and '.join(map(str, named))} may each be the list of all videos",
                "keep one, or call the lists of splits train.csv and validation.csv",
            )
        return {self.settings.train_split: named[0]} if named else {}

    def _split_folders(
        self, folders: list[pathlib.Path], findings: Findings
    ) -> dict[str, pathlib.Path]:
        """Folders of splits, not of classes: a class may be called `train`, too."""
        splits = splits_among(folders, self.settings.splits, findings)
        others = [folder for folder in folders if folder not in splits.values()]
        if others and not any(map(folders_in, splits.values())):
            return {}
        return splits

    def _from_lists(
        self, files: dict[str, pathlib.Path], classes: list[str] | None, findings: Findings
    ) -> Listing:
        settings = self.settings
        root = settings.source / settings.videos
        rows = {
            split: lists.read_list(path, settings.separator, root, settings.multi_label, findings)
            for split, path in files.items()
        }
        names, how = (classes, lists.CLASS_FILE) if classes else classes_that_occur(rows, findings)
        numbers = {name: k for k, name in enumerate(names)}
        splits = {split: lists.videos_of(rows[split], root, numbers, findings) for split in files}
        read_from = {split: path.name for split, path in files.items()}
        return Listing(names, splits, how, classes is not None, read_from)

    def _from_class_folders(
        self, csv_files: list[pathlib.Path], classes: list[str] | None, findings: Findings
    ) -> Listing:
        """Of a source without splits, all for training."""
        source, train = self.settings.source, self.settings.train_split
        folders = {train: source}
        found = find_class_folders(folders, source, findings)
        if not any(folder.videos for alike in found[train].values() for folder in alike):
            raise UserError(self._nothing(csv_files))
        if csv_files:
            findings.notice(
                f"class folders say which videos are used, not {_names(csv_files)}; a list of all "
                f"videos is called {UNSPLIT_LISTS[0]}.csv"
            )
        listing = listing_of_class_folders(found, folders, classes, findings)
        return dataclasses.replace(listing, read_from={train: "class folders without splits"})

    def _nothing(self, csv_files: list[pathlib.Path]) -> str:
        """What to do with a source in which neither splits nor class folders were found."""
        source = self.settings.source
        if csv_files:
            return (
                f"prepare.source={source} holds {_names(csv_files)} and no class folders; call "
                "lists of splits train.csv and validation.csv, or call one list of all videos "
                f"{UNSPLIT_LISTS[0]}.csv and split off a fifth by "
                "--config.prepare.validation_share=0.2"
            )
        there = sorted(path for path in source.iterdir() if not is_system(path.name))
        return (
            f"prepare.source={source} holds neither lists SPLIT.csv (rows: path,label) nor "
            "folders SPLIT/CLASS/ with videos, such as train/ and validation/, nor folders "
            f"CLASS/ with videos, but {_names(there) or 'nothing'}; videos without splits need "
            "one list videos.csv or a folder per class, and --config.prepare.validation_share=0.2"
        )


def _names(paths: list[pathlib.Path]) -> str:
    return some((printable(path.name) for path in paths), 8)
