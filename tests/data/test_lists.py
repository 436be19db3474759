"""Lists of videos: what their rows and columns mean, and what is wrong with them."""

import shutil

import numpy as np
import pytest

from tests import videos
from tests.builders import labels_of, understood, wrong

KINETICS = "kinetics/400"
MINE = "video_folder/mine"


def mine(source, **prepare):
    """A config for lists with commas."""
    return videos.config_for(source, MINE, separator=",", **prepare)


def write_list(source, *lines, name="train.csv"):
    videos.write_lines(source / name, *lines)
    return source


def test_ten_mistakes_of_a_kinetics_list_are_told_at_once_each_with_its_line(source):
    videos.write_files(source, *(f"{k}.mp4" for k in range(10)), "air drumming/a b.mp4")
    write_list(
        source,
        "0.mp4 0",
        "1.mp4",
        "2.mp4 400",
        "3.mp4 archery",
        "4.mp4 -1",
        "air drumming/a b.mp4 5",
        "../6.mp4 6",
        "7.mp4 7 8",
        "0.mp4 0",
        '"9.mp4 9',
        "10.mp4 10",
    )
    message = wrong(videos.config_for(source, KINETICS))
    assert str(source) in message
    for line, what in (
        (2, "'1.mp4' has no label"),
        (3, "label 400 is out of range"),
        (4, "'archery' is none of the 400 classes"),
        (5, "label -1 is out of range"),
        (6, "'air drumming/a b.mp4' is cut at ' '"),
        (7, "'../6.mp4' is no path in"),
        (8, "2 labels, 7, 8"),
        (10, "a row of several lines"),
    ):
        assert f"train.csv, line {line}: {what}" in message
    assert "lists 0.mp4 twice (train.csv, line 1 and train.csv, line 9)" in message
    assert "double quotes" in message


def test_of_many_mistakes_of_a_kind_ten_are_shown_and_the_others_counted(source):
    videos.write_files(source, "a.mp4")
    write_list(source, *["a.mp4 400"] * 25, "a.mp4 1")
    message = wrong(videos.config_for(source, KINETICS))
    assert message.count("is out of range") == 10
    assert "and 15 more" in message


HEADERS = {
    "known words": ("path,label", "a.mp4,run", "b.mp4,jump"),
    "other words": ("Filename,Class Name", "a.mp4,run", "b.mp4,jump"),
    "other order": ("label,group,video", "run,g,a.mp4", "jump,g,b.mp4"),
    "more columns": ("path,n_frames,fps,label", "a.mp4,5,25,run", "b.mp4,6,25,jump"),
    "ids": ("video_id,class", "a,run", "b,jump"),
    "a table's index": (",path,label", "0,a.mp4,run", "1,b.mp4,jump"),
    "a remark": ("# path,label", "a.mp4,run", "b.mp4,jump"),
}


@pytest.mark.parametrize("what", HEADERS)
def test_a_header_is_no_video_and_its_words_no_class(source, what):
    videos.write_files(source, "a.mp4", "b.mp4")
    printed = understood(mine(write_list(source, *HEADERS[what])))
    assert labels_of(printed) == "'jump', 'run'"
    assert "train: 2 videos" in printed
    if what != "a remark":
        assert "train.csv, line 1: " in printed


@pytest.mark.parametrize(
    "lines",
    [
        ("Datei,Klasse", "a.mp4,run", "b.mp4,jump"),
        ("Datei,Klasse", "a,run", "b,jump"),
        ("Datei,Klasse", "a.mp4,0", "b.mp4,1"),
        ("Jane_01,archery", "a.mp4,run", "b.mp4,jump"),
    ],
)
def test_a_first_line_that_may_be_a_header_or_a_video_is_asked_about(source, lines):
    videos.write_files(source, "a.mp4", "b.mp4")
    message = wrong(mine(write_list(source, *lines)))
    assert f"train.csv, line 1: {lines[0]!r}" in message
    assert "path,label" in message


FIRST_ROWS = {
    "a path that is cut": ("a,b.mp4,run", "'a,b.mp4' is cut at ','"),
    "a suffix": ("gone.mp4,archery", "gone.mp4 does not exist"),
    "a suffix behind the separator": ("go,ne.mp4,archery", "2 labels, ne.mp4, archery"),
    "a class that occurs again": ("Jane_01,run", "Jane_01 does not exist"),
    "a class called as columns are": ("Jane_01,action", "Jane_01 does not exist"),
    "other columns than all others": ("Jane_01,archery,x", "2 labels, archery, x"),
}


