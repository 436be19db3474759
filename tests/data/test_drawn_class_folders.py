"""Class folders of drawn videos: `python -m data.moving_shapes`."""

import pytest

from data.moving_shapes.class_folders import draw_class_folders
from data.moving_shapes.drawing import EIGHT_MOTIONS
from data.preparation.video_frames import read_frames
from mg_jax.errors import UserError


def shape_of(folder):
    """Frames, height, width and rate of a class folder's first video."""
    frames = read_frames(folder / "000.mp4", short_side=200, quality=90)
    return len(frames.jpegs), frames.height, frames.width, frames.fps


def test_each_class_gets_its_number_of_videos_that_follow_from_the_seed(tmp_path):
    each = [2, 1, 1, 1, 1, 1, 1, 1]
    assert draw_class_folders(tmp_path / "a", each, seed=3) == 9
    draw_class_folders(tmp_path / "b", [1], seed=3)
    draw_class_folders(tmp_path / "c", [1], seed=4)
    found = {path.name: len(list(path.glob("*.mp4"))) for path in (tmp_path / "a").iterdir()}
    assert found == dict(zip(EIGHT_MOTIONS, each, strict=True))
    # Of equal frames the encoder does not always make equal bits.
    a, b, c = ([shape_of(tmp_path / x / name) for name in EIGHT_MOTIONS] for x in "abc")
    assert a == b
    assert a != c


@pytest.mark.parametrize("videos", [[], [0], [1, 2], [1] * 7 + [0]])
def test_numbers_of_videos_that_fit_no_class_are_refused(tmp_path, videos):
    with pytest.raises(UserError, match=r"--videos=.* one number, or 8, for left, right"):
        draw_class_folders(tmp_path / "new", videos, seed=0)
    assert not (tmp_path / "new").exists()


def test_a_folder_that_holds_something_is_left_alone(tmp_path):
    (tmp_path / "left").mkdir()
    with pytest.raises(UserError, match=r"--to=.* is there already; give a new folder"):
        draw_class_folders(tmp_path, [1], seed=0)
