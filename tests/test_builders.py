"""Videos as people have them, with the lists they come with; data sets as runs read them, out."""

import csv
import json
import pathlib
import re

import numpy as np
import pytest
import tensorflow_datasets as tfds

from data.charades.charades_dataset_builder import Builder as Charades
from data.kinetics.kinetics_dataset_builder import Builder as Kinetics
from data.preparation import settings_from_config
from mg_jax.datasets import (
    class_names,
    frame_records,
    open_data_set,
    open_source,
    prepare,
    video_table,
)
from tests import videos


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "source"
    folder.mkdir()
    return folder


def contents(config, split):
    """By video: its labels and how many frames are stored; they are the video's, in order."""
    data_set = open_data_set(config)
    table, frames = video_table(data_set, split), frame_records(data_set, split)
    found = {}
    for row, (name, first, count) in enumerate(
        zip(table.ids.tolist(), table.first_frame, table.num_frames, strict=True)
    ):
        assert videos.numbers(frames.jpegs(first + np.arange(count))) == list(range(count))
        found[name] = (np.flatnonzero(table.labels(np.array([row]))[0]).tolist(), int(count))
    return found


def refused(config, message):
    """Preparing ends with the message and leaves nothing behind."""
    with pytest.raises(ValueError, match=message):
        prepare(config)
    assert not pathlib.Path(config.data.dir).exists()


# Kinetics


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
    videos.write_lines(source / "val.csv", f"{elsewhere}/9.mp4 4")
    config = videos.config_for(source, "kinetics/400", videos=str(elsewhere))
    prepare(config)
    assert contents(config, "train") == {"9.mp4": ([3], 5)}
    assert contents(config, "validation") == {"9.mp4": ([4], 5)}


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
    settings = settings_from_config(config.prepare)
    return Kinetics(pathlib.Path(config.data.dir), variant, settings).listing()


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
    with pytest.raises(ValueError, match=rf"hold {count + 1} class folders; Kinetics-{count} has"):
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
    "no label": (("0.mp4 1", "1.mp4"), r"train.csv, line 2: '1.mp4' is no path and label"),
    "an empty label": (("0.mp4 ",), r"train.csv, line 1: '0.mp4 ' is no path and label with ' '"),
    "another separator": (("0.mp4,1",), r"--config.prepare.separator=\.\.\. sets another"),
    "two labels": (
        ("0.mp4 1 2",),
        r"train.csv, line 1: 2 labels; a Kinetics video has one. A path",
    ),
    "a path with a blank": (("air drumming/0.mp4 1",), r"the separator must be in double quotes"),
    "label K": (("0.mp4 1", "", "1.mp4 400"), r"train.csv, line 3: label 400 is out of range"),
    "a negative label": (("0.mp4 -1",), r"train.csv, line 1: '-1' is none of the 400 classes"),
    "an unknown name": (("0.mp4 archery",), r"line 1: 'archery' is none of the 400 classes"),
    "a video twice": (("0.mp4 1", "1.mp4 2", "0.mp4 1"), r"'train' of .* lists 0.mp4 twice"),
    "nothing": (("", ""), r"split 'train' of .*source lists no videos"),
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
    refused(videos.config_for(source / "nowhere", "kinetics/400"), message)


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


# Files that are not there


def test_a_few_missing_files_are_named_skipped_and_reported(source, capsys):
    videos.write(source / "0.mp4")
    videos.write(source / "3.mp4")
    lines = [f"{name} 0" for name in ("0.mp4", "gone/1.mp4", "2.mp4", "3.mp4")]
    videos.write_lines(source / "val.csv", *lines)
    config = videos.config_for(source, "kinetics/400", max_broken=0.5)
    prepare(config)
    printed = capsys.readouterr().out
    assert f"2 of 4 files do not exist: {source}/gone/1.mp4, {source}/2.mp4" in printed
    assert f"skipped {source}/2.mp4: No such file or directory" in printed
    assert re.search(r"2 validation, 10 validation_frames; .* classes.*; 2 videos skipped", printed)
    assert sorted(skipped(config)) == ["2.mp4", "gone/1.mp4"]
    assert [count for _, count in contents(config, "validation").values()] == [5, 5]


def skipped(config):
    """The rows of skipped.csv by id."""
    with (pathlib.Path(open_data_set(config).data_path) / "skipped.csv").open(newline="") as file:
        return {row["id"]: row for row in csv.DictReader(file)}


