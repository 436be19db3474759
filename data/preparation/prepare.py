"""Prepares all parts of a data set: what is there is kept, the workers do the rest."""

import collections
import contextlib
import csv
import dataclasses
import functools
import json
import pathlib
import re
import shutil
from collections.abc import Iterator
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from data.format.stored_jpegs import WriteError
from data.listing.findings import printable
from data.preparation.disk_space import check_space, in_words
from data.preparation.parts import SKIPPED, Part, Stored, write_part
from data.preparation.workers import Pool, Tally, progress
from mg_jax.errors import UserError
from mg_jax.machine.atomic_file import remove_unfinished
from mg_jax.machine.cores import usable_cores
from mg_jax.machine.lock import locked

_REASONS_SHOWN = 5


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
      train_split: the split that a run trains on.
      eval_split: the split that a run evaluates on.
      multi_label: whether videos may have any number of labels, not just one.
      validation_share: of the training videos that become `eval_split` where there is none.
      group_pattern: regular expression that finds the name of a video's group in its path; no group
        is divided between splits; empty for no groups.
      renew: prepare the data set again and replace the one that is there.
      dry_run: only print what was found in the source.
    """

    source: pathlib.Path
    videos: str
    separator: str
    stored: Stored
    max_broken: float
    workers: int
    train_split: str
    eval_split: str
    multi_label: bool
    validation_share: float
    group_pattern: str
    renew: bool
    dry_run: bool

    @property
    def splits(self) -> tuple[str, str]:
        """The splits that a run reads."""
        return self.train_split, self.eval_split


def settings_from_config(config) -> Settings:
    """The checked `prepare` section of a config, and what it needs of the `data` section.

    Raises:
      UserError: naming the setting, its value and what is allowed.
    """
    prepare = config.prepare
    for name in ("short_side", "frame_step"):
        if prepare[name] < 1:
            raise UserError(f"prepare.{name}={prepare[name]} must be at least 1")
    if not 1 <= prepare.quality <= 95:
        raise UserError(f"prepare.quality={prepare.quality} must lie in 1 ... 95")
    if not 0 <= prepare.max_broken <= 1:
        raise UserError(f"prepare.max_broken={prepare.max_broken} is a share and lies in 0 ... 1")
    if prepare.workers < 0:
        raise UserError(f"prepare.workers={prepare.workers} must be positive, or 0 for all cores")
    if not 0 <= prepare.validation_share < 1:
        raise UserError(
            f"prepare.validation_share={prepare.validation_share} must be a share below 1, "
            "for example 0.2 for a fifth"
        )
    _check_texts(prepare)
    return Settings(
        source=pathlib.Path(prepare.source).expanduser(),
        videos=prepare.videos,
        separator=prepare.separator,
        stored=Stored(prepare.short_side, prepare.quality, prepare.frame_step),
        max_broken=prepare.max_broken,
        workers=prepare.workers or usable_cores(),
        train_split=config.data.train_split,
        eval_split=config.data.eval_split,
        multi_label=config.data.multi_label,
        validation_share=prepare.validation_share,
        group_pattern=prepare.group_pattern,
        renew=prepare.renew,
        dry_run=prepare.dry_run,
    )


def _check_texts(prepare) -> None:
    if len(prepare.separator) != 1 or prepare.separator in '"\r\n\0':
        raise UserError(
            f"prepare.separator={prepare.separator!r} must be one character, for example ' ' or "
            "',', and no quote"
        )
    for name in ("source", "videos"):
        if printable(prepare[name]) != prepare[name]:
            raise UserError(
                f"prepare.{name}={printable(prepare[name])} is not UTF-8; rename that folder"
            )
    try:
        groups = re.compile(prepare.group_pattern).groups
    except re.error as error:
        raise UserError(
            f"prepare.group_pattern={prepare.group_pattern!r} is no regular expression: {error}"
        ) from error
    if prepare.group_pattern and not groups:
        raise UserError(
            f"prepare.group_pattern={prepare.group_pattern!r} has no (...) around the name of the "
            "group, as in 'subject([0-9]+)'"
        )


def prepare_parts(parts: list[Part], folder: pathlib.Path, settings: Settings) -> None:
    """Writes the parts that are not in the folder yet.

    Raises:
      UserError: if too many videos are broken, or the disk is too small.
    """
    remove_unfinished(folder)
    done = [part for part in parts if part.is_whole(folder)]
    todo = [part for part in parts if not part.is_whole(folder)]
    videos = [video for part in todo for video in part.videos]
    total = sum(len(part.videos) for part in parts)
    skipped = sum(len(read_report(part, folder)["skipped"]) for part in done)

    def check(broken: int) -> None:
        if broken > settings.max_broken * total:
            raise UserError(_too_many(broken, total, settings.max_broken, folder / SKIPPED))

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
            remove_unfinished(folder)


@contextlib.contextmanager
def resumable(folder: pathlib.Path, settings: Settings) -> Iterator[None]:
    """Says how to go on where the disk is full or a worker is killed.

    Raises:
      UserError: in place of WriteError, OSError or BrokenProcessPool.
    """
    kept = f"what is prepared so far stays in {folder}, and the same command goes on from there"
    try:
        yield
    except WriteError as error:
        free = in_words(shutil.disk_usage(folder.parent).free)
        raise UserError(f"{error} ({free} free); {kept}") from error
    except OSError as error:
        raise UserError(f"{error}; {kept}") from error
    except BrokenProcessPool as error:
        raise UserError(
            "a worker process died; if memory ran out, set a smaller --config.prepare.workers than "
            f"{settings.workers}; {kept}"
        ) from error


def read_report(part: Part, folder: pathlib.Path) -> dict[str, Any]:
    """The report on a part: records of its `videos`, those `skipped`, `remarks` and `bytes`."""
    return json.loads(part.report_path(folder).read_text("utf-8"))


def _too_many(broken: int, total: int, limit: float, skipped: pathlib.Path) -> str:
    with skipped.open(newline="", encoding="utf-8", errors="replace") as file:
        rows = list(csv.reader(file))
    reasons = collections.Counter(reason for *_, reason in rows)
    shown = "".join(f"\n    {path}: {reason}" for _, _, path, reason in rows[:_REASONS_SHOWN])
    return (
        f"{broken} of {total} videos cannot be read, more than the share "
        f"prepare.max_broken={limit:g}: "
        f"{', '.join(f'{count} {reason!r}' for reason, count in reasons.most_common(3))}; the "
        f"reasons are in {skipped}. The first are{shown}\nMend or remove them and use the same "
        "command again, or set --config.prepare.max_broken=... higher; what is prepared is kept"
    )


def locked_preparation(folder: pathlib.Path) -> contextlib.AbstractContextManager[None]:
    """Keeps other processes out of a folder in which a data set is prepared.

    Entering it raises:
      Busy: if another process is preparing there.
      OSError: if the folder cannot be written to.
    """
    return locked(folder, f"another process is preparing {folder}; wait for it")
