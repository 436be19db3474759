"""The classes that occur in lists, for sources without a file that lists them."""

import re
import unicodedata

from data.listing.findings import Findings
from data.listing.lists import CLASS_FILE, Row, number

_MOST_CLASSES = 100_000


def classes_that_occur(rows: dict[str, list[Row]], findings: Findings) -> tuple[list[str], str]:
    """The classes of lists, and how they were found.

    Labels that are all numbers are the indices of classes, and the largest says how many there
    are. Otherwise the labels are names, in alphabetical order.

    Args:
      rows: of each split.
      findings: contradictions are added.
    """
    first: dict[str, str] = {}  # file and line where a label first occurs
    for split in rows:
        for row in rows[split]:
            for label in row.labels:
                first.setdefault(label, row.where)
    names = [label for label in first if number(label) is None]
    numbers = {label: number(label) for label in first if number(label) is not None}
    if not names:
        return _numbered(numbers, first, findings)
    if numbers:
        _check_mixed(names, list(numbers), first, findings)
    return sorted(first), "names in the lists, in alphabetical order"


def _numbered(
    numbers: dict[str, int], first: dict[str, str], findings: Findings
) -> tuple[list[str], str]:
    # Larger ones are reported as out of range.
    count = max((k for k in numbers.values() if k < _MOST_CLASSES), default=-1) + 1
    smallest = min(numbers, key=numbers.get, default="0")
    if numbers.get(smallest) == 1:
        findings.notice(
            f"the smallest label is 1 ({first[smallest]}), so class 0 has no video and the network "
            f"an output too many; number classes from 0, or name all in {CLASS_FILE}"
        )
    return [f"class {k}" for k in range(count)], "numbers in the lists"


def _check_mixed(
    names: list[str], numbers: list[str], first: dict[str, str], findings: Findings
) -> None:
    negative = [name for name in names if re.fullmatch(r"-\d+", name)]
    if len(negative) == len(names):
        for name in negative:
            findings.error(f"{first[name]}: label {name} is negative", "numbers start from 0")
        return
    findings.error(
        f"labels are names ({names[0]!r}, {first[names[0]]}) and numbers ({numbers[0]!r}, "
        f"{first[numbers[0]]})",
        f"give all by name or all by number, or list the classes in {CLASS_FILE}",
    )


def near_duplicates(classes: list[str]) -> list[list[str]]:
    """Classes that differ in case, blanks, punctuation, leading zeros or encoding only."""
    alike: dict[str, list[str]] = {}
    for name in classes:
        alike.setdefault(_folded(name), []).append(name)
    return [names for names in alike.values() if len(names) > 1]


def _folded(name: str) -> str:
    text = unicodedata.normalize("NFKC", name).casefold().strip()
    kept = "".join(c for c in text if unicodedata.category(c)[0] not in "PZC")
    if kept.isdecimal() and len(kept) < 100:
        # `1.5` is not `15`, but `01` is `1`.
        return str(int(text)) if text.isdecimal() else text
    return kept or text