def test_more_missing_files_than_allowed_are_refused_at_once(source):
    videos.write(source / "0.mp4")
    lines = [f"{i}.mp4 0" for i in range(10)]
    videos.write_lines(source / "train.csv", *lines)
    message = (
        r"9 of 10 videos cannot be read, more than the share prepare.max_broken=0.5; "
        r".*/1.mp4, .*/2.mp4, .*/3.mp4 ... do not exist"
    )
    refused(videos.config_for(source, "kinetics/400", max_broken=0.5), message)


# Something-Something V2


TEMPLATES = ["Holding something", "Pushing something from left to right", "Turning something"]


def write_ssv2(source, train, validation, labels=None):
    """The official files: templates of the videos by id."""
    labels = {name: str(k) for k, name in enumerate(TEMPLATES)} if labels is None else labels
    write_json(source, "labels", labels)
    for split, entries in (("train", train), ("validation", validation)):
        write_json(
            source,
            split,
            [
                {
                    "id": name,
                    "label": template.replace("[something]", "a cup"),
                    "template": template,
                    "placeholders": ["a cup"],
                }
                for name, template in entries.items()
            ],
        )


def write_json(source, name, content):
    (source / f"something-something-v2-{name}.json").write_text(json.dumps(content))


def test_ssv2_is_prepared_from_the_official_files(source):
    videos.write(source / "clips" / "101.webm", 5, fps=12, codec="libvpx-vp9")
    videos.write(source / "clips" / "102.webm", 6, fps=12, codec="libvpx")
    videos.write_folder(source / "clips" / "103", 12, name="{}.jpg")
    videos.write(source / "clips" / "104.mp4", 8, fps=12)
    write_ssv2(
        source,
        {"102": "Pushing [something] from left to right", "101": "Holding [something]"},
        {"103": "Turning [something]", "104": "Holding [something]"},
    )
    config = videos.config_for(source, "ssv2", videos="clips")
    config.model.num_classes = 3
    prepare(config)
    assert contents(config, "train") == {"102": ([1], 6), "101": ([0], 5)}
    assert contents(config, "validation") == {"103": ([2], 12), "104": ([0], 8)}
    assert open_source(config).classes == TEMPLATES
    frames = open_data_set(config).as_data_source("validation")
    assert [video["fps"] for video in frames] == [12, 12]


def test_ssv2_classes_have_the_numbers_of_the_official_file(source):
    videos.write_folder(source / "1", 3)
    templates = {"1": "Turning [something]"}
    labels = {"Turning something": "0", "Holding something": "2", "Waving something": "1"}
    write_ssv2(source, templates, templates, labels)
    config = videos.config_for(source, "ssv2")
    prepare(config)
    assert contents(config, "train") == {"1": ([0], 3)}
    names = ["Turning something", "Waving something", "Holding something"]
    assert class_names(open_data_set(config)) == names


@pytest.mark.parametrize("name", ["labels", "train", "validation"])
def test_each_file_of_ssv2_is_required(source, name):
    write_ssv2(source, {"1": "Turning [something]"}, {"1": "Turning [something]"})
    videos.write_folder(source / "1", 3)
    (source / f"something-something-v2-{name}.json").unlink()
    message = rf"something-something-v2-{name}.json is missing: the official .*prepare.source"
    refused(videos.config_for(source, "ssv2"), message)


def test_bad_files_of_ssv2_are_refused(source):
    videos.write_folder(source / "1", 3)
    good = {"1": "Turning [something]"}
    config = videos.config_for(source, "ssv2")
    write_ssv2(source, good, {"1": "Eating [something]"})
    message = r"validation.json: the template of video 1, 'Eating something', is none of the 3 lab"
    refused(config, message)
    write_ssv2(source, good, good, {"Turning something": "0", "Holding something": "2"})
    refused(config, r"labels.json: labels must be numbered 0 ... 1, each once")
    write_ssv2(source, good, {})
    refused(config, r"split 'validation' of .*source lists no videos")
    (source / "something-something-v2-train.json").write_text("id,template\n")
    refused(config, r"train.json cannot be read: Expecting value")
    write_json(source, "train", [{"id": "1", "template": good["1"]}] * 2)
    refused(config, r"split 'train' of .*source lists 1 twice")


def test_ssv2_says_where_it_looked_for_videos(source):
    write_ssv2(source, {"1": "Turning [something]"}, {"2": "Turning [something]"})
    config = videos.config_for(source, "ssv2", videos="clips")
    refused(config, r"there is no folder .*source/clips; .*--config.prepare.videos=")
    (source / "clips").mkdir()
    refused(config, r"2 of 2 videos cannot be read, .*source/clips/1.webm, .*source/clips/2.webm")


