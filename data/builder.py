"""What all data sets share: listed videos become frames that can be fetched singly.

A prepared data set has two splits for each of its own: `NAME`, a record for each video, and
`NAME_frames`, a record for each frame, all frames of a video in order. Training reads the frames of
a clip by record number, so a clip of few small frames costs little.
"""

import abc
import csv
import itertools
import os
import pathlib
import shutil
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds
from tensorflow_datasets.core import dataset_builder

from data.listing.checks import check_broken_files, check_listing
from data.listing.findings import Findings
from data.listing.splitting import split_off
from data.listing.states import State, states_of
from data.listing.summary import summary
from data.listing.videos import FORMAT, Listing
from data.preparation.account import read_report
from data.preparation.parts import REMARKS, SKIPPED, Part, write_videos
from data.preparation.prepare import Settings, prepare_parts, resumable
from data.preparation.provenance import SOURCES, changes, write_sources
from data.preparation.resuming import PLAN, resumed_parts
from data.preparation.together import alone, in_turn_of, is_planned, joined
from mg_jax.errors import UserError
from mg_jax.machine.launcher import Process

VERSION = tfds.core.Version(FORMAT)


class _LocalInfo(tfds.core.DatasetInfo):
    """Of a data set that TFDS's servers do not know; asking them leaves an empty folder behind."""

    def initialize_from_bucket(self) -> None:
        """Does nothing."""


