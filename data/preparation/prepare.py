"""Prepares all parts of a data set: what is there is kept, the workers do the rest."""

import contextlib
import dataclasses
import functools
import pathlib
import re
import shutil
import time
from collections.abc import Iterator
from concurrent.futures.process import BrokenProcessPool

from data.format.stored_jpegs import WriteError
from data.listing.findings import printable
from data.preparation.account import Account
from data.preparation.cost import check_space, in_words
from data.preparation.parts import Part, Stored, write_part
from data.preparation.together import is_free, is_planned, write_claimed
from data.preparation.workers import Pool, Tally, progress
from mg_jax.errors import UserError
from mg_jax.machine.atomic_file import remove_unfinished
from mg_jax.machine.cores import usable_cores
from mg_jax.machine.launcher import Process
from mg_jax.machine.progress import say

_WAIT_S = 1.0  # before looking again for what other processes have done


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


def prepare_parts(
    parts: list[Part], folder: pathlib.Path, settings: Settings, process: Process | None = None
) -> None:
    """Writes the parts that are not in the folder yet.

    Args:
      parts: all of them.
      folder: of the parts; this process is alone in it, or has joined the others.
      settings: how they are prepared.
      process: which of several processes this is, if there are others. It returns when all parts
        are whole, or when the others have done all there was to do.

    Raises:
      UserError: if too many videos are broken, or the disk is too small.
    """
    if process is None:
        remove_unfinished(folder)
    account = Account(parts, folder, settings.max_broken)
    if not account.missing:
        return
    is_first = process is None or process.index == 0
    if account.whole and is_first:
        print(f"going on with {folder}: {len(account.whole)} of {len(parts)} parts are there")
    videos = [video for part in account.missing for video in part.videos]
    frames = check_space(videos, folder, settings.stored, is_told=is_first)
    initial = account.videos
    with progress("preparing", account.total, initial, frames, is_shown=is_first) as show:

        def watch(tally: Tally) -> None:
            account.watch(tally, others=process is not None)
            # What is still missing in the account may be whole by now.
            show(tally, max(0, account.videos - initial - tally.whole))

        pool = Pool(min(settings.workers, len(account.missing)), watch)
        if process is None:
            write = functools.partial(write_part, folder=folder, stored=settings.stored)
            try:
                pool.run(write, account.missing)
            finally:
                remove_unfinished(folder)
        else:
            _share(account, folder, settings, pool, process)


def _share(
    account: Account, folder: pathlib.Path, settings: Settings, pool: Pool, process: Process
) -> None:
    """Writes parts that no other process writes, until all are whole.

    Each process begins at its own share and goes on to those of the others, so that they seldom
    meet, but what is left of a process that is slow or gone is done by the others.
    """
    write = functools.partial(write_claimed, folder=folder, stored=settings.stored)
    count = process.count or process.index + 1
    waits, written = False, 0
    while account.missing and is_planned(folder):
        free = [part for part in account.missing if is_free(part, folder)]
        if free:
            begin = len(free) * process.index // count
            written += pool.run(write, free[begin:] + free[:begin]).whole
            waits = False
        else:
            if not waits:
                say(f"{process} waits for {len(account.missing)} parts that others prepare")
            waits = True
            time.sleep(_WAIT_S)
        account.look()
    say(f"{process} has prepared {written:,} of {account.total:,} videos")


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
