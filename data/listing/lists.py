"""Reads lists of videos, rows `path label [label ...]`, and the names of classes."""

import collections
import dataclasses
import os
import pathlib
import re
import unicodedata
from collections.abc import Sequence

from data.listing.columns import Columns, understand
from data.listing.findings import Findings, printable
from data.listing.list_files import check_utf8, read_lines, read_rows
from data.listing.video_root import SETS_VIDEOS, VideoRoot, path_inside
from data.listing.videos import Action, Video
from mg_jax.errors import UserError, some

CLASS_FILE = "classes.txt"


@dataclasses.dataclass(frozen=True)
class Row:
    """A video of a list.

    Attributes:
      where: file and line.
      path: relative to the folder of the videos.
      labels: names or numbers, as given.
      group: name of the group that stays together in splitting; empty where none is given.
    """

    where: str
    path: pathlib.Path
    labels: tuple[str, ...]
    group: str


def read_list(
    path: pathlib.Path, separator: str, folder: pathlib.Path, multi_label: bool, findings: Findings
) -> list[Row]:
    """The rows of a list. A path that holds the separator is in double quotes.

    Args:
      path: of the list.
      separator: between columns.
      folder: of the videos, to which paths are relative.
      multi_label: whether rows may have any number of labels, not just one.
      findings: errors and notices are added, with their lines.

    Raises:
      UserError: if there is no such folder.
    """
    if not folder.is_dir():
        raise UserError(f"there is no folder {printable(folder)}; {SETS_VIDEOS}")
    root = VideoRoot(folder)
    try:
        cut = list(read_rows(path, separator))
    except UserError as error:
        findings.error(str(error))
        return []
    lines = []
    for line, row in cut:
        try:
            check_utf8(f"{path}, line {line}", separator.join(row))
        except UserError as error:
            _add_error(error, findings)
            continue
        if any("\n" in cell for cell in row):
            findings.error(
                f"{path}, line {line}: a row of several lines",
                "close every double quote in the line in which it is opened",
            )
            continue
        # Columns are often lined up by several blanks.
        if separator.isspace():
            row = [cell for k, cell in enumerate(row) if cell.strip() or (k == 0 and len(row) == 2)]
        lines.append((line, row))
    columns, lines = understand(path, lines, separator, root, findings)
    if columns is None:
        return []
    reader = _RowReader(path, separator, root, multi_label, columns, findings)
    rows = [row for line, cells in lines if (row := reader.row(line, cells))]
    reader.report_adapted()
    return rows


def _add_error(error: UserError, findings: Findings) -> None:
    """Adds an error whose last clause is its kind."""
    text, _, kind = str(error).rpartition("; ")
    findings.error(text, kind)


