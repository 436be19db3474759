"""Works out what the columns of a list of videos mean, with and without a header."""

import dataclasses
import re
from collections.abc import Sequence

from data.listing.findings import Findings
from data.listing.video_root import VideoRoot
from mg_jax.errors import some

Lines = list[tuple[int, list[str]]]  # line number, cells

_PATHS = {"path", "video", "videos", "videopath", "file", "filename", "filepath", "name", "clip"}
_PATHS |= {"clippath", "videoname", "clipname", "videofile", "relativepath", "relpath"}
_PATHS |= {"videoid", "id", "clipid", "youtubeid", "uid", "framesdir", "framedir", "folder", "dir"}
_LABELS = {"label", "labels", "class", "classes", "classname", "classid", "classindex", "category"}
_LABELS |= {"action", "actions", "activity", "target", "labelid", "labelname", "y", "tag", "tags"}
_GROUPS = {"group", "subject", "subjectid", "person", "personid", "user", "userid", "actor"}
_GROUPS |= {"signer", "session", "scene", "groupid", "camera"}
_OTHERS = {"nframes", "numframes", "frames", "framecount", "totalframes", "length", "duration"}
_OTHERS |= {"split", "set", "subset", "fps", "start", "end", "timestart", "timeend", "width"}
_OTHERS |= {"height", "size", "index"}
_SEPARATORS = {",": ",", "\t": "$'\\t'", ";": "';'", " ": "' '", "|": "'|'"}
_SAMPLE = 50  # rows that are looked at


@dataclasses.dataclass(frozen=True)
class Columns:
    """What the columns of a list hold.

    Attributes:
      path: index of the column of paths.
      labels: indices of the columns of labels; None for all behind the path.
      group: index of the column that names groups; None where there is none.
      count: number of columns; None where rows may have any number of labels.
    """

    path: int = 0
    labels: tuple[int, ...] | None = None
    group: int | None = None
    count: int | None = None


def understand(
    path: object, lines: Lines, separator: str, root: VideoRoot, findings: Findings
) -> tuple[Columns | None, Lines]:
    """The columns of a list, and its rows without the header.

    Args:
      path: of the list.
      lines: all of its rows.
      separator: that they were cut at.
      root: of the paths.
      findings: notices and errors are added.

    Returns:
      None, after adding an error, for columns that cannot be understood.
    """
    lines = [(line, row) for line, row in lines if not _is_remark(row, root)]
    if not lines:
        return Columns(), lines
    if other := _better_separator(lines, separator, root):
        findings.error(
            f"{path}, line {lines[0][0]}: {separator.join(lines[0][1])[:100]!r} has columns "
            f"separated by {other!r}, not by {separator!r}",
            f"set --config.prepare.separator={_SEPARATORS[other]}",
        )
        return None, []
    line, first = lines[0]
    if _is_row(first, separator, root):
        return _unnamed_columns(path, lines, root, findings), lines
    if _is_header(lines):
        return _named_columns(f"{path}, line {line}", first, findings), lines[1:]
    if _is_unknown_header(lines, root):
        findings.error(
            f"{path}, line {line}: {separator.join(first)[:100]!r} is neither an existing video "
            "nor a header with known names",
            "if it is a header, call its columns path,label (in their order) or remove it; if it "
            "is a video, add the video or remove the row",
        )
        return None, []
    return _unnamed_columns(path, lines, root, findings), lines


def _is_remark(row: list[str], root: VideoRoot) -> bool:
    return row[0].startswith("#") and not root.has(row[0])


def _is_row(first: list[str], separator: str, root: VideoRoot) -> bool:
    """Whether the row names an existing video, even if separators cut its path."""
    names = (separator.join(first[:end]).strip() for end in range(1, len(first) + 1))
    return any(root.has(root.find(name)[0]) for name in names)


def _is_header(lines: Lines) -> bool:
    first = [cell.strip() for cell in lines[0][1]]
    known = _PATHS | _LABELS | _GROUPS | _OTHERS
    if len(first) > 1 and _word(first[0]) in known and _kind_of(first[-1]) is not None:
        return True
    # A class may be called `action`, but then it occurs again.
    return "." not in first[0] and any(
        _word(cell) in _LABELS and not _occurs(cell, lines[1:]) for cell in first[1:]
    )


def _is_unknown_header(lines: Lines, root: VideoRoot) -> bool:
    """Whether the first row is a header with unknown names: no other row is like it."""
    first = [cell.strip() for cell in lines[0][1]]
    others = [row for _, row in lines[1 : _SAMPLE + 1]]
    there = [row for row in others if root.has(root.find(row[0].strip())[0])]
    return (
        len(there) > len(others) / 2
        and len(first) in map(len, others)
        and "/" not in first[0]
        and not any(re.search(r"\.\w+$", cell) or cell.isdecimal() for cell in first)
        and not any(_occurs(cell, lines[1:]) for cell in first[1:])
    )


