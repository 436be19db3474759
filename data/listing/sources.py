"""Which lists and folders of a source are splits."""

import pathlib
from collections.abc import Iterable

from data.listing.findings import Findings, printable

_NAMES = {
    "train": ("train", "training"),
    "validation": ("validation", "val", "valid", "eval", "evaluation", "dev"),
    "test": ("test", "testing"),
}
LIST = ".csv"


def lists_in(source: pathlib.Path) -> list[pathlib.Path]:
    """The lists of a source, in order."""
    return sorted(
        path
        for path in source.iterdir()
        if path.suffix.lower() == LIST and not path.name.startswith(".") and not path.is_dir()
    )


def splits_among(
    paths: Iterable[pathlib.Path], wanted: tuple[str, ...], findings: Findings
) -> dict[str, pathlib.Path]:
    """Those lists or folders that are splits, by split, training first.

    Args:
      paths: lists or folders.
      wanted: the splits that a run reads; their other usual names are found, too.
      findings: two paths of one split are added as an error.
    """
    found: dict[str, pathlib.Path] = {}
    for path in paths:
        name = path.stem if path.suffix.lower() == LIST else path.name
        split = _split_of(name, wanted)
        if split is None:
            continue
        if split in found:
            findings.error(
                f"{found[split]} and {path} are both split {split!r}", "remove or rename one"
            )
        found.setdefault(split, path)
    order = [*_NAMES, *wanted]
    return dict(sorted(found.items(), key=lambda item: order.index(item[0])))


def leave_out_others(
    paths: Iterable[pathlib.Path], splits: dict[str, pathlib.Path], kind: str, findings: Findings
) -> None:
    """Reports the lists or folders that are no split, `kind` in words, as left out."""
    for path in paths:
        if path not in splits.values():
            findings.leave_out(printable(path), f"{kind} that are no split")


def _split_of(name: str, wanted: tuple[str, ...]) -> str | None:
    if name in wanted:
        return name
    for split, others in _NAMES.items():
        if name.lower() in others:
            return next((other for other in wanted if other in others), split)
    return None
