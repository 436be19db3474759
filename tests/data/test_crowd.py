"""Moving shapes with more classes and distractors."""

import dataclasses
import itertools

import numpy as np
import pytest

from configs.demo import get_config
from data.moving_shapes import drawing
from data.moving_shapes import moving_shapes_dataset_builder as moving_shapes
from mg_jax.errors import UserError
from mg_jax.input.datasets import class_names, open_data_set, video_table
from mg_jax.tools.prepare import prepare


def images(monkeypatch, motion, seed, scene):
    """The frames of a video before they are encoded."""
    drawn = []
    monkeypatch.setattr(drawing, "encode", lambda path, images, codec, fps: drawn.extend(images))
    drawing.draw_video(None, motion, np.random.default_rng(seed), scene)
    return [np.asarray(image, int) for image in drawn]


def difference(before, after):
    """Pixels in which two frames differ."""
    return np.abs(after - before).max(-1) > 8


@pytest.mark.parametrize("name", drawing.EIGHT_MOTIONS)
def test_shapes_move_in_the_direction_of_their_class(monkeypatch, name):
    motion = np.array(drawing.EIGHT_MOTIONS[name])
    assert np.hypot(*motion) == pytest.approx(1)
    found = []
    for seed in range(12):
        frames = images(monkeypatch, motion, seed, drawing.Scene(shapes=1))
        # What changes from frame to frame is where the shape is now and where it was.
        centres = [
            np.argwhere(difference(a, b)).mean(0)[::-1]
            for a, b in itertools.pairwise(frames)
            if difference(a, b).any()
        ]
        steps = np.diff(centres, axis=0)
        found.append(np.median(steps, axis=0))  # it leaves and comes back now and then
    mean = np.mean(found, axis=0)
    assert np.dot(mean, motion) / np.hypot(*mean) > 0.95


def test_distractors_move_on_their_own_and_change_nothing_else(monkeypatch):
    motion, scene = drawing.MOTIONS["left"], drawing.Scene(distractors=3)
    plain = images(monkeypatch, motion, 0, drawing.THREE_SHAPES)
    crowded = images(monkeypatch, motion, 0, scene)
    assert len(plain) == len(crowded)
    there = [difference(a, b) for a, b in zip(plain, crowded, strict=True)]
    assert all(mask.any() for mask in there)
    assert (there[0] != there[-1]).any()
    # The shapes lie in front: together the distractors cover less than a third.
    assert np.mean(there) < 1 / 3


def test_the_crowd_has_eight_classes(tmp_path, monkeypatch):
    few = {"train": 16, "validation": 8}
    crowd = dataclasses.replace(moving_shapes.VARIANTS["crowd1"], videos=few)
    monkeypatch.setitem(moving_shapes.VARIANTS, "crowd1", crowd)
    config = get_config()
    config.data.dir, config.data.name = str(tmp_path), "moving_shapes/crowd1"
    prepare(config)
    data_set = open_data_set(config)
    assert class_names(data_set) == list(drawing.EIGHT_MOTIONS)
    labels = video_table(data_set, "train").label(np.arange(16))
    np.testing.assert_array_equal(labels, np.arange(16) % 8)
    assert not (tmp_path / "downloads" / "moving_shapes").exists()


def test_an_unknown_crowd_names_those_there_are(tmp_path):
    config = get_config()
    config.data.dir, config.data.name = str(tmp_path), "moving_shapes/crowd9"
    with pytest.raises(UserError, match=r"crowd9 is not known; use moving_shapes or moving_sh"):
        prepare(config)
