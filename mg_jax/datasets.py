"""Prepared data sets on disk: how they come about, where they lie, what they hold."""

import dataclasses
import importlib
import pathlib
import sys

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds
from array_record.python.array_record_data_source import ArrayRecordDataSource

from mg_jax.sampling import VideoTable

# Only tf.data runs in TensorFlow; left alone it takes all of a GPU's memory.
tf.config.set_visible_devices([], "GPU")

DATA_SETS = ("moving_shapes",)

_COLUMNS = {
    "id": tf.io.FixedLenFeature([], tf.string),
    **{
        name: tf.io.FixedLenFeature([], tf.int64)
        for name in ("label", "first_frame", "num_frames", "height", "width")
    },
}


@dataclasses.dataclass(frozen=True)
class DataSource:
    """The splits that a run uses: their videos and the records of their frames."""

    train_videos: VideoTable
    train_frames: ArrayRecordDataSource
    eval_videos: VideoTable
    eval_frames: ArrayRecordDataSource


def prepare(config) -> None:
    """Prepares the config's data set under data.dir; nothing to do where it is there already.

    Raises:
      ValueError: if there is no builder of that name.
    """
    if not sys.stderr.isatty():
        tfds.disable_progress_bar()
    builder = _builder_class(config.data.name)(
        data_dir=_data_dir(config), file_format="array_record"
    )
    builder.download_and_prepare(download_dir=_data_dir(config) / "downloads")
    skipped = builder.info.metadata["skipped"]
    for video, reason in skipped.items():
        print(f"skipped {video}: {reason}")
    counts = ", ".join(
        f"{info.num_examples:,} {name}" for name, info in sorted(builder.info.splits.items())
    )
    print(f"{builder.data_path}: {counts}; {len(skipped)} videos skipped")


def open_source(config) -> DataSource:
    """The config's splits.

    Raises:
      ValueError: if the data set is not prepared, a split is missing or empty, or the model's
        classes are not the data set's.
    """
    data_set = open_data_set(config)
    classes = data_set.info.features["label"].num_classes
    if config.model.num_classes != classes:
        raise ValueError(
            f"model.num_classes={config.model.num_classes}, but {data_set.data_path} has {classes} "
            f"classes; set --config.model.num_classes={classes}"
        )
    train, evaluation = config.data.train_split, config.data.eval_split
    return DataSource(
        train_videos=video_table(data_set, train),
        train_frames=frame_source(data_set, f"{train}_frames"),
        eval_videos=video_table(data_set, evaluation),
        eval_frames=frame_source(data_set, f"{evaluation}_frames"),
    )


@dataclasses.dataclass(frozen=True)
class Stored:
    """How a data set stores its videos.

    Attributes:
      classes: their names, or None where the data set is not prepared.
      short_side: of frames at most, pixels.
      quality: of the JPEGs.
    """

    classes: list[str] | None
    short_side: int
    quality: int


def describe(config) -> Stored:
    """How the config's data set stores videos; what evaluation asks for where it is not there."""
    if not _versions(config):
        return Stored(None, config.eval.short_side, quality=95)
    info = open_data_set(config).info
    return Stored(
        info.features["label"].names, info.metadata["short_side"], info.metadata["quality"]
    )


def open_data_set(config) -> tfds.core.DatasetBuilder:
    """The prepared data set.

    Raises:
      ValueError: if it is not prepared, saying how to.
    """
    versions = _versions(config)
    if not versions:
        folder = _data_dir(config) / config.data.name
        prepare_it = (
            "prepare it with --mode=prepare and the same --config flags"
            if config.data.name in DATA_SETS
            else f"data/ has no builder for it, only for {', '.join(DATA_SETS)}"
        )
        raise ValueError(
            f"no prepared data set in {folder} (data.dir={config.data.dir}, "
            f"data.name={config.data.name}); {prepare_it}, or point --config.data.dir at the "
            "folder that holds it"
        )
    return tfds.builder_from_directory(max(versions, key=lambda path: tfds.core.Version(path.name)))


def video_table(data_set: tfds.core.DatasetBuilder, split: str) -> VideoTable:
    """The videos of a split.

    Raises:
      ValueError: if there is no such split or it is empty.
    """
    if split not in data_set.info.splits:
        raise ValueError(
            f"{data_set.data_path} has no split {split!r}; "
            f"there are {', '.join(sorted(data_set.info.splits))}"
        )
    records = frame_source(data_set, split)
    if not len(records):
        raise ValueError(f"split {split!r} of {data_set.data_path} holds no video")
    columns = tf.io.parse_example(records.__getitems__(range(len(records))), _COLUMNS)
    columns = {name: column.numpy() for name, column in columns.items()}
    return VideoTable(
        ids=np.char.decode(columns["id"].astype(bytes), "utf-8"),
        label=columns["label"].astype(np.int32),
        first_frame=columns["first_frame"],
        num_frames=columns["num_frames"],
        height=columns["height"],
        width=columns["width"],
    )


def frame_source(data_set: tfds.core.DatasetBuilder, split: str) -> ArrayRecordDataSource:
    """Random access to a split's records.

    Raises:
      ValueError: if a file is missing or damaged.
    """
    try:
        return ArrayRecordDataSource([str(path) for path in data_set.info.splits[split].filepaths])
    except (RuntimeError, OSError) as error:
        raise ValueError(
            f"split {split!r} of {data_set.data_path} cannot be read: {error}; delete that folder "
            "and prepare it again with --mode=prepare"
        ) from error


def _versions(config) -> list[pathlib.Path]:
    """Folders of the prepared versions of the config's data set."""
    found = (_data_dir(config) / config.data.name).glob("*/dataset_info.json")
    return [path.parent for path in found if tfds.core.Version.is_valid(path.parent.name)]


def _data_dir(config) -> pathlib.Path:
    return pathlib.Path(config.data.dir).expanduser()


def _builder_class(name: str) -> type[tfds.core.GeneratorBasedBuilder]:
    if name not in DATA_SETS:
        raise ValueError(
            f"data.name={name!r} has no builder in data/; there are {', '.join(DATA_SETS)}"
        )
    return importlib.import_module(f"data.{name}.{name}_dataset_builder").Builder
