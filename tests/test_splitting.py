"""Validation videos that are split off."""

import pathlib

import numpy as np
import pytest

from data.findings import Findings
from data.splitting import split_off
from data.videos import Action, Listing, Video
from mg_jax.datasets import open_data_set
from mg_jax.prepare import prepare
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


@pytest.mark.parametrize("share", [0.1, 0.2, 0.5])
def test_about_the_share_is_split_off_of_each_class(share):
    counts = {f"class{k}": 200 for k in range(10)}
    _, validation = split(listing_of(counts), share)
    deviation = (share * (1 - share)) ** 0.5  # of binomial counts, for one video
    assert len(validation) == pytest.approx(2000 * share, abs=4 * deviation * 2000**0.5)
    for name in counts:
        found = sum(video.startswith(f"{name}/") for video in validation)
        assert found == pytest.approx(200 * share, abs=4 * deviation * 200**0.5)


@pytest.mark.parametrize("share", [0.01, 0.2, 0.99])
def test_classes_of_two_and_more_are_on_both_sides(share):
    counts = {f"class{k}": 2 + k % 3 for k in range(60)} | {"single": 1}
    for side in split(listing_of(counts), share):
        assert {name.split("/")[0] for name in side} - {"single"} == set(counts) - {"single"}


def test_videos_stay_on_their_side_when_others_are_added():
    few, many = (split(listing_of({"a": count, "b": count}), 0.2) for count in (60, 90))
    for before, after in zip(few, many, strict=True):
        assert set(before) <= set(after)
    assert few == split(listing_of({"a": 60, "b": 60}), 0.2)


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
    with pytest.raises(ValueError, match=r"validation_share=0.4.*, not .*validation_share=0.2"):
        prepare(changed(config, validation_share=0.2))
