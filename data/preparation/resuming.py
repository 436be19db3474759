"""Cuts a listing into parts such that valid parts of an interrupted preparation are kept.

A part is valid if its videos are the same as then: ids, paths, labels, the sizes and times of their
files, and whether they may be read. Where videos were changed, added or removed, only their parts
are prepared again.
"""

import dataclasses
import hashlib
import json
import pathlib
from typing import Any

from data.listing.states import State
from data.listing.videos import Listing, Video
from data.preparation.parts import SKIPPED, Part, Stored
from data.preparation.provenance import SOURCES, changes
from mg_jax.errors import UserError
from mg_jax.machine.atomic_file import write_text

# Parts are small, since an interrupted preparation loses one per worker, but few: the readers of
# training and evaluation keep all files open, and 1,024 open files are a common limit.
_VIDEOS_PER_PART = 16
_MOST_PARTS = 256

PLAN = "preparation.json"  # how frames are stored, and where parts begin and what they are made of


def resumed_parts(
    listing: Listing,
    states: dict[str, list[State]],
    folder: pathlib.Path,
    stored: Stored,
    anew: bool,
    others_at_work: bool = False,
) -> list[Part]:
    """All videos in parts; only the valid parts are left in the folder.

    While other processes work on them nothing in the folder is changed.

    Args:
      listing: the videos.
      states: of the videos, by split.
      folder: of parts.
      stored: how frames are stored.
      anew: whether parts that were stored in another way are removed.
      others_at_work: whether other processes work on the parts that are there.

    Raises:
      UserError: if the folder holds parts that were stored in another way, or other processes work
        on parts of other videos.
    """
    path = folder / PLAN
    settings = dataclasses.asdict(stored)
    earlier = json.loads(path.read_text("utf-8")) if path.exists() else {}
    differing = [name for name in settings if earlier.get(name, settings[name]) != settings[name]]
    others_at_work = others_at_work and bool(earlier)
    if differing and others_at_work:
        raise UserError(
            f"other processes are preparing {folder} with another {' and '.join(differing)}; start "
            "all of them with the same --config flags"
        )
    if differing and not anew:
        raise UserError(
            f"{folder} holds a preparation that was cut off and had other "
            f"{' and '.join(differing)}; go on with what it had, or throw it away with "
            "--config.prepare.renew=True"
        )
    before = {} if differing else earlier.get("parts", {})
    parts = _cut(listing, {entry["start"] for entry in before.values()})
    entries = {
        part.name: {"start": _start(part.split, part.videos[0]), "key": key}
        for part, key in zip(parts, _keys(parts, states), strict=True)
    }
    if others_at_work:
        _check_same_source(earlier, entries, listing, states, folder)
        return parts
    names = {entry["key"]: name for name, entry in before.items()}
    moves = {names[e["key"]]: name for name, e in entries.items() if e["key"] in names}
    if any(old != new for old, new in moves.items()) or before.keys() - moves.keys():
        # Until all files are renamed none counts as valid.
        write_text(path, json.dumps({**settings, "parts": {}}))
        _move(folder, moves)
    elif not before:
        _move(folder, {})
    about = {**settings, "classes": _hash(listing.classes), "parts": entries}
    write_text(path, json.dumps(about))
    # Skipped videos of parts that were cut off are tried again.
    for skipped in folder.glob(f"*{SKIPPED}"):
        skipped.unlink()
    return parts


def _cut(listing: Listing, starts: set[str]) -> list[Part]:
    """Parts that begin where earlier ones did, so that one more video does not shift them all."""
    parts = []
    for split, videos in listing.splits.items():
        size = max(_VIDEOS_PER_PART, -(-len(videos) // _MOST_PARTS))
        groups = []
        for video in videos:
            if not groups or len(groups[-1]) == size or _start(split, video) in starts:
                groups.append([])
            groups[-1].append(video)
        parts += [Part(split, index, tuple(group)) for index, group in enumerate(groups)]
    return parts


def _check_same_source(
    earlier: dict[str, Any],
    entries: dict[str, dict[str, str]],
    listing: Listing,
    states: dict[str, list[State]],
    folder: pathlib.Path,
) -> None:
    found = []
    if earlier.get("classes") != _hash(listing.classes):
        found.append("other names of classes, or another order")
    if earlier["parts"] != entries:
        found += changes(folder / SOURCES, listing, states) or ["other paths of videos"]
    if not found:
        return
    raise UserError(
        f"other processes are preparing {folder} from a source that differs from what this one "
        f"sees: {'; '.join(found)}. All must see the same videos under the same paths, with the "
        "same times of change (rsync -a keeps them), and the same lists"
    )


def _start(split: str, video: Video) -> str:
    return f"{split} {video.id}"


def _keys(parts: list[Part], states: dict[str, list[State]]) -> list[str]:
    """A hash of what each part is made of, by which it is recognised."""
    left = {split: iter(of_split) for split, of_split in states.items()}
    keys = []
    for part in parts:
        content = [part.split]
        for video in part.videos:
            state = next(left[part.split])
            content += [video.id, video.path, video.actions, video.fps, state.size, state.modified]
            content.append(state.broken)
        keys.append(_hash(content))
    return keys


def _hash(content: list[Any]) -> str:
    return hashlib.sha256(repr(content).encode("utf-8", "backslashreplace")).hexdigest()


def _move(folder: pathlib.Path, moves: dict[str, str]) -> None:
    """Gives the files of parts their new names; removes those that get none."""
    files = [path for pattern in ("*.array_record", "*-*.json") for path in folder.glob(pattern)]
    for path in files:
        if path.stem in moves:
            path.rename(path.with_name(f"{moves[path.stem]}{path.suffix}.moving"))
        else:
            path.unlink()
    for path in folder.glob("*.moving"):
        path.rename(path.with_suffix(""))