# Charades


def write_charades(source, train, test):
    """The official files: actions of the videos by id."""
    names = [f"c{k:03d} Doing something, number {k}" for k in range(157)]
    videos.write_lines(source / "Charades_v1_classes.txt", *names)
    for split, entries in (("train", train), ("test", test)):
        with (source / f"Charades_v1_{split}.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["id", "subject", "scene", "script", "actions", "length"])
            for name, actions in entries.items():
                writer.writerow([name, "HR43", "Kitchen", "Eats, then\nleaves.", actions, "30.96"])


def charades_config(source, **prepare):
    config = videos.config_for(source, "charades", **prepare)
    config.data.eval_split = "test"
    config.data.multi_label = True
    return config


def test_charades_is_prepared_from_the_official_files(source):
    videos.write(source / "Charades_v1_480" / "46GP8.mp4", 20)
    videos.write_folder(source / "Charades_v1_480" / "N11GT", 24, name="N11GT-{:06d}.jpg")
    train = {"46GP8": "c092 0.20 0.32;c147 0.00 12.60;c092 0.60 0.70"}
    write_charades(source, train, {"N11GT": "c156 0.50 0.75;c000 0.00 0.10"})
    config = charades_config(source, videos="Charades_v1_480")
    config.model.num_classes = 157
    prepare(config)
    assert contents(config, "train") == {"46GP8": ([92, 147], 20)}
    assert contents(config, "test") == {"N11GT": ([0, 156], 24)}
    source = open_source(config)
    assert source.classes[156] == "Doing something, number 156"
    # 0.20 s is frame 5 of 25 a second, 0.32 s is frame 8; 0.5 s is frame 12 of 24 a second.
    actions = source.train.videos.actions
    assert actions.start.tolist() == [5, 0, 15]
    assert actions.end.tolist() == [9, 20, 18]
    assert source.evaluation.videos.actions.start.tolist() == [12, 0]
    assert source.evaluation.videos.actions.end.tolist() == [19, 3]


def random_actions(rng, length, fps):
    """Up to five actions of a frame or more, some of which outlast the video; class, start, end."""
    starts = rng.uniform(0, length, rng.integers(6)).round(2)
    ends = (starts + rng.uniform(1.1 / fps, length, len(starts))).round(2)
    return [*zip(rng.integers(0, 8, len(starts)).tolist(), starts, ends, strict=True)]


@pytest.mark.parametrize(("kind", "fps"), [("video", 25), ("video", 30), ("folder", 24)])
@pytest.mark.parametrize("frame_step", [1, 3])
def test_clips_carry_the_labels_of_their_frames_and_videos_all(source, kind, fps, frame_step):
    rng = np.random.default_rng(fps)
    lengths = rng.integers(4, 24, 12).tolist()
    actions = [random_actions(rng, length / fps, fps) for length in lengths]
    for i, length in enumerate(lengths):
        if kind == "video":
            videos.write(source / f"{i}.mp4", length, fps=fps, codec="mpeg4")
        else:
            videos.write_folder(source / str(i), length)
    texts = [";".join(f"c{k:03d} {start} {end}" for k, start, end in a) for a in actions]
    write_charades(source, dict(enumerate(texts)), {"0": "c000 0.0 1.0"})
    config = charades_config(source, frame_step=frame_step)
    prepare(config)
    table = video_table(open_data_set(config), "train")
    assert table.num_frames.tolist() == lengths

    frame_labels = [
        [{k for k, start, end in a if start <= i / fps <= end} for i in range(length)]
        for a, length in zip(actions, lengths, strict=True)
    ]
    rows = rng.integers(0, len(lengths), 300)
    # Some begin before the start or end past the end, where the first or last frame is repeated.
    ends = [np.sort(rng.integers(-3, lengths[row] + 9, 2)) for row in rows]
    clips = rng.permuted([np.linspace(*pair, 4).astype(int) for pair in ends], axis=1)
    within, anywhere = table.labels_within(rows, clips), table.labels(rows)
    assert within.shape == anywhere.shape == (300, 157)
    for b, row in enumerate(rows):
        frames = np.clip(clips[b], 0, lengths[row] - 1)
        span = frame_labels[row][frames.min() : frames.max() + 1]
        assert set(np.flatnonzero(within[b])) == set().union(*span)
        assert set(np.flatnonzero(anywhere[b])) == {k for k, *_ in actions[row]}
    assert within.sum() < anywhere.sum()


def test_each_file_of_charades_is_required(source):
    videos.write_folder(source / "A")
    for name in ("Charades_v1_train.csv", "Charades_v1_test.csv", "Charades_v1_classes.txt"):
        write_charades(source, {"A": ""}, {"A": ""})
        (source / name).unlink()
        refused(charades_config(source), rf"{name} is missing: an official file of")


@pytest.mark.parametrize(
    ("actions", "message"),
    [
        ("c157 0.0 1.0", r"Charades_v1_train.csv, video A: c157 is none of the 157 classes"),
        ("c001 0.0", r"train.csv, video A: action 'c001 0.0' is not a class, a start and an end"),
        ("c001 zero 1.0", r"video A: action 'c001 zero 1.0' is not a class, a start and an end"),
    ],
)
def test_actions_that_cannot_be_read_are_refused(source, actions, message):
    write_charades(source, {"A": actions}, {"A": ""})
    refused(charades_config(source), message)


def test_other_columns_than_those_of_charades_are_refused(source):
    write_charades(source, {}, {"A": ""})
    videos.write_lines(source / "Charades_v1_train.csv", "video,label", "A,c001")
    refused(charades_config(source), r"train.csv has no column id, actions, but")


def test_videos_without_actions_are_kept(source):
    videos.write(source / "A.mp4")
    write_charades(source, {"A": ""}, {"A": ""})
    config = charades_config(source)
    prepare(config)
    assert contents(config, "train") == {"A": ([], 5)}


def test_charades_lists_videos_of_any_container_and_names_those_missing_as_mp4(source):
    write_charades(source, {"A": "", "B": ""}, {"A": ""})
    (source / "A.avi").touch()
    config = charades_config(source)
    listing = Charades(
        pathlib.Path(config.data.dir), "", settings_from_config(config.prepare)
    ).listing()
    assert [v.path for v in listing.splits["train"]] == [source / "A.avi", source / "B.mp4"]


# Anybody's videos


def test_anybodys_class_folders_are_prepared(source):
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
    assert contents(config, "more") == {"jump/a.MKV": ([0], 8), "run/a.mp4": ([1], 7)}


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
        ("a.mp4", r"train.csv, line 2: 'a.mp4' is no path and label with ',' between"),
        ("a.mp4,2", r"train.csv, line 2: label 2 is out of range; there are 2 classes, 0 ... 1"),
        ("a.mp4,run,sit", r"train.csv, line 2: 'sit' is none of the 2 classes, such as 'run'"),
        ("a.mp4,jump", r"split 'train' of .* lists a.mp4 twice"),
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
    refused(config, r"source/train: 1 folders are none of the 1 classes: run")
    config.prepare.source = str(source / "nowhere")
    refused(config, r"prepare.source=.*nowhere is no folder; set --config.prepare.source=")


# All data sets


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
    assert metadata == {"short_side": 30, "quality": 90, "frame_step": 1, "skipped": 0}


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
    with pytest.raises(ValueError, match=message):
        prepare(config)


def test_a_data_set_of_another_version_is_named(tmp_path):
    videos.write(tmp_path / "source" / "train" / "run" / "a.mp4")
    config = videos.config_for(tmp_path / "source", "video_folder/mine")
    prepare(config)
    folder = pathlib.Path(open_data_set(config).data_path)
    folder.rename(folder.with_name("1.0.0"))
    message = r"mine was prepared by version 1.0.0 of the format; this mg_jax reads 2.0.0"
    with pytest.raises(ValueError, match=message):
        open_data_set(config)
    prepare(config)  # beside the old one
    assert contents(config, "train") == {"run/a.mp4": ([0], 5)}


def test_splits_that_a_run_needs_are_asked_for_at_once(source):
    videos.write(source / "train" / "run" / "a.mp4")
    config = videos.config_for(source, "video_folder/mine")
    config.data.eval_split = "validation"
    refused(config, r"source has no split 'validation', only train; add it, or name another by")
    config.data.eval_split, config.data.train_split = "train", "more"
    refused(config, r"source has no split 'more', only train; .* --config.data.train_split or")


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
    ],
)
def test_settings_are_checked(source, name, value, message):
    videos.write(source / "train" / "run" / "a.mp4")
    videos.write_lines(source / "train.csv", "train/run/a.mp4 run")
    refused(videos.config_for(source, "video_folder/mine", **{name: value}), message)
