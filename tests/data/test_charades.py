"""Charades from its official files."""

import csv
import pathlib

import numpy as np
import pytest

from data.charades.charades_dataset_builder import Builder as Charades
from data.listing.findings import Findings
from data.preparation.prepare import settings_from_config
from mg_jax.input.datasets import open_data_set, open_source, video_table
from mg_jax.tools.prepare import prepare
from tests import videos
from tests.builders import contents, refused


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
    assert table.source_frames.tolist() == lengths

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
        (
            "c157 0.0 1.0",
            r"Charades_v1_train.csv, line 2, video A: c157 is none of the 157 classes",
        ),
        (
            "c001 0.0",
            r"train.csv, line 2, video A: action 'c001 0.0' is not a class, a start and an end",
        ),
        ("c001 zero 1.0", r"video A: action 'c001 zero 1.0' is not a class, a start and an end"),
    ],
)
def test_actions_that_cannot_be_read_are_refused(source, actions, message):
    write_charades(source, {"A": actions}, {"A": ""})
    refused(charades_config(source), message)


def test_other_columns_than_those_of_charades_are_refused(source):
    write_charades(source, {}, {"A": ""})
    videos.write_lines(source / "Charades_v1_train.csv", "video,label", "A,c001")
    refused(charades_config(source), r"train.csv, line 1: no column id, actions, but video, label")


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
    listing = Charades(pathlib.Path(config.data.dir), "", settings_from_config(config)).listing(
        Findings()
    )
    assert [v.path for v in listing.splits["train"]] == [source / "A.avi", source / "B.mp4"]