@pytest.mark.parametrize("what", FIRST_ROWS)
def test_a_video_in_the_first_line_is_no_header(source, what):
    first, message = FIRST_ROWS[what]
    videos.write_files(source, "a,b.mp4", "c.mp4", "d.mp4", "e.mp4")
    config = mine(write_list(source, first, "c.mp4,run", "d.mp4,jump", "e.mp4,action"))
    found = wrong(config)
    assert "train.csv, line 1: " in found
    assert message in found


def test_a_header_without_paths_or_labels_is_refused(source):
    videos.write_files(source, "a.mp4")
    write_list(source, "label,time_start,time_end", "run,0,5")
    assert "train.csv, line 1: the header label, time_start, time_end has no" in wrong(mine(source))


def test_numbers_are_classes_in_their_order_and_those_without_videos_are_told(source):
    videos.write_files(source, *(f"{k}.mp4" for k in range(12)))
    config = mine(write_list(source, *(f"{k}.mp4,{k}" for k in (0, 1, 2, 10, 11))))
    printed = understood(config)
    assert "classes: 12, numbers in the lists" in printed
    assert "7 of 12 classes have no video in train: class 3, class 4" in printed
    write_list(source, *(f"{k}.mp4,{k}.0" for k in range(1, 12)))
    printed = understood(config)
    assert "the smallest label is 1 (train.csv, line 1), so class 0 has no video" in printed
    assert "1 of 12 classes have no video in train: class 0" in printed


def test_names_and_numbers_do_not_mix(source):
    videos.write_files(source, "a.mp4", "b.mp4", "c.mp4")
    write_list(source, "a.mp4,run", "b.mp4,jump")
    write_list(source, "c.mp4,1", name="validation.csv")
    message = wrong(mine(source))
    assert f"names ('run', {source}/train.csv, line 1)" in message
    assert f"numbers ('1', {source}/validation.csv, line 1)" in message


def test_splits_without_a_class_in_common_are_refused(source):
    videos.write_files(source, "a.mp4", "b.mp4")
    write_list(source, "a.mp4,running")
    write_list(source, "b.mp4,to run", name="validation.csv")
    assert "no class in common: 'running', but 'to run'" in wrong(mine(source))


@pytest.mark.parametrize(
    "other",
    ["Jump rope", "jump  rope", "jump_rope", "jump-rope", "\uff4aump rope", "jump rope\u200b"],
)
def test_classes_that_are_written_nearly_alike_are_refused_unless_a_file_lists_both(source, other):
    videos.write_files(source, "a.mp4", "b.mp4")
    config = mine(write_list(source, "a.mp4,jump rope", f"b.mp4,{other}"))
    message = wrong(config)
    assert "written nearly alike" in message
    assert "line 1: a.mp4" in message
    assert "line 2: b.mp4" in message
    videos.write_lines(source / "classes.txt", "jump rope", other)
    assert "written nearly alike" in understood(config)


def test_names_with_marks_that_matter_are_different(source):
    videos.write_files(source, "a.mp4", "b.mp4", "c.mp4", "d.mp4")
    lines = ("a.mp4,C+", "b.mp4,C", "c.mp4,1.5 m", "d.mp4,e\u0301te")
    printed = understood(mine(write_list(source, *lines)))
    assert labels_of(printed) == "'1.5 m', 'C', 'C+', '\u00e9te'"


def write_frames(source, counts):
    for k, count in enumerate(counts):
        videos.write_files(source, *(f"v{k}/{i}.jpg" for i in range(count)))


@pytest.mark.parametrize("multi_label", [False, True])
def test_numbers_of_images_are_no_labels(source, multi_label):
    """Lists of folders as TSN and MMAction have them."""
    write_frames(source, [3, 4, 5])
    config = videos.config_for(source, MINE, separator=" ")
    config.data.multi_label = multi_label
    printed = understood(write_list(source, "v0 3 0", "v1 4 1", "v2 5 1") and config)
    assert "classes: 2, numbers in the lists" in printed
    assert "second column is the number of images" in printed


@pytest.mark.parametrize("multi_label", [False, True])
def test_numbers_of_frames_beside_labels_are_not_taken_for_labels(source, multi_label):
    names = [f"{k}.mp4" for k in range(8)]
    videos.write_files(source, *names)
    config = videos.config_for(source, MINE, separator=" ")
    config.data.multi_label = multi_label
    write_list(source, *(f"{name} {50 + 7 * k} {k % 2}" for k, name in enumerate(names)))
    message = wrong(config)
    assert "train.csv, line 1" in message
    assert "multi_label=True" not in message
    assert "header that names its columns" in message
    lines = [f"{name} {50 + 7 * k} {k % 2}" for k, name in enumerate(names)]
    write_list(source, "path frames label", *lines)
    assert "classes: 2, numbers in the lists" in understood(config)


