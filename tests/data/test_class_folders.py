"""Class folders with and without splits: what is found in them, and what is left out."""

import os

import pytest

from tests import videos
from tests.builders import labels_of, understood, wrong

MINE = "video_folder/mine"


def test_folders_that_are_numbers_are_classes_in_their_order(source):
    videos.write_files(source / "train", *(f"{k}/a.mp4" for k in (0, 1, 2, 10, 11)))
    printed = understood(videos.config_for(source, MINE))
    assert labels_of(printed) == "'0', '1', '2', '10', '11'"


@pytest.mark.parametrize(
    "suffix", [".ts", ".M2TS", ".3gp", ".gif", ".vob", ".MXF", ".f4v", ".WebM"]
)
def test_whatever_ffmpeg_reads_is_a_video(source, suffix):
    videos.write_files(source / "train", f"run/a{suffix}")
    assert "train: 1 videos" in understood(videos.config_for(source, MINE))


def test_what_is_left_out_is_counted_by_suffix_and_lost_classes_are_named(source):
    videos.write_files(source / "train" / "run", "a.mp4", "notes.txt", "b.abc", "noend", "p.jpg")
    videos.write_files(source / "train" / "run", ".DS_Store", "Thumbs.db", "._a.mp4")
    videos.write_files(source / "train" / "jump", "a.abc", "b.abc")
    videos.write_files(source / "train" / "sit" / "deep", "a.mp4")
    videos.write_files(source / "other" / "run", "a.mp4")
    videos.write_files(source, "loose.mp4", "train/loose.avi", "README.md")
    printed = understood(videos.config_for(source, MINE))
    assert labels_of(printed) == "'run', 'sit'"
    assert "train: 2 videos" in printed
    for line in (
        "3 .abc: train/",
        "1 .txt: train/run/notes.txt",
        "1 no suffix: train/run/noend",
        "1 images that lie in no folder of their own: train/run/p.jpg",
        "1 hidden: train/run/._a.mp4",
        "2 videos that lie in no class folder: loose.mp4, train/loose.avi",
        "1 .md: README.md",
        "1 folders that are no split: other",
        "train/jump (2 other files); folders without videos, which are no class",
    ):
        assert line in printed
    assert "Thumbs.db" not in printed
    assert "DS_Store" not in printed


def test_links_that_lead_back_up_end(source):
    videos.write_files(source / "train" / "run", "a.mp4", "deep/b.mp4")
    (source / "train" / "run" / "deep" / "up").symlink_to("..")
    assert "train: 2 videos" in understood(videos.config_for(source, MINE))


@pytest.mark.parametrize("name", [b"caf\xe9.mp4", b"caf\xe9/a.mp4"])
@pytest.mark.parametrize("share", [0.0, 0.5])
def test_names_that_are_not_utf8_are_refused_in_print(source, name, share):
    videos.write_files(source / "train" / "run", "a.mp4", "b.mp4")
    path = os.path.join(os.fsencode(source), b"train/run", name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        file.write(b"x")
    config = videos.config_for(source, MINE, validation_share=share)
    config.data.eval_split = "validation" if share else "train"
    message = wrong(config)
    assert "caf\\xe9" in message
    assert "must be UTF-8" in message
    message.encode()


def test_accents_may_be_encoded_in_two_ways(source):
    videos.write_files(source / "train", "\u00e9t\u00e9/a.mp4")
    videos.write_files(source / "validation", "e\u0301te\u0301/b.mp4")
    printed = understood(videos.config_for(source, MINE))
    assert labels_of(printed) == "'\u00e9t\u00e9'"
    assert "validation: 1 videos" in printed


def test_videos_beside_class_folders_without_splits_are_counted(source):
    videos.write_files(source, "run/a.mp4", "jump/a.mp4", "loose.mp4", "loose.png", ".x.mp4")
    videos.write_lines(source / "classes.txt", "run", "jump")
    printed = understood(videos.config_for(source, MINE))
    assert "train: 2 videos" in printed
    assert "1 videos that lie in no class folder: loose.mp4" in printed
    assert "1 images that lie in no class folder: loose.png" in printed
    assert printed.count("classes.txt") == 1  # where the classes are from


@pytest.mark.parametrize("other", ["cafe\u0301", "caf\u00e9 "])
def test_folders_of_the_same_class_are_taken_together_and_named(source, other):
    videos.write_files(source / "train", "caf\u00e9/a.mp4", f"{other}/a.mp4", f"{other}/b.mp4")
    printed = understood(videos.config_for(source, MINE))
    assert labels_of(printed) == "'caf\u00e9'"
    assert "train: 3 videos" in printed
    assert "'train/caf\u00e9'" in printed
    assert f"'train/{other}'" in printed
    assert "folders of one class" in printed


def test_classes_of_one_split_only_are_told(source):
    videos.write_files(source / "train", "run/a.mp4", "jump/a.mp4")
    videos.write_files(source / "val", "run/b.mp4", "sit/b.mp4")
    printed = understood(videos.config_for(source, MINE))
    assert "1 of 3 classes have no video in train: sit" in printed
    assert "1 of 3 classes have no video in validation: jump" in printed
    assert "validation: 2 videos of folder val" in printed


def test_folders_written_nearly_alike_are_refused(source):
    videos.write_files(source / "train", "Jump/a.mp4", "jump/b.mp4", "jump_/c.mp4")
    message = wrong(videos.config_for(source, MINE))
    assert "written nearly alike" in message
    for name in ("Jump/a.mp4", "jump/b.mp4", "jump_/c.mp4"):
        assert name in message


def test_unsplit_folders_ask_for_a_share(source):
    videos.write_files(source, *(f"{name}/{k}.mp4" for name in ("run", "train") for k in range(5)))
    config = videos.config_for(source, MINE)
    config.data.eval_split = "validation"
    message = wrong(config)
    assert "no split 'validation'" in message
    assert "--config.prepare.validation_share=0.2" in message
    printed = understood(config, validation_share=0.4)
    assert labels_of(printed) == "'run', 'train'"
    assert "a share of 0.4 (prepare.validation_share)" in printed


def test_lists_go_before_folders_and_that_is_said(source):
    videos.write_files(source, "train/run/a.mp4", "train/run/b.mp4")
    videos.write_lines(source / "train.csv", "train/run/a.mp4 run")
    printed = understood(videos.config_for(source, MINE))
    assert "train: 1 videos of train.csv" in printed
    assert "the lists say which videos are used" in printed
