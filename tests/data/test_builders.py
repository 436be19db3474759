"""What holds for the data sets of all builders."""

import pathlib

import numpy as np
import pytest
import tensorflow_datasets as tfds

from mg_jax.errors import UserError
from mg_jax.input.datasets import frame_records, open_data_set
from mg_jax.tools.prepare import prepare
from tests import videos
from tests.builders import contents, refused


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A small data set."""
    source = tmp_path_factory.mktemp("data_set") / "source"
    for split in ("train", "validation"):
        videos.write(source / split / "run" / "a.mp4", 5)
        videos.write(source / split / "jump" / "b.mp4", 6, size=(48, 32), fps=12)
    config = videos.config_for(source, "video_folder/mine", short_side=30)
    prepare(config)
    return config


def test_a_prepared_data_set_is_one_of_tfds(prepared):
    folder = pathlib.Path(prepared.data.dir) / "video_folder" / "mine" / "2.0.0"
    data_set = tfds.builder_from_directory(folder)
    assert data_set.info.splits["train"].num_examples == 2
    assert data_set.info.splits["train_frames"].num_examples == 11
    assert data_set.info.features["labels"].feature.names == ["jump", "run"]
    jump, run = data_set.as_data_source("train")
    assert (jump["id"], jump["labels"], jump["first_frame"]) == (b"jump/b.mp4", [0], 0)
    assert (run["id"], run["labels"], run["first_frame"]) == (b"run/a.mp4", [1], 6)
    sizes = ("height", "width", "num_frames", "source_frames", "fps")
    assert [jump[name] for name in sizes] == [30, 45, 6, 6, 12]
    assert [run[name] for name in sizes] == [24, 32, 5, 5, 25]
    frames = data_set.as_data_source("train_frames")
    assert [frame["id"] for frame in frames] == [b"jump/b.mp4"] * 6 + [b"run/a.mp4"] * 5
    assert videos.numbers([frame["jpeg"] for frame in frames]) == [*range(6), *range(5)]
    assert frames[0]["jpeg"] == frame_records(data_set, "train").jpegs(np.array([0]))[0]


def test_a_data_set_says_how_it_was_prepared(prepared):
    metadata = open_data_set(prepared).info.metadata
    assert metadata == {
        "short_side": 30,
        "quality": 90,
        "frame_step": 1,
        "validation_share": 0,
        "group_pattern": "",
        "skipped": 0,
    }


def test_preparing_again_needs_neither_videos_nor_lists(prepared, capsys):
    config = prepared.copy_and_resolve_references()
    config.prepare.source = "gone"
    folder = pathlib.Path(config.data.dir)
    before = sorted((path, path.stat().st_mtime_ns) for path in folder.rglob("*"))
    prepare(config)
    assert sorted((path, path.stat().st_mtime_ns) for path in folder.rglob("*")) == before
    assert "2 train, 11 train_frames, 2 validation, 11 valid" in capsys.readouterr().out


@pytest.mark.parametrize("setting", [("short_side", 20), ("quality", 80), ("frame_step", 2)])
def test_a_data_set_prepared_with_other_settings_is_not_taken_for_another(prepared, setting):
    config = prepared.copy_and_resolve_references()
    name, value = setting
    config.prepare[name] = value
    message = rf"is prepared with .*{name}={prepared.prepare[name]}.*, not .*{name}={value}"
    with pytest.raises(UserError, match=message):
        prepare(config)


def test_a_data_set_of_another_version_is_named(tmp_path):
    videos.write(tmp_path / "source" / "train" / "run" / "a.mp4")
    config = videos.config_for(tmp_path / "source", "video_folder/mine")
    prepare(config)
    folder = pathlib.Path(open_data_set(config).data_path)
    folder.rename(folder.with_name("1.0.0"))
    message = r"mine was prepared by version 1.0.0 of the format; this mg_jax reads 2.0.0"
    with pytest.raises(UserError, match=message):
        open_data_set(config)
    prepare(config)  # beside the old one
    assert contents(config, "train") == {"run/a.mp4": ([0], 5)}


def test_splits_that_a_run_needs_are_asked_for_at_once(source):
    videos.write(source / "train" / "run" / "a.mp4")
    config = videos.config_for(source, "video_folder/mine")
    config.data.eval_split = "validation"
    refused(
        config, r"source has no split 'validation', only train \(folder train\); add it, or name"
    )
    config.data.eval_split, config.data.train_split = "train", "more"
    refused(config, r"source has no split 'more', only train .* --config.data.train_split or")


@pytest.mark.parametrize("name", ["kinetics/400", "ssv2", "charades", "video_folder/mine"])
def test_the_folder_of_the_originals_must_be_given(source, name):
    config = videos.config_for(source, name)
    config.prepare.source = ""
    refused(config, r"prepare.source is not set; --config.prepare.source=DIR says where")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("kinetix/400", r"data.name='kinetix' has no builder in data/; there are kinetics, ssv2"),
        ("kinetics", r"data.name='kinetics' must be kinetics/VARIANT, 400, 600 or 700"),
        ("kinetics/500", r"data.name=kinetics/500 is not known; use kinetics/400, kinetics/600"),
        ("video_folder", r"must be video_folder/VARIANT, any name you like"),
        ("video_folder/", r"must be video_folder/VARIANT, any name you like"),
        ("ssv2/1", r"data.name='ssv2/1' must be ssv2 alone"),
        ("charades/480", r"data.name='charades/480' must be charades alone"),
    ],
)
def test_names_of_data_sets_are_checked(source, name, message):
    refused(videos.config_for(source, name), message)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("short_side", 0, r"prepare.short_side=0 must be at least 1"),
        ("frame_step", 0, r"prepare.frame_step=0 must be at least 1"),
        ("quality", 0, r"prepare.quality=0 must lie in 1 ... 95"),
        ("quality", 96, r"prepare.quality=96 must lie in 1 ... 95"),
        ("max_broken", -0.1, r"prepare.max_broken=-0.1 is a share and lies in 0 ... 1"),
        ("max_broken", 2.0, r"prepare.max_broken=2.0 is a share"),
        ("max_broken", float("nan"), r"prepare.max_broken=nan is a share"),
        ("workers", -1, r"prepare.workers=-1 must be positive, or 0 for all cores"),
        ("separator", "", r"prepare.separator='' must be one character"),
        ("separator", ", ", r"prepare.separator=', ' must be one character"),
        ("separator", '"', r"prepare.separator='\"' must be one character.* and no quote"),
        ("validation_share", 1.0, r"prepare.validation_share=1.0 must be a share below 1"),
        ("validation_share", float("nan"), r"prepare.validation_share=nan must be a share below 1"),
        ("group_pattern", "(", r"prepare.group_pattern='\(' is no regular expression"),
        ("group_pattern", "s[0-9]+", r"prepare.group_pattern='s\[0-9\]\+' has no \(\.\.\.\)"),
    ],
)
def test_settings_are_checked(source, name, value, message):
    videos.write(source / "train" / "run" / "a.mp4")
    videos.write_lines(source / "train.csv", "train/run/a.mp4 run")
    refused(videos.config_for(source, "video_folder/mine", **{name: value}), message)