def test_several_labels_are_refused_where_videos_have_one(source):
    videos.write_files(source, "a.mp4", "b.mp4")
    config = mine(write_list(source, "a.mp4,run", "b.mp4,run,jump"))
    message = wrong(config)
    assert "train.csv, line 2: 2 labels, run, jump" in message
    assert "--config.data.multi_label=True" in message
    config.data.multi_label = True
    assert "labels: 1 to 2 to a video" in understood(config)


def test_videos_need_no_label_where_labels_are_several(source):
    videos.write_files(source, "a.mp4", "b.mp4")
    config = mine(write_list(source, "a.mp4,run", "b.mp4"))
    assert "train.csv, line 2: 'b.mp4' has no label" in wrong(config)
    config.data.multi_label = True
    assert "1 videos have none" in understood(config)


@pytest.mark.parametrize(
    ("given", "there", "advice"),
    [(" ", ",", "separator=,"), (",", "\t", "separator=$'\\t'"), (",", ";", "separator=';'")],
)
def test_another_separator_is_named(source, given, there, advice):
    videos.write_files(source, "a.mp4", "b.mp4")
    write_list(source, f"a.mp4{there}run", f"b.mp4{there}jump")
    message = wrong(videos.config_for(source, MINE, separator=given))
    assert "train.csv, line 1" in message
    assert f"--config.prepare.{advice}" in message


def test_paths_in_the_second_column_are_told(source):
    videos.write_files(source, "a.mp4", "b.mp4")
    write_list(source, "run,a.mp4", "jump,b.mp4")
    assert "train.csv, line 1: paths are in column 2" in wrong(mine(source))


def test_paths_of_other_systems_are_found(source):
    videos.write_files(source, "x/a.mp4", "caf\u00e9.mp4")
    write_list(source, "x\\a.mp4,run", "cafe\u0301.mp4,run")
    printed = understood(mine(source))
    assert "train.csv, line 1: x\\a.mp4: backslashes are read as slashes" in printed
    assert "line 2" in printed
    assert "cannot be read" not in printed


def test_what_is_no_video_is_counted_with_its_line(source):
    videos.write_files(source, *(f"{k}.mp4" for k in range(6)))
    (source / "empty.mp4").touch()
    (source / "folder").mkdir()
    names = [*(f"{k}.mp4" for k in range(6)), "empty.mp4", "folder", "gone.mp4"]
    config = mine(write_list(source, *(f"{name},run" for name in names)), max_broken=0.4)
    printed = understood(config)
    assert "3 of 9 videos cannot be read and will be skipped" in printed
    assert "train.csv, line 7: empty.mp4 is empty" in printed
    assert "train.csv, line 8: folder is a folder without images" in printed
    assert "train.csv, line 9: gone.mp4 does not exist" in printed
    config.prepare.max_broken = 0.3
    assert "prepare.max_broken=0.3" in wrong(config)


def test_duplicates_are_told_at_once_with_both_lines(source):
    videos.write_files(source, "a.mp4", "b.mp4")
    write_list(source, "a.mp4,run", "b.mp4,run", "./a.mp4,run", f"{source}/b.mp4,run")
    message = wrong(mine(source))
    assert "lists a.mp4 twice (train.csv, line 1 and train.csv, line 3)" in message
    assert "lists b.mp4 twice (train.csv, line 2 and train.csv, line 4)" in message


@pytest.mark.parametrize("kind", ["path", "symlink", "hardlink"])
def test_a_video_of_two_splits_is_told(source, kind):
    videos.write_files(source, "a.mp4", "b.mp4")
    other = {"path": "x/../a.mp4", "symlink": "s.mp4", "hardlink": "h.mp4"}[kind]
    (source / "s.mp4").symlink_to("a.mp4")
    (source / "h.mp4").hardlink_to(source / "a.mp4")
    write_list(source, "a.mp4,run", "b.mp4,jump")
    config = mine(write_list(source, f"{other},run", name="validation.csv"))
    config.data.eval_split = "validation"
    printed = understood(config)
    assert "the same video is in train and validation" in printed
    assert "train.csv, line 1" in printed
    assert "validation.csv, line 1" in printed
    write_list(source, f"{other},jump", name="validation.csv")
    assert "as 'run' and 'jump'; the same video has different labels" in wrong(config)


