"""Prepared data sets on disk: how they come about, where they lie, what they hold."""

import contextlib
import csv
import dataclasses
import importlib
import pathlib
from collections.abc import Iterator

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds
from array_record.python.array_record_module import ArrayRecordReader

from data.builder import VERSION, VideoBuilder
from data.parts import REMARKS, SKIPPED, Stored
from data.preparation import Settings, settings_from_config
from data.provenance import SOURCES
from data.replacement import Replacement
from mg_jax.prepared import data_folder, is_prepared
from mg_jax.records import DamagedVideos, FrameRecords
from mg_jax.video_table import Actions, VideoTable

# Only tf.data runs in TensorFlow; left alone it takes all of a GPU's memory.
tf.config.set_visible_devices([], "GPU")

DATA_SETS = ("kinetics", "ssv2", "charades", "video_folder", "moving_shapes")

_SHOWN = 10  # of the skipped videos and of the remarks

_LISTS = ("labels", "starts", "ends")
_NUMBERS = ("first_frame", "source_frames", "height", "width")


@dataclasses.dataclass(frozen=True)
class Split:
    """A split that a run uses.

    Attributes:
      videos: their sizes, lengths and labels.
      frames: records of their frames.
      damaged: videos that turned out to be.
      multi_label: a video has any number of labels, not one.
    """

    videos: VideoTable
    frames: FrameRecords
    damaged: DamagedVideos
    multi_label: bool


@dataclasses.dataclass(frozen=True)
class DataSource:
    """The splits that a run uses and the names of their classes."""

    train: Split
    evaluation: Split
    classes: list[str]


def prepare(config) -> None:
    """Prepares the config's data set under data.dir; nothing to do where it is there already.

    Raises:
      ValueError: for a name, settings, lists or videos that do not do, saying what would.
    """
    tfds.disable_progress_bar()  # VideoBuilder shows its own
    settings = settings_from_config(config)
    folder, root = data_folder(config), pathlib.Path(config.data.dir).expanduser()
    if settings.dry_run:
        return _builder(config, settings, root).look()
    renewing = root / ".renewing"
    newer = renewing / config.data.name / str(VERSION)
    replacement = Replacement(folder, renewing, newer)
    replacement.finish()
    builder = _builder(config, settings, root)
    if not is_prepared(config):
        builder.prepare()
    elif settings.renew:
        _builder(config, settings, renewing).prepare()
        replacement.finish()
    else:
        _check_stored(builder, settings)
        builder.remove_leftovers()
        print(f"{folder} is there already; --config.prepare.renew=True prepares it again")
        _tell_changes(builder, config)
        replacement.tell_unfinished()
    _tell_what_is_there(config)
    return None


def _tell_changes(builder: VideoBuilder, config) -> None:
    """Says what has changed in the source since the data set was prepared from it."""
    folder, source = data_folder(config), config.prepare.source
    if not source or not (folder / SOURCES).exists():
        return
    if not pathlib.Path(source).expanduser().is_dir():
        print(f"prepare.source={source} is no folder, so whether videos have changed is not known")
        return
    try:
        changed = builder.changes(folder)
    except ValueError as error:
        print(f"whether videos have changed since is not known: {error}")
        return
    for line in changed:
        print(f"changed in {source} since: {line}")
    if changed:
        print("what is prepared stays as it is; --config.prepare.renew=True takes the changes up")


def _tell_what_is_there(config) -> None:
    data_set, folder = open_data_set(config), data_folder(config)
    skipped, remarks = _listed(folder / SKIPPED), _listed(folder / REMARKS)
    for row in skipped[:_SHOWN]:
        print(f"skipped {row['path']}: {row['reason']}")
    for row in remarks[:_SHOWN]:
        print(f"stored {row['path']}, but look at it: {row['remark']}")
    counts = ", ".join(
        f"{info.num_examples:,} {name}" for name, info in sorted(data_set.info.splits.items())
    )
    more = f", see {folder / SKIPPED}" if skipped else ""
    odd = len({(row["split"], row["id"]) for row in remarks})
    more += f"; {odd} videos stored with remarks, see {folder / REMARKS}" if odd else ""
    classes = class_names(data_set)
    names = ", ".join(classes[:5]) + (" ..." if len(classes) > 5 else "")
    print(
        f"{data_set.data_path}: {counts}; {len(classes)} classes ({names}); "
        f"{len(skipped)} videos skipped{more}; --mode=preview --workdir=DIR draws its clips"
    )


def _listed(path: pathlib.Path) -> list[dict[str, str]]:
    """Rows of a list beside the data set; those of earlier versions have no remarks."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def open_source(config) -> DataSource:
    """The config's splits.

    Raises:
      ValueError: if the data set is not prepared, a split is missing or empty, or the model's
        classes, unless left open by 0, are not the data set's.
    """
    data_set = open_data_set(config)
    classes = class_names(data_set)
    if config.model.num_classes not in (0, len(classes)):
        raise ValueError(
            f"model.num_classes={config.model.num_classes}, but {data_set.data_path} has "
            f"{len(classes)} classes; set --config.model.num_classes={len(classes)}, or 0 for as "
            "many as there are"
        )
    return DataSource(
        train=_open_split(config, data_set, config.data.train_split),
        evaluation=_open_split(config, data_set, config.data.eval_split),
        classes=classes,
    )


def class_names(data_set: tfds.core.DatasetBuilder) -> list[str]:
    """Names of the classes at their numbers."""
    return data_set.info.features["labels"].feature.names


def stored(config) -> Stored:
    """How the config's data set stores frames; where it is not there, how it would."""
    if not is_prepared(config):
        return settings_from_config(config).stored
    return _stored(open_data_set(config))