class VideoBuilder(dataset_builder.FileReaderBuilder, abc.ABC, skip_registration=True):
    """A builder that lists videos; all the rest is done here."""

    VERSION = VERSION
    RELEASE_NOTES: ClassVar = {
        "1.0.0": "One label to a video.",
        "2.0.0": "Labels over parts of videos; JPEGs with restart markers.",
    }
    # What the part of `data.name` behind the slash may be; None where there is none.
    VARIANTS: ClassVar[str | None] = None
    # Whether the name may have no such part where there are variants.
    VARIANT_OPTIONAL: ClassVar[bool] = False

    def __init__(self, data_dir: pathlib.Path, variant: str, settings: Settings):
        self.variant = variant
        self.settings = settings
        self._listing, self._states, self._parts = None, None, None
        config = tfds.core.BuilderConfig(name=variant, version=VERSION) if variant else None
        super().__init__(data_dir=data_dir, config=config)

    @abc.abstractmethod
    def listing(self, findings: Findings) -> Listing:
        """The videos, their labels and the names of the classes.

        Args:
          findings: problems are added, with file and line; invalid rows are left out, so that one
            pass finds all of them.

        Raises:
          UserError: where nothing can be listed, naming file and line.
        """

    @property
    def _parts_dir(self) -> pathlib.Path:
        """The folder of what is prepared so far, until all is."""
        return pathlib.Path(self.data_path).with_name(f"{VERSION}.parts")

    def prepare(self) -> None:
        """Prepares the data set, or resumes a preparation that was cut off.

        Raises:
          UserError: for invalid lists, videos or settings, or a disk that is full.
        """
        # Before any folder is made.
        self.look()
        folder = self._parts_dir
        with resumable(folder, self.settings), alone(folder):
            parts = self._planned(others_at_work=False)
            prepare_parts(parts, folder, self.settings)
            self._assemble(parts)
            self.remove_leftovers()

    def prepare_together(self, process: Process, is_done: Callable[[], bool]) -> None:
        """Prepares the data set with other processes that call this at any time.

        Args:
          process: which of them this is.
          is_done: whether the data set is there, as another one may have prepared it.

        Raises:
          UserError: as `prepare` does, and if the source differs from that of the others.
        """
        self.look(is_told=process.index == 0)
        folder = self._parts_dir

        def begin(others_at_work: bool) -> list[Part] | None:
            self._remove_plan_if(is_done)
            if is_done():
                return None
            begun = others_at_work and self._is_planned()
            parts = self._planned(begun)
            if not begun:
                write_sources(folder / SOURCES, self._listing, self._states)
            return parts

        with resumable(folder, self.settings), joined(folder, begin, self._is_planned) as parts:
            while parts and self._is_planned():
                prepare_parts(parts, folder, self.settings, process)
                with in_turn_of(folder):
                    self._remove_plan_if(is_done)
                    # Where links cannot be made, one that was killed may have moved some away.
                    if self._is_planned() and all(part.is_whole(folder) for part in parts):
                        self._assemble(parts)
                        self._remove_plan_if(is_done)

    def _is_planned(self) -> bool:
        return is_planned(self._parts_dir)

    def _remove_plan_if(self, is_done: Callable[[], bool]) -> None:
        """Removes the plan of a data set that is done, which tells the others to stop."""
        if is_done():
            (self._parts_dir / PLAN).unlink(missing_ok=True)
            self._remove_incomplete()

    def _planned(self, others_at_work: bool) -> list[Part]:
        about = self._listing, self._states, self._parts_dir
        return resumed_parts(*about, self.settings.stored, self.settings.renew, others_at_work)

    def look(self, *, is_told: bool = True) -> None:
        """Lists the videos, checks all that can be seen without decoding, and prints a summary.

        Args:
          is_told: False on all but the first process of several; errors are told by each.

        Raises:
          UserError: with all errors.
        """
        findings, settings = Findings(), self.settings
        self._listing, self._states = self._checked(findings)
        if is_told:  # Errors are easier to understand below the summary.
            told = summary(settings.source, self._listing, settings.multi_label, findings)
            print(told, flush=True)
        findings.check(settings.source)

    def changes(self, folder: pathlib.Path) -> list[str]:
        """What has changed in the source since the data set in this folder was prepared from it.

        The source is that of the last `look`; without one it is read now.

        Raises:
          UserError: if the source cannot be read now.
        """
        if self._listing is None:
            findings = Findings()
            listing, states = self._checked(findings)
            findings.check(self.settings.source)
        else:
            listing, states = self._listing, self._states
        return changes(folder / SOURCES, listing, states)

    def remove_leftovers(self) -> None:
        """Removes the temporary folders of a preparation that is done."""
        shutil.rmtree(self._parts_dir, ignore_errors=True)
        self._remove_incomplete()

    def _remove_incomplete(self) -> None:
        # TFDS leaves these behind if it is killed.
        for folder in self._parts_dir.parent.glob(f"incomplete.*_{VERSION}"):
            shutil.rmtree(folder, ignore_errors=True)

    def _info(self) -> tfds.core.DatasetInfo:
        return _LocalInfo(
            builder=self,
            description="Videos as JPEG frames that can be fetched singly.",
            features=_features(),
            disable_shuffling=True,
            metadata=tfds.core.MetadataDict(),
        )

    def _checked(self, findings: Findings) -> tuple[Listing, dict[str, list[State]]]:
        """The listing with its validation split, and the states of its videos."""
        settings = self.settings
        try:
            listing = self.listing(findings)
        except UserError as error:
            findings.error(str(error))
            findings.check(settings.source)
        listing = self._with_validation(listing, findings)
        states = states_of(listing)
        check_listing(listing, states, *settings.splits, settings.multi_label, findings)
        check_broken_files(listing, states, settings.max_broken, findings)
        return listing, states

    def _with_validation(self, listing: Listing, findings: Findings) -> Listing:
        settings = self.settings
        train, evaluation = settings.splits
        share = settings.validation_share
        if evaluation in listing.splits:
            if share:
                findings.notice(
                    f"prepare.validation_share={share:g} is not used, since there is a split "
                    f"{evaluation!r}"
                )
        elif share and train in listing.splits:
            if not listing.splits[train]:
                return listing  # which is an error of its own
            pattern = settings.group_pattern
            listing = split_off(listing, train, evaluation, share, pattern, findings)
        for split in dict.fromkeys(settings.splits):
            if split not in listing.splits:
                there = ", ".join(
                    f"{name} ({listing.read_from[name]})" if name in listing.read_from else name
                    for name in listing.splits
                )
                findings.error(
                    f"{settings.source} has no split {split!r}, only {there}; add it, or name "
                    "another by --config.data.train_split or --config.data.eval_split, or split "
                    f"off a fifth of {train!r} by --config.prepare.validation_share=0.2"
                )
        return listing

    def _assemble(self, parts: list[Part]) -> None:
        """Makes the data set of parts that are whole."""
        self._parts = parts
        self.info.features["labels"].feature.names = self._listing.classes
        self.download_and_prepare(file_format="array_record")

    def _download_and_prepare(self, dl_manager, download_config) -> None:
        """Called by TFDS, which makes the folder `data_dir` the data set's when this returns."""
        folder, settings, parts = self._parts_dir, self.settings, self._parts
        skipped, remarks, infos = [], [], []
        for split in self._listing.splits:
            mine = [part for part in parts if part.split == split]
            reports = [read_report(part, folder) for part in mine]
            skipped += [{"split": split, **row} for r in reports for row in r["skipped"]]
            remarks += [{"split": split, **row} for r in reports for row in r["remarks"]]
            infos += self._finish_split(split, mine, reports, folder)
        self.info.set_splits(tfds.core.splits.SplitDict(infos))
        self.info.metadata.update(
            short_side=settings.stored.short_side,
            quality=settings.stored.quality,
            frame_step=settings.stored.frame_step,
            validation_share=settings.validation_share,
            group_pattern=settings.group_pattern,
            skipped=len(skipped),
        )
        for name, column, rows in ((SKIPPED, "reason", skipped), (REMARKS, "remark", remarks)):
            with (pathlib.Path(self.data_dir) / name).open(
                "w", newline="", encoding="utf-8"
            ) as file:
                writer = csv.DictWriter(file, ["split", "id", "path", column])
                writer.writeheader()
                writer.writerows(rows)
        write_sources(pathlib.Path(self.data_dir) / SOURCES, self._listing, self._states)

    def _finish_split(
        self, split: str, parts: list[Part], reports: list[dict[str, Any]], folder: pathlib.Path
    ) -> list[tfds.core.SplitInfo]:
        """Links the parts' files as the split of frames, and writes the split of videos.

        Raises:
          UserError: if no video of the split could be read.
        """
        records = [record for report in reports for record in report["videos"]]
        if not records:
            raise UserError(f"no video of split {split!r} could be read; see {folder}/*.json")
        stored_frames = [record["num_frames"] for record in records]
        firsts = itertools.accumulate(stored_frames, initial=0)
        records = [
            {**record, "first_frame": first} for record, first in zip(records, firsts, strict=False)
        ]
        filled = [(p, r) for p, r in zip(parts, reports, strict=True) if r["videos"]]
        shard_lengths = [sum(v["num_frames"] for v in report["videos"]) for _, report in filled]
        frames = self._split_info(
            f"{split}_frames", shard_lengths, sum(report["bytes"] for _, report in filled)
        )
        for (part, _), path in zip(filled, frames.filepaths, strict=True):
            _link(part.path(folder), path)
        (videos_path,) = self._split_info(split, [len(records)], 0).filepaths
        write_videos(videos_path, records)
        size = os.path.getsize(videos_path)
        return [self._split_info(split, [len(records)], size), frames]

    def _log_download_bytes(self) -> None:
        """Does nothing; TFDS would report a download."""

    def _log_download_done(self) -> None:
        """Does nothing; the caller reports what there is."""

    def _split_info(self, name: str, shard_lengths: list[int], size: int) -> tfds.core.SplitInfo:
        return tfds.core.SplitInfo(
            name=name,
            shard_lengths=shard_lengths,
            num_bytes=size,
            filename_template=tfds.core.ShardedFileTemplate(
                dataset_name=self.name,
                data_dir=self.data_path,
                split=name,
                filetype_suffix="array_record",
            ),
        )


def _features() -> tfds.features.FeaturesDict:
    """The records' fields. Those of frames hold `id` and `jpeg`, those of videos all the others.

    Label i holds from source frame `starts[i]` up to `ends[i]`. `first_frame` is the index of a
    record in the split of frames, `num_frames` the number of frames that are stored,
    `source_frames` the number that the source has. Sizes are those of the stored frames, pixels.
    """
    return tfds.features.FeaturesDict(
        {
            "id": tfds.features.Text(),
            "jpeg": tfds.features.Tensor(shape=(), dtype=np.str_),
            "labels": tfds.features.Sequence(tfds.features.ClassLabel()),
            "starts": tfds.features.Sequence(np.int64),
            "ends": tfds.features.Sequence(np.int64),
            "first_frame": np.int64,
            "num_frames": np.int64,
            "source_frames": np.int64,
            "height": np.int64,
            "width": np.int64,
            "fps": np.float32,
        }
    )


def _link(source: pathlib.Path, target: os.PathLike) -> None:
    """The file under a second name, so that nothing is lost if the process dies in between."""
    try:
        os.link(source, target)
    except OSError:  # a file system without hard links
        shutil.move(source, target)
