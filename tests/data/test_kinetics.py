"""Kinetics from lists and class folders, and files that are not there."""

import pathlib
import re

import numpy as np
import pytest

from data.kinetics.kinetics_dataset_builder import Builder as Kinetics
from data.listing.findings import Findings
from data.preparation.prepare import settings_from_config
from mg_jax.errors import UserError
from mg_jax.input.datasets import class_names, open_data_set, open_source
from mg_jax.tools.prepare import prepare
from tests import videos
from tests.builders import contents, refused
from tests.preparations import listed


@pytest.mark.parametrize("count", [400, 600, 700])
def test_kinetics_is_prepared_from_the_lists_of_pyslowfast(source, count):
    for i in range(4):
        videos.write(source / "clips" / f"{i}.mp4", 5 + i)
    videos.write_lines(source / "train.csv", "clips/0.mp4 0", f"clips/1.mp4 {count - 1}")
    videos.write_lines(source / "val.csv", f"{source}/clips/2.mp4 7")
    videos.write(source / "9.mp4", 3)
    videos.write_lines(source / "test.csv", f"{source}/clips/../9.mp4 8", "", "clips/3.mp4 9")
    config = videos.config_for(source, f"kinetics/{count}")
    config.model.num_classes = count
    prepare(config)
    assert contents(config, "train") == {
        "clips/0.mp4": ([0], 5),
        "clips/1.mp4": ([count - 1], 6),
    }
    assert contents(config, "validation") == {"clips/2.mp4": ([7], 7)}
    assert contents(config, "test") == {"9.mp4": ([8], 3), "clips/3.mp4": ([9], 8)}
    data = open_source(config)
    assert (len(data.classes), data.classes[-1]) == (count, f"class {count - 1}")
    np.testing.assert_array_equal(data.train.videos.label(np.array([1, 0])), [count - 1, 0])


@pytest.mark.parametrize("name", ["kinetics/400", "video_folder/x"])
@pytest.mark.parametrize("path", ["../9.mp4", "a/../../9.mp4", "{elsewhere}/9.mp4", ".", ""])
def test_paths_of_lists_do_not_leave_the_folder_of_the_videos(source, name, path):
    elsewhere = videos.write(source.parent / "9.mp4").parent
    videos.write_lines(source / "train.csv", f'"{path.format(elsewhere=elsewhere)}" 3')
    config = videos.config_for(source, name, separator=" ")
    refused(config, rf"train.csv, line 1: .* is no path in {source}; --config.prepare.videos=... ")


def test_videos_may_lie_in_another_folder_than_their_lists(source):
    elsewhere = videos.write(source.parent / "elsewhere" / "9.mp4").parent
    videos.write_lines(source / "train.csv", "9.mp4 3")
    videos.write_lines(source / "val.csv", f"{elsewhere}/9.mp4 3")
    config = videos.config_for(source, "kinetics/400", videos=str(elsewhere))
    prepare(config)
    assert contents(config, "train") == {"9.mp4": ([3], 5)}
    assert contents(config, "validation") == {"9.mp4": ([3], 5)}


def test_lists_may_have_another_separator_and_paths_with_blanks(source):
    videos.write(source / "air drumming" / "a b.mp4")
    videos.write_lines(source / "train.csv", "air drumming/a b.mp4,3", '"air drumming/a b.mkv",4')
    videos.write(source / "air drumming" / "a b.mkv", 6)
    config = videos.config_for(source, "kinetics/400", separator=",")
    prepare(config)
    expected = {"air drumming/a b.mp4": ([3], 5), "air drumming/a b.mkv": ([4], 6)}
    assert contents(config, "train") == expected


def test_quoted_paths_may_hold_the_separator(source):
    videos.write(source / "air drumming.mp4")
    videos.write_lines(source / "train.csv", '"air drumming.mp4" 3')
    config = videos.config_for(source, "kinetics/400")
    prepare(config)
    assert contents(config, "train") == {"air drumming.mp4": ([3], 5)}


def test_classes_of_lists_are_named_by_classes_txt_and_may_be_given_by_name(source):
    names = [f"activity {k}" for k in range(400)]
    videos.write(source / "0.mp4")
    videos.write(source / "1.mp4")
    videos.write_lines(source / "classes.txt", *names)
    videos.write_lines(source / "train.csv", "0.mp4,activity 17", "1.mp4,399")
    config = videos.config_for(source, "kinetics/400", separator=",")
    prepare(config)
    assert contents(config, "train") == {"0.mp4": ([17], 5), "1.mp4": ([399], 5)}
    assert class_names(open_data_set(config)) == names


def kinetics_listing(config):
    """What is listed, without preparing it."""
    name, variant = config.data.name.split("/")
    assert name == "kinetics"
    settings = settings_from_config(config)
    return Kinetics(pathlib.Path(config.data.dir), variant, settings).listing(Findings())


@pytest.mark.parametrize("count", [400, 600, 700])
def test_kinetics_is_listed_from_as_many_class_folders_as_there_are_classes(source, count):
    for k in range(count):
        for split in ("train", "val"):
            (source / split / f"class{k:03d}").mkdir(parents=True)
            (source / split / f"class{k:03d}" / "video.mp4").touch()
    listing = kinetics_listing(videos.config_for(source, f"kinetics/{count}"))
    assert listing.classes == [f"class{k:03d}" for k in range(count)]
    for split in ("train", "validation"):
        assert [v.actions[0].label for v in listing.splits[split]] == list(range(count))
        assert listing.splits[split][-1].id == f"class{count - 1:03d}/video.mp4"
    (source / "train" / "class_more").mkdir()
    (source / "train" / "class_more" / "video.mp4").touch()
    with pytest.raises(UserError, match=rf"hold {count + 1} class folders; Kinetics-{count} has"):
        kinetics_listing(videos.config_for(source, f"kinetics/{count}"))


