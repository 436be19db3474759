"""Anybody's videos."""

import pytest

from mg_jax.errors import UserError
from mg_jax.input.datasets import class_names, open_data_set, open_source
from mg_jax.tools.prepare import prepare
from tests import videos
from tests.builders import contents, refused, understood


def test_anybodys_class_folders_are_prepared(source, capsys):
    for split, count in (("train", 5), ("validation", 6), ("more", 7)):
        videos.write(source / split / "run" / "a.mp4", count)
        videos.write(source / split / "jump" / "a.MKV", count + 1)
        videos.write_lines(source / split / "jump" / "notes.txt", "not a video")
    videos.write_folder(source / "train" / "sit" / "b", 9, name="frame_{}.png")
    (source / "train" / ".cache").mkdir()
    config = videos.config_for(source, "video_folder/mine")
    config.model.num_classes = 3
    prepare(config)
    assert open_source(config).classes == ["jump", "run", "sit"]
    assert contents(config, "train") == {
        "jump/a.MKV": ([0], 6),
        "run/a.mp4": ([1], 5),
        "sit/b": ([2], 9),
    }
    assert contents(config, "validation") == {"jump/a.MKV": ([0], 7), "run/a.mp4": ([1], 6)}
    with pytest.raises(UserError, match=r"no split 'more'"):
        contents(config, "more")
    printed = capsys.readouterr().out
    assert "1 folders that are no split: more" in printed
    assert "2 .txt: train/jump/notes.txt, validation/jump/notes.txt" in printed
    assert "train: 3 videos of folder train\n    3 classes with 1 videos each" in printed


def test_videos_of_a_class_folder_may_differ_in_their_extension_alone(source):
    videos.write(source / "train" / "run" / "a.mp4", 5)
    videos.write(source / "train" / "run" / "a.avi", 6, codec="mpeg4")
    config = videos.config_for(source, "video_folder/mine")
    prepare(config)
    assert contents(config, "train") == {"run/a.avi": ([0], 6), "run/a.mp4": ([0], 5)}


LISTS = {
    "names": (("a.mp4,run", "b.mp4,jump"), ["jump", "run"], {"a.mp4": [1], "b.mp4": [0]}),
    "numbers": (("a.mp4,2", "b.mp4,0"), [f"class {k}" for k in range(3)], None),
    "several names": (
        ("a.mp4,run,jump,run", "b.mp4,sit"),
        ["jump", "run", "sit"],
        {"a.mp4": [0, 1], "b.mp4": [2]},
    ),
    "several numbers": (
        ("a.mp4,1,0", "b.mp4, 1"),
        ["class 0", "class 1"],
        {"a.mp4": [0, 1], "b.mp4": [1]},
    ),
}


@pytest.mark.parametrize("what", LISTS)
def test_anybodys_lists_are_prepared_with(source, what):
    lines, classes, labels = LISTS[what]
    labels = labels or {"a.mp4": [2], "b.mp4": [0]}
    videos.write(source / "a.mp4", 5)
    videos.write(source / "b.mp4", 6)
    videos.write_lines(source / "train.csv", *lines)
    videos.write_lines(source / "validation.csv", lines[0])
    config = videos.config_for(source, "video_folder/mine", separator=",")
    config.data.multi_label = what.startswith("several")
    config.model.num_classes = len(classes)
    prepare(config)
    assert open_source(config).classes == classes
    assert contents(config, "train") == {
        "a.mp4": (labels["a.mp4"], 5),
        "b.mp4": (labels["b.mp4"], 6),
    }
    assert contents(config, "validation") == {"a.mp4": (labels["a.mp4"], 5)}


def test_classes_that_no_video_has_are_kept_if_classes_txt_lists_them(source):
    videos.write(source / "a.mp4")
    videos.write_lines(source / "classes.txt", "sit", "run", "", "jump")
    videos.write_lines(source / "train.csv", "a.mp4,run")
    config = videos.config_for(source, "video_folder/mine", separator=",")
    prepare(config)
    assert class_names(open_data_set(config)) == ["sit", "run", "jump"]
    assert contents(config, "train") == {"a.mp4": ([1], 5)}


def test_anybodys_lists_are_refused_with_file_and_line(source):
    videos.write(source / "a.mp4")
    videos.write_lines(source / "classes.txt", "run", "jump")
    videos.write_lines(source / "validation.csv", "a.mp4,run")
    config = videos.config_for(source, "video_folder/mine", separator=",")
    for line, message in (
        ("a.mp4", r"train.csv, line 2: 'a.mp4' has no label; .* with ',' between"),
        ("a.mp4,2", r"train.csv, line 2: label 2 is out of range; there are 2 classes, 0 ... 1"),
        ("a.mp4,run,sit", r"line 2: 2 labels, run, sit; .*--config.data.multi_label=True"),
        ("a.mp4,jump", r"split 'train' lists a.mp4 twice \(.*line 1 and .*line 2"),
    ):
        videos.write_lines(source / "train.csv", "a.mp4,run", line)
        refused(config, message)


def test_folders_that_do_not_do_are_refused(source):
    config = videos.config_for(source, "video_folder/mine")
    refused(config, r"holds neither lists SPLIT.csv .* nor folders SPLIT/CLASS/ with videos")
    videos.write(source / "train" / "a.mp4")
    refused(config, r"source/train holds no videos; they belong into one folder per class")
    videos.write(source / "train" / "run" / "a.mp4")
    videos.write_lines(source / "classes.txt", "jump")
    refused(
        config, r"source/train/run \(1 videos\); each class folder must be one of the 1 classes"
    )
    config.prepare.source = str(source / "nowhere")
    refused(config, r"prepare.source=.*nowhere is no folder; set --config.prepare.source=")


def test_a_list_of_all_videos_that_is_called_otherwise_is_told_its_name(source):
    videos.write_files(source, "a.mp4", "b.mp4")
    config = videos.config_for(source, "video_folder/mine", separator=",")
    videos.write_lines(source / "my_list.csv", "a.mp4,run", "b.mp4,jump")
    refused(config, r"holds my_list.csv .* videos.csv .*--config.prepare.validation_share=0.2")
    videos.write_files(source, "run/a.mp4", "jump/b.mp4")
    assert "class folders say which videos are used, not my_list.csv" in understood(config)
    for name in ("videos.csv", "labels.csv"):
        videos.write_lines(source / name, "a.mp4,run", "b.mp4,jump")
    refused(config, r"labels.csv and \S*videos.csv may each be the list of all videos; keep one")