@pytest.mark.parametrize("copied", ["a.mp4", "frames"])
def test_copies_of_a_video_in_two_splits_are_told(source, copied):
    rng = np.random.default_rng(0)
    for name in ("a.mp4", "b.mp4", "other_end.mp4", "frames/0.jpg", "frames/1.jpg"):
        path = videos.write_files(source, name) / name
        path.write_bytes(rng.bytes(200_000))
    content = (source / "a.mp4").read_bytes()
    (source / "other_end.mp4").write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    copy = shutil.copytree if (source / copied).is_dir() else shutil.copy
    copy(source / copied, source / "copy")
    write_list(source, "a.mp4,run", "b.mp4,jump", "frames,jump")
    label = "run" if copied == "a.mp4" else "jump"
    write_list(source, "other_end.mp4,run", f"copy,{label}", name="validation.csv")
    config = mine(source)
    config.data.eval_split = "validation"
    printed = understood(config)
    line = 1 if copied == "a.mp4" else 3
    assert f"train.csv, line {line}: {copied} and validation.csv, line 2: copy; copies" in printed
    assert printed.count("copies of the same video are in train and validation") == 1


def test_that_no_list_could_be_read_is_said_in_the_summary(source, capsys):
    (source / "train.csv").write_bytes(b"a.mp4,pr\xeat\n")
    wrong(mine(source))
    assert "classes: none, since no label of train.csv could be read" in capsys.readouterr().out


ENCODINGS = {
    "utf-16": ("a.mp4,run\nb.mp4,jump\n".encode("utf-16"), "line 1"),
    "utf-16 without a mark": ("a.mp4,run\nb.mp4,jump\n".encode("utf-16-le"), "line 1"),
    "latin-1": ("a.mp4,run\nb.mp4,fa\u00e7ade\n".encode("latin-1"), "line 2"),
    "zeros": (b"a.mp4,run\nb.mp4,ju\0mp\n", "line 2"),
}


@pytest.mark.parametrize("what", ENCODINGS)
def test_lists_that_are_no_utf8_are_refused_with_the_line(source, what):
    content, line = ENCODINGS[what]
    videos.write_files(source, "a.mp4", "b.mp4")
    (source / "train.csv").write_bytes(content)
    message = wrong(mine(source))
    assert f"train.csv, {line}: " in message
    assert "save it as" in message


def test_names_for_a_split_are_said_and_two_are_refused(source):
    videos.write_files(source, "a.mp4", "b.mp4")
    write_list(source, "a.mp4,run")
    write_list(source, "b.mp4,run", name="val.csv")
    write_list(source, "b.mp4,run", name="old.csv")
    config = mine(source)
    config.data.eval_split = "validation"
    printed = understood(config)
    assert "validation: 1 videos of val.csv" in printed
    assert "1 lists that are no split: old.csv" in printed
    write_list(source, "b.mp4,run", name="valid.csv")
    assert "are both split 'validation'" in wrong(config)


def test_rows_that_are_not_utf8_do_not_hide_what_else_is_wrong(source):
    videos.write_files(source, "a.mp4", "b.mp4")
    content = "a.mp4,run\nb.mp4,prêt\ngone.mp4,run\nb.mp4\n".encode("latin-1")
    (source / "train.csv").write_bytes(content)
    message = wrong(mine(source))
    for line, what in ((2, "'b.mp4,prêt' is not UTF-8"), (3, "gone.mp4 does not exist")):
        assert f"train.csv, line {line}: {what}" in message
    assert "train.csv, line 4: 'b.mp4' has no label" in message


def test_a_spreadsheet_is_told_from_a_list(source):
    (source / "train.csv").write_bytes(b"PK\x03\x04\x14\0\0\0")
    assert "train.csv, line 1: a zip file, such as Excel's" in wrong(mine(source))


def test_a_share_of_an_empty_list_is_not_advised_again(source):
    write_list(source, "path,label", name="videos.csv")
    message = wrong(mine(source, validation_share=0.2))
    assert "videos.csv lists no videos" in message
    assert "--config.prepare.validation_share" not in message


@pytest.mark.parametrize("name", ["..", "/elsewhere", "a/b", "."])
def test_names_of_data_sets_lead_nowhere_else(source, name):
    config = videos.config_for(source, f"video_folder/{name}")
    assert f"data.name='video_folder/{name}' must be video_folder/" in wrong(config)
