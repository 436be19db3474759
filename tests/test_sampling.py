import dataclasses

import numpy as np
import pytest

from mg_jax import sampling
from mg_jax.grid import BaseGrid, Shape
from mg_jax.sampling import Augmentation, VideoTable, sample_clips

BASE = BaseGrid(batch=4, frames=8, size=64, sub_batch=4, stride=2, short_sides=(72.0, 96.0))
FULL, COARSE = BASE.at(Shape(1, 1), 1), BASE.at(Shape(4, 4), 2)
PLAIN = Augmentation(seed=5, flip=True, inverse_uniform=False)


def make_videos(count=37, seed=0):
    rng = np.random.default_rng(seed)
    num_frames = rng.integers(3, 90, count)
    return VideoTable(
        ids=np.array([f"v{i}" for i in range(count)]),
        label=rng.integers(0, 5, count).astype(np.int32),
        first_frame=np.cumsum(num_frames) - num_frames,
        num_frames=num_frames,
        height=rng.integers(60, 200, count),
        width=rng.integers(60, 200, count),
    )


def equal(a, b):
    return all(
        np.array_equal(getattr(a, f.name), getattr(b, f.name)) for f in dataclasses.fields(a)
    )


def test_a_position_is_sampled_the_same_however_the_batch_is_cut():
    videos = make_videos()
    whole = sample_clips(videos, FULL, PLAIN, first=30, count=60)
    for first, count in [(30, 1), (31, 7), (77, 13)]:
        part = sample_clips(videos, FULL, PLAIN, first, count)
        rows = slice(first - 30, first - 30 + count)
        sliced = sampling.Clips(*(getattr(whole, f.name)[rows] for f in dataclasses.fields(whole)))
        assert equal(part, sliced)


def test_every_epoch_visits_every_video_once_in_another_order():
    epochs = sampling.video_rows(0, 37, 0, 3 * 37).reshape(3, 37)
    for rows in epochs:
        assert sorted(rows) == list(range(37))
    assert not np.array_equal(epochs[0], epochs[1])
    assert not np.array_equal(epochs[1], epochs[2])
    assert not np.array_equal(epochs[0], sampling.video_rows(1, 37, 0, 37))


def test_draws_are_uniform_and_independent_of_each_other():
    draws_BD = sampling.uniforms(3, 10**12, 20_000)
    assert draws_BD.min() >= 0
    assert draws_BD.max() < 1
    for column in draws_BD.T:
        counts, _ = np.histogram(column, 10, (0, 1))
        assert np.all(np.abs(counts - 2_000) < 5 * np.sqrt(2_000))
    correlations = np.corrcoef(draws_BD.T) - np.eye(draws_BD.shape[1])
    assert np.abs(correlations).max() < 0.04
    assert abs(np.corrcoef(draws_BD[:-1, 0], draws_BD[1:, 0])[0, 1]) < 0.04


@pytest.mark.parametrize("grid", [FULL, COARSE])
def test_frames_lie_in_the_video_at_one_stride_of_the_grids_range(grid):
    videos = make_videos()
    count = 4_000
    clips = sample_clips(videos, grid, PLAIN, 0, count)
    rows = sampling.video_rows(PLAIN.seed, len(videos), 0, count)
    local_BT = clips.frames_BT - videos.first_frame[rows, None]
    last_B = videos.num_frames[rows] - 1
    assert local_BT.min() >= 0
    assert np.all(local_BT <= last_B[:, None])
    long = videos.num_frames[rows] > (grid.frames - 1) * grid.strides[1]
    strides = np.diff(local_BT[long])
    assert np.all(strides == strides[:, :1])
    counts = np.bincount(strides[:, 0], minlength=grid.strides[1] + 1)
    used = counts[grid.strides[0] :]
    assert counts[: grid.strides[0]].sum() == 0
    assert np.all(np.abs(used - used.mean()) < 5 * np.sqrt(used.mean()))


def test_starts_are_uniform_over_the_room_that_the_span_leaves():
    videos = dataclasses.replace(make_videos(1), num_frames=np.array([24]))
    starts = sample_clips(videos, FULL, PLAIN, 0, 20_000).frames_BT[:, 0]
    counts = np.bincount(starts)
    assert len(counts) == 24 - 15 + 1
    assert np.all(np.abs(counts - 2_000) < 5 * np.sqrt(2_000))


def test_videos_shorter_than_the_clip_repeat_their_last_frame():
    videos = dataclasses.replace(make_videos(1), num_frames=np.array([5]))
    frames = sample_clips(videos, FULL, PLAIN, 0, 1).frames_BT[0]
    np.testing.assert_array_equal(frames, [0, 2, 4, 4, 4, 4, 4, 4])


@pytest.mark.parametrize("inverse", [False, True])
@pytest.mark.parametrize("grid", [FULL, COARSE])
def test_crops_lie_in_the_frame_and_scale_as_the_recipe_jitters(grid, inverse):
    videos = make_videos()
    count = 20_000
    clips = sample_clips(videos, grid, Augmentation(0, True, inverse), 0, count)
    rows = sampling.video_rows(0, len(videos), 0, count)
    top_B, left_B, side_B = clips.boxes_B3.T
    height, width = videos.height[rows], videos.width[rows]
    assert min(top_B.min(), left_B.min()) >= 0
    assert np.all(top_B + side_B <= height + 1e-3)
    assert np.all(left_B + side_B <= width + 1e-3)
    short_side_B = grid.size * np.minimum(height, width) / side_B
    low, high = grid.short_sides
    position = (short_side_B - low) / (high - low)
    if inverse:
        position = (1 / low - 1 / short_side_B) / (1 / low - 1 / high)
    counts, _ = np.histogram(position, 10, (-1e-6, 1 + 1e-6))
    assert counts.sum() == count
    assert np.all(np.abs(counts - count / 10) < 5 * np.sqrt(count / 10))


def test_flips_are_fair_and_can_be_off():
    videos = make_videos()
    flips = sample_clips(videos, FULL, PLAIN, 0, 20_000).flip_B
    assert abs(flips.mean() - 0.5) < 0.02
    assert not sample_clips(videos, FULL, Augmentation(5, False, False), 0, 100).flip_B.any()


def views_of(clips=1, crops=1, size=32):
    return sampling.Views(clips, crops, frames=8, stride=2, size=size, short_side=64)


def test_test_clips_spread_from_start_to_end():
    videos = dataclasses.replace(make_videos(1), num_frames=np.array([60]))
    views = sampling.view_frames(videos, 0, views_of(clips=10))
    assert views.shape == (10, 8)
    assert views[0, 0] == 0
    assert views[-1, -1] == 59
    np.testing.assert_array_equal(np.diff(views[:, 0]), [5] * 9)
    centre = sampling.view_frames(videos, 0, views_of(clips=1))
    assert centre[0, 0] == (60 - 15) // 2


@pytest.mark.parametrize(("height", "width"), [(80, 160), (160, 80)])
def test_three_crops_span_the_longer_side(height, width):
    videos = dataclasses.replace(make_videos(1), height=np.array([height]), width=np.array([width]))
    boxes = sampling.view_boxes(videos, 0, views_of(size=64, crops=3))
    longer = 0 if height > width else 1
    np.testing.assert_allclose(boxes[:, longer], [0, 40, 80])
    np.testing.assert_allclose(boxes[:, 1 - longer], 0)
    np.testing.assert_allclose(boxes[:, 2], 80)
    centre = sampling.view_boxes(videos, 0, views_of(size=32, crops=1))
    np.testing.assert_allclose(centre[0, :2], [(height - 40) / 2, (width - 40) / 2])
