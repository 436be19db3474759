"""The metadata of a prepared data set, read without TensorFlow."""

import json
import pathlib
from collections.abc import Sequence

from data.listing.videos import FORMAT
from mg_jax.errors import UserError, did_you_mean, first_line
from mg_jax.workdir.config import has_classes, read_classes

# The folders of data/ that have a builder.
DATA_SETS = ("kinetics", "ssv2", "charades", "video_folder", "moving_shapes")


def data_folder(config) -> pathlib.Path:
    """Where the config's prepared data set lies."""
    return pathlib.Path(config.data.dir).expanduser() / config.data.name / FORMAT


def is_prepared(config) -> bool:
    """Whether the config's data set is prepared."""
    return (data_folder(config) / "dataset_info.json").exists()


def check_prepared(config) -> None:
    """Checks that the config's data set is prepared.

    Raises:
      UserError: if it is not, or by another version, saying what to do.
    """
    if is_prepared(config):
        return
    folder = data_folder(config).parent
    others = sorted(path.parent.name for path in folder.glob("*/dataset_info.json"))
    if others:
        raise UserError(
            f"{folder} was prepared by version {', '.join(others)} of the format; this mg_jax "
            f"reads {FORMAT}. Prepare it again with --mode=prepare and the same --config flags, "
            "then the old folder can go"
        )
    check_builder(config)
    raise UserError(
        f"no prepared data set in {folder} (data.dir={config.data.dir}, "
        f"data.name={config.data.name}); prepare it with --mode=prepare and the same --config "
        "flags, or point --config.data.dir at the folder that holds it"
    )


def check_builder(config) -> None:
    """Checks that `data/` has a builder of the config's data set.

    Raises:
      UserError: if not, naming those that it has.
    """
    name = config.data.name.partition("/")[0]
    if name not in DATA_SETS:
        raise UserError(
            f"data.name={name!r} has no builder in data/; there are {', '.join(DATA_SETS)}"
            f"{did_you_mean(name, DATA_SETS)}"
        )


def check_class_count(config, classes: Sequence[str]) -> None:
    """Checks that the model's classes, unless left open by 0, are those of the prepared data set.

    Raises:
      UserError: if not.
    """
    if config.model.num_classes not in (0, len(classes)):
        raise UserError(
            f"model.num_classes={config.model.num_classes}, but {data_folder(config)} has "
            f"{len(classes)} classes; set --config.model.num_classes={len(classes)}, or 0 for as "
            "many as there are"
        )


def count_videos(config, split: str) -> int | None:
    """How many videos a split of the config's data set has; None where it is not prepared.

    Raises:
      UserError: if the metadata is damaged or there is no such split.
    """
    if not is_prepared(config):
        return None
    path = data_folder(config) / "dataset_info.json"
    try:
        splits = {split["name"]: split for split in json.loads(path.read_text("utf-8"))["splits"]}
    except (ValueError, KeyError) as error:
        raise UserError(
            f"{path} is damaged ({error}); delete that folder and prepare it again with "
            "--mode=prepare"
        ) from error
    if split not in splits:
        names = ", ".join(sorted(name for name in splits if not name.endswith("_frames")))
        raise UserError(f"{path.parent} has no split {split!r}; there are {names}")
    return sum(map(int, splits[split]["shardLengths"]))


def prepared_classes(config) -> list[str] | None:
    """Names of the classes of the config's data set; None where it is not prepared.

    Raises:
      UserError: if the file of names is missing or damaged.
    """
    if not is_prepared(config):
        return None
    path = data_folder(config) / "labels.labels.txt"
    try:
        names = path.read_text("utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"{path} cannot be read ({first_line(error)}); delete that folder and prepare it again "
            "with --mode=prepare"
        ) from error
    # As TensorFlow Datasets reads it.
    return [name.strip() for name in names if name.strip()]


def with_classes(config, *workdirs: pathlib.Path):
    """A config whose model.num_classes is known; where it is 0 a copy with the right number.

    The number comes from the first of these that exists: a work directory that names its classes,
    the prepared data set, the work directory that init_from names.

    Raises:
      UserError: if none of them exists.
    """
    if config.model.num_classes:
        return config
    for workdir in workdirs:
        if has_classes(workdir):
            return with_class_count(config, len(read_classes(workdir)))
    if (classes := prepared_classes(config)) is not None:
        return with_class_count(config, len(classes))
    start = pathlib.Path(config.init_from).expanduser()
    if config.init_from and has_classes(start):
        return with_class_count(config, len(read_classes(start)))
    raise UserError(
        "model.num_classes=0 means as many as the data set has, and there is none prepared in "
        f"{data_folder(config)}; set --config.model.num_classes, or prepare it with --mode=prepare "
        "and the same --config flags, or point --config.data.dir at the folder that holds it"
    )


def with_class_count(config, classes: int):
    """The config, or where its model.num_classes is 0 a copy with that number."""
    if config.model.num_classes:
        return config
    config = config.copy_and_resolve_references()
    config.model.num_classes = classes
    return config