def test_too_few_class_folders_are_refused_with_what_does_for_subsets(source):
    for split in ("train", "val"):
        for name in ("a", "b"):
            videos.write(source / split / name / "0.mp4")
    message = (
        r"source/train, .*source/val hold 2 class folders; Kinetics-400 has 400 classes. .* list "
        r"the classes in classes.txt, or use --config.data.name=video_folder/NAME"
    )
    refused(videos.config_for(source, "kinetics/400"), message)


def test_some_class_folders_do_with_a_list_of_all_classes(source):
    videos.write_lines(source / "classes.txt", *(f"activity {k}" for k in range(400)))
    videos.write(source / "train" / "activity 3" / "b.mp4")
    videos.write(source / "train" / "activity 3" / "a.webm", 6, codec="libvpx")
    videos.write_folder(source / "train" / "activity 399" / "frames", 7)
    videos.write(source / "val" / "activity 0" / "c.mp4", 8)
    config = videos.config_for(source, "kinetics/400")
    prepare(config)
    assert contents(config, "train") == {
        "activity 3/a.webm": ([3], 6),
        "activity 3/b.mp4": ([3], 5),
        "activity 399/frames": ([399], 7),
    }
    assert contents(config, "validation") == {"activity 0/c.mp4": ([0], 8)}


BAD_KINETICS_LISTS = {
    "no label": (
        ("0.mp4 1", "1.mp4"),
        r"train.csv, line 2: '1.mp4' has no label; .* a path and a label with ' '",
    ),
    "an empty label": (("0.mp4 ",), r"train.csv, line 1: '0.mp4' has no label"),
    "another separator": (("0.mp4,1",), r"line 1: '0.mp4,1' .*--config.prepare.separator=,"),
    "two labels": (
        ("0.mp4 1 2",),
        r"train.csv, line 1: 2 labels, 1, 2; each video has one label",
    ),
    "a path with a blank": (("air drumming/0.mp4 1",), r"the separator must be in double quotes"),
    "label K": (("0.mp4 1", "", "1.mp4 400"), r"train.csv, line 3: label 400 is out of range"),
    "a negative label": (("0.mp4 -1",), r"train.csv, line 1: label -1 is out of range"),
    "an unknown name": (("0.mp4 archery",), r"line 1: 'archery' is none of the 400 classes"),
    "a video twice": (
        ("0.mp4 1", "1.mp4 2", "0.mp4 1"),
        r"'train' lists 0.mp4 twice \(.*train.csv, line 1 and .*line 3",
    ),
    "nothing": (("", ""), r"split 'train' of train.csv lists no videos"),
}


@pytest.mark.parametrize("what", BAD_KINETICS_LISTS)
def test_a_kinetics_list_is_refused_that_has(source, what):
    lines, message = BAD_KINETICS_LISTS[what]
    videos.write(source / "0.mp4")
    videos.write(source / "1.mp4")
    videos.write_lines(source / "train.csv", *lines)
    refused(videos.config_for(source, "kinetics/400"), message)


def test_kinetics_without_lists_and_folders_says_what_it_looks_for(source):
    message = r"holds neither train.csv, val.csv or test.csv .* nor folders train, val or test"
    refused(videos.config_for(source, "kinetics/400"), message)
    nowhere = r"nowhere is no folder; set --config.prepare.source=DIR to where kinetics lies"
    refused(videos.config_for(source / "nowhere", "kinetics/400"), nowhere)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (("a", "b"), r"classes.txt holds 2 names; Kinetics-400 has 400"),
        ((*map(str, range(400)), "7"), r"classes.txt: '7' occurs more than once"),
    ],
)
def test_names_that_are_not_those_of_kinetics_classes_are_refused(source, lines, message):
    videos.write(source / "0.mp4")
    videos.write_lines(source / "train.csv", "0.mp4 1")
    videos.write_lines(source / "classes.txt", *lines)
    refused(videos.config_for(source, "kinetics/400"), message)


def test_a_few_missing_files_are_named_skipped_and_reported(source, capsys):
    videos.write(source / "0.mp4")
    videos.write(source / "3.mp4")
    lines = [f"{name} 0" for name in ("0.mp4", "gone/1.mp4", "2.mp4", "3.mp4")]
    videos.write_lines(source / "val.csv", *lines)
    config = videos.config_for(source, "kinetics/400", max_broken=0.5)
    prepare(config)
    printed = capsys.readouterr().out
    assert re.search(
        r"2 of 4 videos cannot be read and will be skipped \(2\):\n"
        r" *val.csv, line 2: gone/1.mp4 does not exist\n *val.csv, line 3: 2.mp4 does not",
        printed,
    )
    assert f"skipped {source}/2.mp4: No such file or directory" in printed
    assert re.search(r"2 validation, 10 validation_frames; .* classes.*; 2 videos skipped", printed)
    assert sorted(row["id"] for row in listed(config, "skipped.csv")) == ["2.mp4", "gone/1.mp4"]
    assert [count for _, count in contents(config, "validation").values()] == [5, 5]


def test_more_missing_files_than_allowed_are_refused_at_once(source):
    videos.write(source / "0.mp4")
    lines = [f"{i}.mp4 0" for i in range(10)]
    videos.write_lines(source / "train.csv", *lines)
    message = (
        r"9 of 10 videos cannot be read, more than the share prepare.max_broken=0.5. "
        r".*max_broken=\.\.\. higher \(9\):\n *train.csv, line 2: 1.mp4 does not exist\n"
    )
    refused(videos.config_for(source, "kinetics/400", max_broken=0.5), message)
