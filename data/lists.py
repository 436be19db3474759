"""Reads the lists that video data sets come with. Every error names file and line."""

import contextlib
import csv
import json
import os
import pathlib
from collections.abc import Iterator
from typing import Any

from data.videos import Action, Listing, Video

VIDEOS = (".mp4", ".webm", ".mkv", ".avi", ".mov", ".m4v", ".mpg", ".mpeg", ".wmv", ".flv", ".ogv")
CLASS_FILE = "classes.txt"


def path_label_rows(
    path: pathlib.Path, separator: str, root: pathlib.Path
) -> Iterator[tuple[str, pathlib.Path, list[str]]]:
    """Rows `path label [label ...]` of a list: where each stands, its path and its labels.

    A path that holds the separator is in double quotes.

    Args:
      path: of the list.
      separator: between columns.
      root: the folder that paths start from and lie in.

    Yields:
      Where a row stands, its path from the root on, its labels.

    Raises:
      ValueError: for a row without a label, or with a path that leaves the root.
    """
    root = pathlib.Path(os.path.abspath(root))
    with _text(path), path.open(newline="", encoding="utf-8-sig") as file:
        for number, row in enumerate(csv.reader(file, delimiter=separator), 1):
            cells = [cell.strip() for cell in row]
            if not any(cells):
                continue
            if len(cells) < 2 or not cells[1]:
                raise ValueError(
                    f"{path}, line {number}: {separator.join(row)!r} is no path and label with "
                    f"{separator!r} between; --config.prepare.separator=... sets another separator"
                )
            where = f"{path}, line {number}"
            yield where, path_inside(root, cells[0], where), [c for c in cells[1:] if c]


def path_inside(root: pathlib.Path, name: str, where: str) -> pathlib.Path:
    """A path that a list names, from the root on.

    Raises:
      ValueError: if it leads out of the root.
    """
    # Not resolved: where links in the root lead is its owner's affair.
    root = pathlib.Path(os.path.abspath(root))
    path = pathlib.Path(os.path.abspath(root / name))
    if root not in path.parents or "\0" in name:
        raise ValueError(
            f"{where}: {name!r} is no path in {root}; --config.prepare.videos=... names the "
            "folder that all videos lie in"
        )
    return path.relative_to(root)


def table_rows(path: pathlib.Path, columns: tuple[str, ...]) -> Iterator[dict[str, str]]:
    """Rows of a CSV file with a header; cells that a short row lacks are empty.

    Raises:
      ValueError: if a column is missing or the file is no CSV.
    """
    with _text(path), path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file, restval="")
        found = reader.fieldnames or ()
        missing = [name for name in columns if name not in found]
        if missing:
            raise ValueError(f"{path} has no column {', '.join(missing)}, but {', '.join(found)}")
        yield from reader


def read_json(path: pathlib.Path) -> Any:
    """The content of a JSON file.

    Raises:
      ValueError: if it is none.
    """
    with _text(path):
        text = path.read_text(encoding="utf-8-sig")
        try:
            return json.loads(text)
        except ValueError as error:  # numbers of thousands of digits, too
            raise ValueError(f"{path} cannot be read: {error}") from error


def read_lines(path: pathlib.Path) -> list[str]:
    """The lines of a text file, without empty ones and blanks at their ends.

    Raises:
      ValueError: if it is no text.
    """
    with _text(path):
        lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    return [line for line in lines if line]


@contextlib.contextmanager
def _text(path: pathlib.Path) -> Iterator[None]:
    try:
        yield
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8: {error}; save it as UTF-8") from error
    except (csv.Error, RecursionError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from error


def class_names(folder: pathlib.Path) -> list[str] | None:
    """The lines of `classes.txt`, at their numbers; None where there is no such file.

    Raises:
      ValueError: if a name occurs twice.
    """
    path = folder / CLASS_FILE
    if not path.exists():
        return None
    names = read_lines(path)
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"{path}: {', '.join(map(repr, twice[:3]))} occurs more than once")
    return names


def class_folders(folder: pathlib.Path) -> dict[str, list[pathlib.Path]]:
    """Videos by class: the files, and folders of images, in each sub-folder."""
    return {
        path.name: sorted(path / entry.name for entry in _videos_in(path))
        for path in sorted(folder.iterdir())
        if path.is_dir() and not path.name.startswith(".")
    }


def from_class_folders(folders: dict[str, pathlib.Path], classes: list[str] | None) -> Listing:
    """A listing of class folders, by split.

    Args:
      folders: of the splits, each holding a folder per class.
      classes: names at their numbers; None for those found, in alphabetical order.

    Raises:
      ValueError: for a folder that is none of the classes, or if there are no videos.
    """
    found = {split: class_folders(folder) for split, folder in folders.items()}
    names = sorted({name for by_class in found.values() for name in by_class})
    if classes is None:
        classes = names
    unknown = [name for name in names if name not in classes]
    if unknown:
        raise ValueError(
            f"{', '.join(map(str, folders.values()))}: {len(unknown)} folders are none of the "
            f"{len(classes)} classes: {', '.join(unknown[:3])}"
        )
    number = {name: k for k, name in enumerate(classes)}
    splits = {
        split: [
            Video(f"{name}/{path.name}", path, (Action(number[name]),))
            for name, paths in by_class.items()
            for path in paths
        ]
        for split, by_class in found.items()
    }
    for split, videos in splits.items():
        if not videos:
            raise ValueError(
                f"{folders[split]} holds no videos; they belong into one folder per class, as "
                f"files ({' '.join(VIDEOS)}) or as folders of images"
            )
    return Listing(classes, splits)


def indexed(folder: pathlib.Path) -> dict[str, pathlib.Path]:
    """The videos of a folder by name without extension: files, and folders of images.

    Raises:
      ValueError: if there is no such folder.
    """
    if not folder.is_dir():
        raise ValueError(
            f"there is no folder {folder}; --config.prepare.source=... and "
            "--config.prepare.videos=... say where the videos are"
        )
    return {
        entry.name if entry.is_dir() else pathlib.Path(entry.name).stem: folder / entry.name
        for entry in _videos_in(folder)
    }


def _videos_in(folder: pathlib.Path) -> list[os.DirEntry]:
    with os.scandir(folder) as entries:
        return [
            entry
            for entry in entries
            if not entry.name.startswith(".")
            and (entry.is_dir() or pathlib.Path(entry.name).suffix.lower() in VIDEOS)
        ]


def required(path: pathlib.Path, what: str) -> pathlib.Path:
    """The path.

    Raises:
      ValueError: if nothing is there.
    """
    if not path.exists():
        raise ValueError(
            f"{path} is missing: {what}; --config.prepare.source=... says in which folder it is"
        )
    return path


def class_number(label: str, classes: list[str], where: str) -> int:
    """The number of a class given by its name or number.

    Raises:
      ValueError: for a name that is unknown or a number out of range.
    """
    if label in classes:
        return classes.index(label)
    if not label.isdecimal() or len(label) > 9:
        raise ValueError(
            f"{where}: {label[:50]!r} is none of the {len(classes)} classes, such as "
            f"{classes[0]!r}, and no number 0 ... {len(classes) - 1}"
        )
    if int(label) >= len(classes):
        raise ValueError(
            f"{where}: label {label} is out of range; there are {len(classes)} classes, "
            f"0 ... {len(classes) - 1}"
        )
    return int(label)
