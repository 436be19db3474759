"""Prepares all parts of a data set: what is done already is kept, the rest goes to the workers."""

import contextlib
import dataclasses
import fcntl
import functools
import hashlib
import json
import pathlib
import shutil
from collections.abc import Iterator
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from data.disk_space import check_space, in_words
from data.parts import SKIPPED, Part, Stored, write_part
from data.stored_jpegs import WriteError
from data.videos import Listing
from data.workers import Pool, Tally, cores, progress

# A preparation that is cut off loses at most one part per worker. Parts stay few, since readers
# keep their files open, of training and evaluation, and 1,024 open files are a common limit.
_VIDEOS_PER_PART = 16
_MOST_PARTS = 256


@dataclasses.dataclass(frozen=True)
class Settings:
    """The `prepare` section of a config.

    Attributes:
      source: folder of the original lists and videos.
      videos: folder that holds the videos, in the source or absolute; empty for the source itself.
      separator: between the columns of lists.
      stored: how frames are stored.
      max_broken: share of the videos that may be unreadable.
      workers: processes.
    """

    source: pathlib.Path
    videos: str
    separator: str
    stored: Stored
    max_broken: float
    workers: int


def settings_from_config(config) -> Settings:
    """The checked `prepare` section.

    Raises:
      ValueError: naming the setting, its value and what would do.
    """
    for name in ("short_side", "frame_step"):
        if config[name] < 1:
            raise ValueError(f"prepare.{name}={config[name]} must be at least 1")
    if not 1 <= config.quality <= 95:
        raise ValueError(f"prepare.quality={config.quality} must lie in 1 ... 95")
    if not 0 <= config.max_broken <= 1:
        raise ValueError(f"prepare.max_broken={config.max_broken} is a share and lies in 0 ... 1")
    if config.workers < 0:
        raise ValueError(f"prepare.workers={config.workers} must be positive, or 0 for all cores")
    if len(config.separator) != 1:
        raise ValueError(
            f"prepare.separator={config.separator!r} must be one character, for example ' ' or ','"
        )
    return Settings(
        source=pathlib.Path(config.source).expanduser(),
        videos=config.videos,
        separator=config.separator,
        stored=Stored(config.short_side, config.quality, config.frame_step),
        max_broken=config.max_broken,
        workers=config.workers or cores(),
    )


def parts_of(listing: Listing) -> list[Part]:
    """All videos, cut into parts."""
    parts = []
    for split, videos in listing.splits.items():
        size = max(_VIDEOS_PER_PART, -(-len(videos) // _MOST_PARTS))
        for index, start in enumerate(range(0, len(videos), size)):
            parts.append(Part(split, index, tuple(videos[start : start + size])))
    return parts


def prepare_parts(parts: list[Part], folder: pathlib.Path, settings: Settings) -> None:
    """Writes the parts that are not in the folder yet.

    Raises:
      ValueError: if the folder holds parts of other videos or settings, too many videos are
        broken, or the disk is too small.
    """
    _check_belongs(parts, folder, settings)
    _remove_unfinished(folder)
    done = [part for part in parts if part.is_whole(folder)]
    todo = [part for part in parts if not part.is_whole(folder)]
    videos = [video for part in todo for video in part.videos]
    total = sum(len(part.videos) for part in parts)
    skipped = sum(len(read_report(part, folder)["skipped"]) for part in done)
    check = functools.partial(
        check_broken,
        total=total,
        limit=settings.max_broken,
        where=f"the reasons are in {folder / SKIPPED}; delete that folder once you have mended "
        "videos",
    )
    check(skipped)
    if not videos:
        return
    if done:
        print(f"going on with {folder}: {len(done)} of {len(parts)} parts are there")
    frames = check_space(videos, folder, settings.stored)
    with progress("preparing", total, total - len(videos), frames) as show:

        def watch(tally: Tally) -> None:
            show(tally)
            check(skipped + tally.failed)

        write = functools.partial(write_part, folder=folder, stored=settings.stored)
        try:
            Pool(min(settings.workers, len(todo)), watch).run(write, todo)
        finally:
            _remove_unfinished(folder)


def _remove_unfinished(folder: pathlib.Path) -> None:
    """What killed workers were at."""
    for path in folder.glob("*.tmp"):
        path.unlink()


@contextlib.contextmanager
def resumable(folder: pathlib.Path, settings: Settings) -> Iterator[None]:
    """Ends with how to go on where the disk is full or a worker is killed.

    Raises:
      ValueError: instead of what says so.
    """
    kept = f"what is prepared so far stays in {folder}, and the same command goes on from there"
    try:
        yield
    except WriteError as error:
        free = in_words(shutil.disk_usage(folder.parent).free)
        raise ValueError(f"{error} ({free} free); {kept}") from error
    except OSError as error:
        raise ValueError(f"{error}; {kept}") from error
    except BrokenProcessPool as error:
        raise ValueError(
            "a worker process died; if memory ran out, set a smaller --config.prepare.workers than "
            f"{settings.workers}; {kept}"
        ) from error


def read_report(part: Part, folder: pathlib.Path) -> dict[str, Any]:
    """What a part holds: records of its `videos`, those `skipped`, `remarks` and `bytes`."""
    return json.loads(part.report_path(folder).read_text())


def check_broken(broken: int, total: int, limit: float, where: str) -> None:
    """Raises ValueError if more than a share `limit` of the videos is broken."""
    if broken > limit * total:
        raise ValueError(
            f"{broken} of {total} videos cannot be read, more than the share "
            f"prepare.max_broken={limit:g}; {where}. Mend the videos or the list, or set "
            "--config.prepare.max_broken=... higher"
        )


def _check_belongs(parts: list[Part], folder: pathlib.Path, settings: Settings) -> None:
    """The folder remembers which videos and settings its parts are of."""
    listed = hashlib.sha256(repr(parts).encode()).hexdigest()
    mine = {**dataclasses.asdict(settings.stored), "videos": listed}
    path = folder / "preparation.json"
    if path.exists():
        theirs = json.loads(path.read_text())
        differing = [name for name in mine if mine[name] != theirs.get(name)]
        if differing:
            raise ValueError(
                f"{folder} holds a preparation that was cut off and had other "
                f"{' and '.join(differing)}; go on with what it had, or delete that folder"
            )
        return
    unfinished = path.with_suffix(".unfinished")
    unfinished.write_text(json.dumps(mine))
    unfinished.rename(path)


@contextlib.contextmanager
def locked(folder: pathlib.Path) -> Iterator[None]:
    """Keeps other processes out of a folder, which is created if need be.

    Raises:
      ValueError: if another process is in there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ValueError(f"another process is preparing {folder}; wait for it") from error
        yield
