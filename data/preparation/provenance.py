"""What a data set was prepared from, and what of that has changed since."""

import csv
import math
import pathlib

from data.listing.states import State
from data.listing.videos import Action, Listing
from mg_jax.errors import some
from mg_jax.machine.atomic_file import replaced

SOURCES = "sources.csv"  # split, id, path, labels, and size and time of change of each video's file
_COLUMNS = ("split", "id", "path", "labels", "bytes", "modified_ns")


def write_sources(path: pathlib.Path, listing: Listing, states: dict[str, list[State]]) -> None:
    """Writes the videos, their labels and the states of their files."""
    with (
        replaced(path) as unfinished,
        unfinished.open("w", newline="", encoding="utf-8") as file,
    ):
        writer = csv.DictWriter(file, _COLUMNS)
        writer.writeheader()
        writer.writerows(_rows(listing, states))


def _rows(listing: Listing, states: dict[str, list[State]]) -> list[dict[str, str]]:
    return [
        {
            "split": split,
            "id": video.id,
            "path": str(video.path),
            "labels": ";".join(_label(action, listing.classes) for action in video.actions),
            "bytes": str(state.size),
            "modified_ns": str(state.modified),
        }
        for split, videos in listing.splits.items()
        for video, state in zip(videos, states[split], strict=True)
    ]


def _label(action: Action, classes: list[str]) -> str:
    name = classes[action.label]
    return name if math.isinf(action.end) else f"{name} {action.start:g}-{action.end:g} s"


def changes(path: pathlib.Path, listing: Listing, states: dict[str, list[State]]) -> list[str]:
    """What has changed since, a line for each kind; empty if nothing has.

    Args:
      path: of the list that was written when the data set was prepared.
      listing: of the source now.
      states: of its videos, by split.
    """
    with path.open(newline="", encoding="utf-8") as file:
        before = {(row["split"], row["id"]): row for row in csv.DictReader(file)}
    now = {(row["split"], row["id"]): row for row in _rows(listing, states)}
    both = before.keys() & now.keys()

    def differ(*columns: str) -> list[tuple[str, str]]:
        return [key for key in both if any(before[key][c] != now[key][c] for c in columns)]

    kinds = {
        "added": now.keys() - before.keys(),
        "removed": before.keys() - now.keys(),
        "with other labels": differ("labels"),
        "with a changed file": differ("bytes", "modified_ns"),
    }
    return [
        f"{len(keys):,} videos {kind}: {some((' '.join(key) for key in sorted(keys)), 3)}"
        for kind, keys in kinds.items()
        if keys
    ]