def _occurs(cell: str, lines: Lines) -> bool:
    return any(cell == other.strip() for _, row in lines for other in row)


def _word(cell: str) -> str:
    return re.sub(r"[\W_]+", "", cell.casefold())


def _kind_of(cell: str) -> str | None:
    word = _word(cell).rstrip("0123456789")
    kinds = {"path": _PATHS, "label": _LABELS, "group": _GROUPS, "other": _OTHERS}
    return next((kind for kind, words in kinds.items() if word in words), None)


def _named_columns(where: str, header: list[str], findings: Findings) -> Columns | None:
    """The columns that a header names."""
    header = [cell.strip() for cell in header]
    kinds = [_kind_of(cell) for cell in header]
    paths = _columns(kinds, "path")
    labels = _columns(kinds, "label")
    if len(paths) > 1:  # `video_id,path`, say
        better = [k for k in paths if "path" in _word(header[k]) or "file" in _word(header[k])]
        paths = better or paths
    rest = [k for k, kind in enumerate(kinds) if kind is None]
    if not labels and len(rest) == 1 and paths:
        labels = rest
    elif labels and not paths and len(rest) == 1:
        paths = rest
    if not paths or not labels:
        findings.error(
            f"{where}: the header {some(header, 8)} has no column of "
            f"{'labels' if paths else 'paths'}",
            "call the columns path, label and, if you like, group",
        )
        return None
    group = (_columns(kinds, "group") or [None])[0]
    used = [paths[0], *labels, *([] if group is None else [group])]
    unused = [name for k, name in enumerate(header) if k not in used]
    named = ", ".join(header[k] for k in used)
    findings.notice(
        f"{where}: a header; columns used: {named}"
        + (f"; not used: {some(unused)}" if unused else "")
    )
    return Columns(paths[0], tuple(labels), group, len(header))


def _columns(kinds: Sequence[str | None], kind: str) -> list[int]:
    return [k for k, other in enumerate(kinds) if other == kind]


def _unnamed_columns(
    path: object, lines: Lines, root: VideoRoot, findings: Findings
) -> Columns | None:
    """`path label [label ...]`, or `folder frames label` as TSN's lists have it."""
    sample = lines[:: max(1, len(lines) // _SAMPLE)][:_SAMPLE]
    where = f"{path}, line {lines[0][0]}"
    if not any(root.has(row[0].strip()) for _, row in sample):
        for k in range(1, max(len(row) for _, row in sample)):
            if sum(len(row) > k and root.has(row[k].strip()) for _, row in sample) > 1:
                findings.error(
                    f"{where}: paths are in column {k + 1}",
                    "give the list a header that names its columns, such as label,path",
                )
                return None
    if not _has_numbers_between(lines):
        return Columns()
    counts = [(root.count(row[0].strip()), int(row[1])) for _, row in sample]
    alike = [there for there, said in counts if there and abs(there - said) <= max(2, said // 20)]
    if len(alike) > len(sample) / 2:
        findings.notice(
            f"{where}: the second column is the number of images in the folder, as in TSN's "
            "lists, and no label"
        )
        return Columns(0, tuple(range(2, max(len(row) for _, row in lines))))
    middle = {row[1].strip() for _, row in lines}
    last = {row[-1].strip() for _, row in lines}
    if len(lines) > 3 and len(middle) >= 2 * len(last):
        findings.error(
            f"{where}: the second column has {len(middle)} different numbers, the last one "
            f"{len(last)}: frames and labels, it seems, not several labels",
            "give the list a header that names its columns, such as path,frames,label (or "
            "path,label,label)",
        )
        return None
    return Columns()


def _has_numbers_between(lines: Lines) -> bool:
    return all(len(row) > 2 and re.fullmatch(r"\s*[0-9]{1,7}\s*", row[1]) for _, row in lines)


def _better_separator(lines: Lines, separator: str, root: VideoRoot) -> str | None:
    """Another separator with which rows have existing paths; None if there is none."""
    sample = [separator.join(row) for _, row in lines[:_SAMPLE]]
    scores = {other: _score(sample, other, root) for other in [separator, *_SEPARATORS]}
    best = max(scores, key=scores.get)
    if scores[best] > max(scores[separator], len(sample) / 2):
        return best
    if any(scores.values()) or any(separator in text for text in sample):
        return None
    return next((o for o in _SEPARATORS if all(o in text for text in sample)), None)


def _score(sample: list[str], separator: str, root: VideoRoot) -> int:
    """How many lines have an existing path, and something behind it."""
    cut = [text.split(separator) for text in sample]
    return sum(len(row) > 1 and root.has(row[0].strip().strip('"')) for row in cut)
