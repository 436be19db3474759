"""Prepared data sets on disk: where they lie, what they hold."""

import contextlib
import dataclasses
from collections.abc import Iterator

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from data.format.records import DamagedVideos, FrameRecords, UnreadableFile, read_records
from data.format.video_table import Actions, VideoTable
from data.preparation.parts import Stored
from data.preparation.prepare import settings_from_config
from mg_jax.errors import UserError
from mg_jax.input.class_files import ClassFiles, read_class_files
from mg_jax.input.prepared import check_class_count, check_prepared, data_folder, is_prepared
from mg_jax.input.readers import Readers, shared_readers

# Only tf.data runs in TensorFlow; left alone it takes all of a GPU's memory.
tf.config.set_visible_devices([], "GPU")

_LISTS = ("labels", "starts", "ends")
_NUMBERS = ("first_frame", "source_frames", "height", "width")


@dataclasses.dataclass(frozen=True)
class Split:
    """A split that a run uses.

    Attributes:
      videos: their sizes, lengths and labels.
      frames: records of their frames.
      damaged: videos that were found damaged so far.
      multi_label: a video has any number of labels, not one.
      readers: processes that read them.
      mirrored: class, by class, of mirrored clips; None where they keep their own.
    """

    videos: VideoTable
    frames: FrameRecords
    damaged: DamagedVideos
    multi_label: bool
    readers: Readers
    mirrored: tuple[int, ...] | None = None


@dataclasses.dataclass(frozen=True)
class DataSource:
    """The splits that a run uses, the names of their classes and the per-class settings."""

    train: Split
    evaluation: Split
    classes: list[str]
    class_files: ClassFiles = dataclasses.field(default_factory=ClassFiles)


def open_source(config) -> DataSource:
    """The config's splits.

    Raises:
      UserError: if the data set is not prepared, a split is missing or empty, the model's classes,
        unless left open by 0, are not the data set's, or a file names other classes.
    """
    data_set = open_data_set(config)
    classes = class_names(data_set)
    check_class_count(config, classes)
    class_files = read_class_files(config, classes)
    train = open_split(config, data_set, config.data.train_split)
    return DataSource(
        train=dataclasses.replace(train, mirrored=class_files.mirrored),
        evaluation=open_split(config, data_set, config.data.eval_split),
        classes=classes,
        class_files=class_files,
    )


def class_names(data_set: tfds.core.DatasetBuilder) -> list[str]:
    """Names of the classes, by index."""
    return data_set.info.features["labels"].feature.names


def stored(config) -> Stored:
    """How the config's data set stores frames; where it is not prepared, how it would."""
    if not is_prepared(config):
        return settings_from_config(config).stored
    return _stored(open_data_set(config))


def open_data_set(config) -> tfds.core.DatasetBuilder:
    """The prepared data set.

    Raises:
      UserError: if it is not prepared, or by another version, saying what to do.
    """
    check_prepared(config)
    return tfds.builder_from_directory(data_folder(config))


def open_split(config, data_set: tfds.core.DatasetBuilder, name: str) -> Split:
    """The videos and frames of a split.

    Raises:
      UserError: if there is no such split, it cannot be read, or its labels are not as the config
        says.
    """
    videos = video_table(data_set, name)
    multi_label = config.data.multi_label
    counts = np.bincount(videos.actions.row, minlength=len(videos))
    if not multi_label and (counts.min(), counts.max()) != (1, 1):
        raise UserError(
            f"videos of split {name!r} of {data_set.data_path} have {counts.min()} to "
            f"{counts.max()} labels; set --config.data.multi_label=True"
        )
    return Split(
        videos=videos,
        frames=frame_records(data_set, name),
        damaged=DamagedVideos(len(videos), config.data.max_damaged),
        multi_label=multi_label,
        readers=shared_readers(config.run.readers),
    )


def video_table(data_set: tfds.core.DatasetBuilder, split: str) -> VideoTable:
    """The videos of a split.

    Raises:
      UserError: if there is no such split or it cannot be read.
    """
    if split not in data_set.info.splits:
        names = [name for name in data_set.info.splits if not name.endswith("_frames")]
        raise UserError(
            f"{data_set.data_path} has no split {split!r}; there are {', '.join(sorted(names))}"
        )
    (path,) = data_set.info.splits[split].filepaths
    with _readable(data_set, split):
        records = read_records(str(path))
    features = {
        "id": tf.io.FixedLenFeature([], tf.string),
        **{name: tf.io.FixedLenFeature([], tf.int64) for name in _NUMBERS},
        **{name: tf.io.RaggedFeature(tf.int64) for name in _LISTS},
    }
    columns = tf.io.parse_example(records, features)
    ids, numbers = columns["id"].numpy(), {name: columns[name].numpy() for name in _NUMBERS}
    labels = columns["labels"]
    return VideoTable(
        ids=np.char.decode(ids.astype(bytes), "utf-8"),
        first_frame=numbers["first_frame"],
        source_frames=numbers["source_frames"],
        height=numbers["height"],
        width=numbers["width"],
        actions=Actions(
            row=labels.value_rowids().numpy(),
            label=labels.values.numpy().astype(np.int32),
            start=columns["starts"].values.numpy(),
            end=columns["ends"].values.numpy(),
        ),
        classes=len(class_names(data_set)),
        frame_step=_stored(data_set).frame_step,
    )


def frame_records(data_set: tfds.core.DatasetBuilder, split: str) -> FrameRecords:
    """Random access to the frames of a split of videos.

    Raises:
      UserError: if a file is missing or damaged.
    """
    info = data_set.info.splits[f"{split}_frames"]
    with _readable(data_set, split):
        return FrameRecords([str(path) for path in info.filepaths], info.shard_lengths)


@contextlib.contextmanager
def _readable(data_set: tfds.core.DatasetBuilder, split: str) -> Iterator[None]:
    try:
        yield
    except UnreadableFile as error:
        raise UserError(
            f"split {split!r} of {data_set.data_path} cannot be read: {error}; delete that folder "
            "and prepare it again with --mode=prepare"
        ) from error


def _stored(data_set: tfds.core.DatasetBuilder) -> Stored:
    metadata = data_set.info.metadata
    return Stored(*(metadata[field.name] for field in dataclasses.fields(Stored)))
