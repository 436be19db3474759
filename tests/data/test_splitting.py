"""Validation videos that are split off."""

import itertools
import pathlib

import numpy as np
import pytest

from data.listing.findings import Findings
from data.listing.splitting import split_off
from data.listing.videos import Action, Listing, Video
from mg_jax.errors import UserError
from mg_jax.input.datasets import open_data_set
from mg_jax.tools.prepare import prepare
from tests import videos
from tests.builders import contents, understood
from tests.preparations import changed


def listing_of(counts, groups=None):
    """As many videos of each class as `counts` says; `groups` names those of the videos."""
    ids = [f"{name}/{i:03d}.mp4" for name, count in counts.items() for i in range(count)]
    labels = np.repeat(np.arange(len(counts)), list(counts.values()))
    groups = groups or [""] * len(ids)
    videos_of = [
        Video(name, pathlib.Path(name), (Action(int(label)),), group=group)
        for name, label, group in zip(ids, labels, groups, strict=True)
    ]
    return Listing(list(counts), {"train": videos_of})


def split(listing, share, pattern=""):
    """Ids of both sides."""
    splits = split_off(listing, "train", "validation", share, pattern, Findings()).splits
    sides = [[video.id for video in splits[name]] for name in ("train", "validation")]
    assert sorted(sides[0] + sides[1]) == sorted(video.id for video in listing.splits["train"])
    return sides


@pytest.mark.parametrize(
    ("share", "expected"),
    [
        # Of 200, 16, 10, 4, 2 and 1 videos.
        (0.01, [2, 1, 1, 1, 1, 0]),
        (0.2, [40, 3, 2, 1, 1, 0]),
        (0.45, [90, 7, 4, 2, 1, 0]),
        (0.99, [198, 15, 9, 3, 1, 0]),
    ],
)
def test_the_share_of_each_class_is_split_off(share, expected):
    counts = dict(zip("abcdef", (200, 16, 10, 4, 2, 1), strict=True))
    _, validation = split(listing_of(counts), share)
    assert [sum(name.startswith(f"{c}/") for name in validation) for c in counts] == expected


def test_of_videos_with_several_labels_little_more_than_the_share_is_split_off():
    rng = np.random.default_rng(0)
    weights = 1 / np.arange(1, 51)
    labels = [rng.choice(50, 5, p=weights / weights.sum()) for _ in range(600)]
    listing = Listing([f"class {k}" for k in range(50)], {"train": several_labels(labels)})
    _, validation = split(listing, 0.2)
    assert 120 <= len(validation) <= 135


def several_labels(labels):
    """A video with each set of labels, each a group of its own."""
    return [
        Video(f"{i}.mp4", pathlib.Path(f"{i}.mp4"), tuple(map(Action, sorted(set(of_video)))))
        for i, of_video in enumerate(labels)
    ]


def one_sided(labels, chosen):
    """Classes of two videos and more that are all in `chosen`, or all not."""
    return [
        k
        for k in range(5)
        if len(of_class := {i for i, of_video in enumerate(labels) if k in of_video}) > 1
        and (of_class <= chosen or not of_class & chosen)
    ]


def test_no_class_loses_a_side_to_another_and_where_that_is_impossible_it_is_said():
    told = 0
    for seed in range(100):
        rng = np.random.default_rng(seed)
        labels = [rng.choice(5, rng.integers(1, 4), replace=False) for _ in range(6)]
        listing = Listing([f"class {k}" for k in range(5)], {"train": several_labels(labels)})
        findings = Findings()
        splits = split_off(listing, "train", "validation", 0.2, "", findings).splits
        left = one_sided(labels, {int(video.id[:-4]) for video in splits["validation"]})
        possible = itertools.product([False, True], repeat=6)
        fewest = min(len(one_sided(labels, set(np.flatnonzero(side)))) for side in possible)
        assert len(left) == fewest
        notices = [text for texts in findings.notices.values() for text in texts]
        assert [text.partition(" (")[0] for text in notices] == [f"'class {k}'" for k in left]
        told += len(left)
    assert told


@pytest.mark.parametrize("share", [0.01, 0.2, 0.99])
def test_classes_of_two_and_more_are_on_both_sides(share):
    counts = {f"class{k}": 2 + k % 3 for k in range(60)} | {"single": 1}
    for side in split(listing_of(counts), share):
        assert {name.split("/")[0] for name in side} - {"single"} == set(counts) - {"single"}


def test_few_videos_change_sides_when_others_are_added():
    few, one_more, many = (
        split(listing_of({"a": count, "b": count}), 0.2)[1] for count in (60, 61, 90)
    )
    assert few == split(listing_of({"a": 60, "b": 60}), 0.2)[1]
    assert len(set(few) - set(one_more)) <= 2  # one of each class
    # By chance 80 % of the 24 would be others.
    assert len(set(few) - set(many)) <= 6


@pytest.mark.parametrize("by", ["column", "pattern"])
def test_groups_are_not_torn_apart(by):
    groups = [f"s{i % 12}" for i in range(240)]
    listing = listing_of({"a": 120, "b": 120}, groups if by == "column" else None)
    # In each class the videos 000 ... 119 are of groups by the last digit, ten of them.
    sides = split(listing, 0.25, r"(\d)\.mp4$" if by == "pattern" else "")
    group_of = {v.id: v.group or v.id[-5] for v in listing.splits["train"]}
    train, validation = ({group_of[name] for name in side} for side in sides)
    assert not train & validation
    assert len(train | validation) == (12 if by == "column" else 10)


def test_an_unsplit_list_is_split_and_prepared(source):
    names = [f"{k}.mp4" for k in range(12)]
    for k, name in enumerate(names):
        videos.write(source / name, 3 + k)
    rows = [f"{name},{'run' if k % 2 else 'jump'},p{k // 3}" for k, name in enumerate(names)]
    videos.write_lines(source / "videos.csv", "path,label,subject", *rows)
    config = videos.config_for(source, "video_folder/mine", separator=",", validation_share=0.4)
    config.data.eval_split = "validation"
    printed = understood(config)
    assert "of videos.csv, a share of 0.4" in printed
    assert "4 groups kept together" in printed
    prepare(config)
    sides = [contents(config, name) for name in ("train", "validation")]
    assert sorted([*sides[0], *sides[1]]) == sorted(names)
    groups = [{int(name[:-4]) // 3 for name in side} for side in sides]
    assert not groups[0] & groups[1]
    for side in sides:
        assert all(side[name] == ([int(name[:-4]) % 2], 3 + int(name[:-4])) for name in side)
    assert open_data_set(config).info.metadata["validation_share"] == 0.4
    with pytest.raises(UserError, match=r"validation_share=0.4.*, not .*validation_share=0.2"):
        prepare(changed(config, validation_share=0.2))


def test_shares_that_leave_nothing_to_validate_on_say_why():
    for listing, pattern, reason in (
        (listing_of({"a": 1, "b": 1}), "", "no class has two videos, or two groups"),
        (listing_of({"a": 3, "b": 3}), "([ab])/", "no class has two videos, or two groups"),
        (
            listing_of({"a": 3, "b": 3}),
            "subject([0-9]+)",
            "matches none of 6 paths, such as a/",
        ),
    ):
        findings = Findings()
        split_off(listing, "train", "validation", 0.2, pattern, findings)
        (errors,) = findings.errors.values()
        assert reason in errors[0]