def open_data_set(config) -> tfds.core.DatasetBuilder:
    """The prepared data set.

    Raises:
      ValueError: if it is not prepared, or by another version, saying what to do.
    """
    if is_prepared(config):
        return tfds.builder_from_directory(data_folder(config))
    folder = data_folder(config).parent
    others = sorted(path.parent.name for path in folder.glob("*/dataset_info.json"))
    if others:
        raise ValueError(
            f"{folder} was prepared by version {', '.join(others)} of the format; this mg_jax "
            f"reads {VERSION}. Prepare it again with --mode=prepare and the same --config flags, "
            "then the old folder can go"
        )
    prepare_it = (
        "prepare it with --mode=prepare and the same --config flags"
        if config.data.name.split("/")[0] in DATA_SETS
        else f"data/ has no builder for it, only for {', '.join(DATA_SETS)}"
    )
    raise ValueError(
        f"no prepared data set in {folder} (data.dir={config.data.dir}, "
        f"data.name={config.data.name}); {prepare_it}, or point --config.data.dir at the "
        "folder that holds it"
    )


def _open_split(config, data_set: tfds.core.DatasetBuilder, name: str) -> Split:
    """The videos and frames of a split.

    Raises:
      ValueError: if there is no such split, it cannot be read, or its labels are not as the config
        says.
    """
    videos = video_table(data_set, name)
    multi_label = config.data.multi_label
    counts = np.bincount(videos.actions.row, minlength=len(videos))
    if not multi_label and (counts.min(), counts.max()) != (1, 1):
        raise ValueError(
            f"videos of split {name!r} of {data_set.data_path} have {counts.min()} to "
            f"{counts.max()} labels; set --config.data.multi_label=True"
        )
    return Split(
        videos=videos,
        frames=frame_records(data_set, name),
        damaged=DamagedVideos(len(videos), config.data.max_damaged),
        multi_label=multi_label,
    )


def video_table(data_set: tfds.core.DatasetBuilder, split: str) -> VideoTable:
    """The videos of a split.

    Raises:
      ValueError: if there is no such split or it cannot be read.
    """
    if split not in data_set.info.splits:
        names = [name for name in data_set.info.splits if not name.endswith("_frames")]
        raise ValueError(
            f"{data_set.data_path} has no split {split!r}; there are {', '.join(sorted(names))}"
        )
    with _readable(data_set, split):
        (path,) = data_set.info.splits[split].filepaths
        records = ArrayRecordReader(str(path)).read_all()
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
        num_frames=numbers["source_frames"],
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
      ValueError: if a file is missing or damaged.
    """
    info = data_set.info.splits[f"{split}_frames"]
    with _readable(data_set, split):
        return FrameRecords([str(path) for path in info.filepaths], info.shard_lengths)


@contextlib.contextmanager
def _readable(data_set: tfds.core.DatasetBuilder, split: str) -> Iterator[None]:
    try:
        yield
    except (RuntimeError, OSError, ValueError) as error:
        raise ValueError(
            f"split {split!r} of {data_set.data_path} cannot be read: {error}; delete that folder "
            "and prepare it again with --mode=prepare"
        ) from error


def _stored(data_set: tfds.core.DatasetBuilder) -> Stored:
    metadata = data_set.info.metadata
    return Stored(*(metadata[field.name] for field in dataclasses.fields(Stored)))


def _check_stored(data_set: tfds.core.DatasetBuilder, settings: Settings) -> None:
    metadata = data_set.info.metadata
    wanted = {
        **dataclasses.asdict(settings.stored),
        "validation_share": settings.validation_share,
        "group_pattern": settings.group_pattern,
    }
    found = {name: metadata.get(name, wanted[name]) for name in wanted}
    if found != wanted:
        raise ValueError(
            f"{data_set.data_path} is prepared with {_settings(found)}, not {_settings(wanted)}; "
            "use it with the same --config.prepare flags, prepare it again with "
            "--config.prepare.renew=True, or choose another --config.data.dir"
        )


def _settings(settings: dict[str, object]) -> str:
    return ", ".join(f"{name}={value}" for name, value in settings.items())


def _builder(config, settings: Settings, root: pathlib.Path) -> VideoBuilder:
    """Of the config's data set, which comes to lie under `root`."""
    name, _, variant = config.data.name.partition("/")
    if name not in DATA_SETS:
        raise ValueError(
            f"data.name={name!r} has no builder in data/; there are {', '.join(DATA_SETS)}"
        )
    if name != "moving_shapes" and not config.prepare.source and not is_prepared(config):
        raise ValueError(
            f"prepare.source is not set; --config.prepare.source=DIR says where {name} lies"
        )
    if variant == "NAME":
        raise ValueError(
            f"data.name={config.data.name!r} is a placeholder; give the data set a name of your "
            f"own with --config.data.name={name}/..."
        )
    builder = importlib.import_module(f"data.{name}.{name}_dataset_builder").Builder
    if bool(variant) != bool(builder.VARIANTS):
        what = f"{name}/VARIANT, {builder.VARIANTS}" if builder.VARIANTS else f"{name} alone"
        raise ValueError(f"data.name={config.data.name!r} must be {what}")
    return builder(root, variant, settings)
