"""The core that all data sets share: listed videos into frames that can be fetched singly.

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
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds
from tensorflow_datasets.core import dataset_builder

from data.parts import REMARKS, SKIPPED, Part, write_videos
from data.preparation import (
    Settings,
    check_broken,
    locked,
    parts_of,
    prepare_parts,
    read_report,
    resumable,
)
from data.videos import Listing, missing

# Of the format of prepared data sets; what is read must be of the same.
VERSION = tfds.core.Version("2.0.0")


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

    def __init__(self, data_dir: pathlib.Path, variant: str, settings: Settings):
        self.variant = variant
        self.settings = settings
        self._listing = None
        config = tfds.core.BuilderConfig(name=variant, version=VERSION) if variant else None
        super().__init__(data_dir=data_dir, config=config)

    @abc.abstractmethod
    def listing(self) -> Listing:
        """The videos, their labels and the names of the classes.

        Raises:
          ValueError: naming file and line of what is wrong.
        """

    @property
    def _parts_dir(self) -> pathlib.Path:
        """Holds what is prepared so far until all is."""
        return pathlib.Path(self.data_path).with_name(f"{VERSION}.parts")

    def prepare(self, splits: tuple[str, ...]) -> None:
        """Prepares the data set, or goes on where a process was cut off.

        Args:
          splits: that there must be.

        Raises:
          ValueError: for lists, videos, settings or a disk that do not do.
        """
        # First of all, and while no folder is there yet.
        self._listing = self.listing()
        self._check_listing(splits)
        self.info.features["labels"].feature.names = self._listing.classes
        with resumable(self._parts_dir, self.settings), locked(self._parts_dir):
            self.download_and_prepare(file_format="array_record")
            self.remove_leftovers()

    def remove_leftovers(self) -> None:
        """Of a preparation that is done, or was killed when it was."""
        shutil.rmtree(self._parts_dir, ignore_errors=True)
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

    def _check_listing(self, splits: tuple[str, ...]) -> None:
        settings = self.settings
        absent = [split for split in splits if split not in self._listing.splits]
        if absent:
            there = ", ".join(self._listing.splits)
            raise ValueError(
                f"{settings.source} has no split {absent[0]!r}, only {there}; add it, or name "
                "another by --config.data.train_split or --config.data.eval_split"
            )
        for split, videos in self._listing.splits.items():
            if not videos:
                raise ValueError(
                    f"split {split!r} of {settings.source} lists no videos; add some or remove it"
                )
            ids = set()
            for video in videos:
                if video.id in ids:
                    raise ValueError(
                        f"split {split!r} of {settings.source} lists {video.id} twice; remove one "
                        "of the lines"
                    )
                ids.add(video.id)
        videos = [video for videos in self._listing.splits.values() for video in videos]
        absent = missing(videos)
        if absent:
            first = ", ".join(str(video.path) for video in absent[:3])
            check_broken(len(absent), len(videos), settings.max_broken, f"{first} ... do not exist")
            print(f"{len(absent)} of {len(videos)} files do not exist: {first} ...")

    def _download_and_prepare(self, dl_manager, download_config) -> None:
        """Called by TFDS with `data_dir` a folder that becomes the data set's when this returns."""
        folder = self._parts_dir
        parts = parts_of(self._listing)
        prepare_parts(parts, folder, self.settings)
        skipped, remarks, infos = [], [], []
        for split in self._listing.splits:
            mine = [part for part in parts if part.split == split]
            reports = [read_report(part, folder) for part in mine]
            skipped += [{"split": split, **row} for r in reports for row in r["skipped"]]
            remarks += [{"split": split, **row} for r in reports for row in r["remarks"]]
            infos += self._finish_split(split, mine, reports, folder)
        self.info.set_splits(tfds.core.splits.SplitDict(infos))
        stored = self.settings.stored
        self.info.metadata.update(
            short_side=stored.short_side,
            quality=stored.quality,
            frame_step=stored.frame_step,
            skipped=len(skipped),
        )
        for name, column, rows in ((SKIPPED, "reason", skipped), (REMARKS, "remark", remarks)):
            with (pathlib.Path(self.data_dir) / name).open("w", newline="") as file:
                writer = csv.DictWriter(file, ["split", "id", "path", column])
                writer.writeheader()
                writer.writerows(rows)

    def _finish_split(
        self, split: str, parts: list[Part], reports: list[dict[str, Any]], folder: pathlib.Path
    ) -> list[tfds.core.SplitInfo]:
        """Puts the parts' files in their places and writes the split of videos that points there.

        Raises:
          ValueError: if no video of the split could be read.
        """
        records = [record for report in reports for record in report["videos"]]
        if not records:
            raise ValueError(f"no video of split {split!r} could be read; see {folder}/*.json")
        lengths = [record["num_frames"] for record in records]
        firsts = itertools.accumulate(lengths, initial=0)
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
        """Nothing: TFDS would tell of a download."""

    def _log_download_done(self) -> None:
        """Nothing: the caller tells what there is."""

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

    Label i holds from source frame `starts[i]` up to `ends[i]`. `first_frame` is a record number of
    the split of frames; `num_frames` counts the stored ones, `source_frames` all of the video.
    Sizes are those of the stored frames, in pixels.
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