class _RowReader:
    """Makes rows of cells, and remembers which paths it adapted to the files that exist."""

    def __init__(self, path, separator, root, multi_label, columns: Columns, findings: Findings):
        self._path, self._separator, self._root = path, separator, root
        self._multi_label, self._columns, self._findings = multi_label, columns, findings
        self._adapted: dict[str, list[str]] = {}

    def row(self, line: int, cells: list[str]) -> Row | None:
        """The row, or None if it is invalid."""
        where, columns = f"{self._path}, line {line}", self._columns
        name = cells[columns.path].strip() if columns.path < len(cells) else ""
        behind = range(columns.path + 1, len(cells)) if columns.labels is None else columns.labels
        labels = [cells[k].strip() for k in behind if k < len(cells)]
        labels = tuple(_normal(label) for label in labels if label)
        if not self._root.has(name) and (whole := self._unquoted(cells)):
            self._findings.error(
                f"{where}: {whole!r} is cut at {self._separator!r}",
                "a path that holds the separator must be in double quotes",
            )
            return None
        if columns.count is not None and len(cells) > columns.count:
            self._findings.error(
                f"{where}: {len(cells)} columns; the header has {columns.count}",
                "rows have the header's columns",
            )
            return None
        if not self._right_count(where, cells, labels):
            return None
        found, how = self._root.find(name)
        if how:
            self._adapted.setdefault(how, []).append(f"{where}: {name}")
        try:
            inside = path_inside(self._root.folder, found, where)
        except UserError as error:
            _add_error(error, self._findings)
            return None
        group = columns.group
        named = cells[group].strip() if group is not None and group < len(cells) else ""
        return Row(where, inside, labels, named)

    def _unquoted(self, cells: list[str]) -> str | None:
        """The existing path, if there is one, that separators cut into several cells."""
        first = self._columns.path
        for end in range(first + 2, len(cells) + 1):
            name = self._separator.join(cells[first:end]).strip()
            if self._root.has(name):
                return name
        return None

    def _right_count(self, where: str, cells: list[str], labels: Sequence[str]) -> bool:
        shown = repr(self._separator.join(cells)[:100])
        if not labels and not self._multi_label:
            self._findings.error(
                f"{where}: {shown} has no label",
                f"each row is a path and a label with {self._separator!r} between; "
                "--config.prepare.separator=... sets another separator",
            )
            return False
        if len(labels) > 1 and not self._multi_label:
            numbers = all(label.isdecimal() for label in labels)
            self._findings.error(
                f"{where}: {len(labels)} labels, {', '.join(labels[:4])[:100]}",
                "each video has one label, and a path that holds the separator must be in double "
                "quotes; if columns mean something else, give the list a header that names them, "
                "such as path,frames,label"
                + ("" if numbers else "; if videos have several, --config.data.multi_label=True"),
            )
            return False
        return True

    def report_adapted(self) -> None:
        for how, rows in self._adapted.items():
            more = f" and {len(rows) - 1:,} more rows" if len(rows) > 1 else ""
            self._findings.notice(f"{rows[0]}{more}: {how}")


def _normal(label: str) -> str:
    """Accents in one encoding, since operating systems differ in it."""
    return unicodedata.normalize("NFC", label)


def class_names(folder: pathlib.Path) -> list[str] | None:
    """The lines of `classes.txt`, the names by index; None where there is no such file.

    Raises:
      UserError: if a name occurs twice or there is none.
    """
    path = folder / CLASS_FILE
    if not path.exists():
        return None
    names = [_normal(name) for name in read_lines(path)]
    if not names:
        raise UserError(f"{path} names no class; write a name per line, or remove it")
    twice = [name for name, count in collections.Counter(names).items() if count > 1]
    if twice:
        raise UserError(f"{path}: {some(map(repr, twice))} occurs more than once")
    return names


def number(label: str) -> int | None:
    """The class index that a label gives: `3`, or `3.0` as tables write it; None for a name."""
    found = re.fullmatch(r"(\d+)(\.0*)?", label)
    return int(found[1]) if found and len(found[1]) < 10 else None


def videos_of(
    rows: list[Row], folder: pathlib.Path, numbers: dict[str, int], findings: Findings
) -> list[Video]:
    """The videos of rows.

    Args:
      rows: of a list.
      folder: to which their paths are relative.
      numbers: indices of the classes, by name.
      findings: labels that are no class are added.
    """
    videos = []
    for row in rows:
        found = {_class_number(label, numbers, row.where, findings) for label in row.labels}
        if None not in found:
            actions = tuple(map(Action, sorted(found)))
            path = folder / row.path
            videos.append(Video(str(row.path), path, actions, where=row.where, group=row.group))
    return videos


def _class_number(
    label: str, numbers: dict[str, int], where: str, findings: Findings
) -> int | None:
    if label in numbers:
        return numbers[label]
    found = number(label.removeprefix("-"))
    count = len(numbers)
    kind = f"label by name, such as {next(iter(numbers), '')!r}, or by number 0 ... {count - 1}"
    if found is None:
        findings.error(f"{where}: {label[:50]!r} is none of the {count} classes", kind)
        return None
    if found >= count or label.startswith("-"):
        findings.error(
            f"{where}: label {label} is out of range; there are {count} classes, 0 ... {count - 1}",
            "numbers start from 0",
        )
        return None
    return found


def required(path: pathlib.Path, what: str) -> pathlib.Path:
    """The path of a file that must exist.

    Args:
      path: of the file.
      what: it is, for the message.

    Raises:
      UserError: if it is missing.
    """
    if not os.path.exists(path):
        raise UserError(
            f"{path} is missing: {what}; --config.prepare.source=... says in which folder it is"
        )
    return path
