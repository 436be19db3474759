import dataclasses

import numpy as np
import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.format.video_table import Actions, VideoTable
from mg_jax.errors import UserError
from mg_jax.grid import BaseGrid, Shape
from mg_jax.input import sampling
from mg_jax.input.sampling import Augmentation, sample_clips

BASE = BaseGrid(batch=4, frames=8, size=64, sub_batch=4, stride=2, short_sides=(72.0, 96.0))
FULL, COARSE = BASE.at(Shape(1, 1), 1), BASE.at(Shape(4, 4), 2)
PLAIN = Augmentation(seed=5, flip=True, inverse_uniform=False)


def make_videos(count=37, seed=0):
    rng = np.random.default_rng(seed)
    source_frames = rng.integers(3, 90, count)
    return VideoTable(
        ids=np.array([f"v{i}" for i in range(count)]),
        first_frame=np.cumsum(source_frames) - source_frames,
        source_frames=source_frames,
        height=rng.integers(60, 200, count),
        width=rng.integers(60, 200, count),
        actions=Actions(
            row=np.arange(count),
            label=rng.integers(0, 5, count).astype(np.int32),
            start=np.zeros(count, np.int64),
            end=source_frames,
        ),
        classes=5,
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
    local_BT = videos.records(rows, clips.frames_BT) - videos.first_frame[rows, None]
    last_B = videos.source_frames[rows] - 1
    assert local_BT.min() >= 0
    assert np.all(local_BT <= last_B[:, None])
    long = videos.source_frames[rows] > (grid.frames - 1) * grid.strides[1]
    strides = np.diff(local_BT[long])
    assert np.all(strides == strides[:, :1])
    counts = np.bincount(strides[:, 0], minlength=grid.strides[1] + 1)
    used = counts[grid.strides[0] :]
    assert counts[: grid.strides[0]].sum() == 0
    assert np.all(np.abs(used - used.mean()) < 5 * np.sqrt(used.mean()))


def test_starts_are_uniform_over_the_room_that_the_span_leaves():
    videos = dataclasses.replace(make_videos(1), source_frames=np.array([24]))
    starts = sample_clips(videos, FULL, PLAIN, 0, 20_000).frames_BT[:, 0]
    counts = np.bincount(starts)
    assert len(counts) == 24 - 15 + 1
    assert np.all(np.abs(counts - 2_000) < 5 * np.sqrt(2_000))


def test_videos_shorter_than_the_clip_repeat_their_last_frame():
    videos = dataclasses.replace(make_videos(1), source_frames=np.array([5]))
    clips = sample_clips(videos, FULL, PLAIN, 0, 1)
    (numbers,) = videos.records(clips.rows_B, clips.frames_BT)
    np.testing.assert_array_equal(numbers, [0, 2, 4, 4, 4, 4, 4, 4])


@pytest.mark.parametrize("inverse", [False, True])
@pytest.mark.parametrize("grid", [FULL, COARSE])
def test_crops_lie_in_the_frame_and_scale_as_the_recipe_jitters(grid, inverse):
    videos = make_videos()
    # So large that rounding to whole pixels does not show.
    videos = dataclasses.replace(videos, height=videos.height * 10**5, width=videos.width * 10**5)
    count = 20_000
    clips = sample_clips(videos, grid, Augmentation(0, True, inverse), 0, count)
    rows = sampling.video_rows(0, len(videos), 0, count)
    top_B, left_B, side_B = clips.boxes_B3.T
    height, width = videos.height[rows], videos.width[rows]
    assert min(top_B.min(), left_B.min()) >= 0
    assert np.all(top_B + side_B <= height)
    assert np.all(left_B + side_B <= width)
    short_side_B = grid.size * np.minimum(height, width) / side_B
    low, high = grid.short_sides
    position = (short_side_B - low) / (high - low)
    if inverse:
        position = (1 / low - 1 / short_side_B) / (1 / low - 1 / high)
    free_B = np.where(height < width, width - side_B, height - side_B)
    along = np.where(height < width, left_B, top_B)[free_B > 0] / free_B[free_B > 0]
    for shares in (position, along):
        counts, _ = np.histogram(shares, 10, (-1e-6, 1 + 1e-6))
        assert counts.sum() == len(shares)
        assert np.all(np.abs(counts - len(shares) / 10) < 5 * np.sqrt(len(shares) / 10))


def test_corners_are_uniform_over_all_places_of_a_crop():
    videos = dataclasses.replace(make_videos(1), height=np.array([66]), width=np.array([70]))
    grid = dataclasses.replace(FULL, size=66, short_sides=(66.0, 66.0))
    boxes_B3 = sample_clips(videos, grid, PLAIN, 0, 20_000).boxes_B3
    assert np.all(boxes_B3[:, 0] == 0)
    assert np.all(boxes_B3[:, 2] == 66)
    counts = np.bincount(boxes_B3[:, 1])
    assert len(counts) == 5
    assert np.all(np.abs(counts - 4_000) < 5 * np.sqrt(4_000))


SEGMENTS = dataclasses.replace(PLAIN, segments=True)


def test_segments_give_one_frame_each_uniform_over_the_video():
    videos = dataclasses.replace(make_videos(1), source_frames=np.array([50]))
    frames_BT = sample_clips(videos, FULL, SEGMENTS, 0, 20_000).frames_BT
    edges = np.arange(FULL.frames + 1) * 50 / FULL.frames
    assert np.all(frames_BT >= np.floor(edges[:-1]))
    assert np.all(frames_BT < np.ceil(edges[1:]))
    counts = np.bincount(frames_BT.ravel(), minlength=50)
    expected = 20_000 * FULL.frames / 50
    assert np.all(np.abs(counts - expected) < 5 * np.sqrt(expected))
    correlations = np.corrcoef((frames_BT - edges[:-1]).T) - np.eye(FULL.frames)
    assert np.abs(correlations).max() < 0.04


def test_segments_do_not_move_what_else_is_drawn():
    videos = make_videos()
    strided = sample_clips(videos, FULL, PLAIN, 100, 50)
    segmented = sample_clips(videos, FULL, SEGMENTS, 100, 50)
    for name in ("rows_B", "boxes_B3", "flip_B"):
        np.testing.assert_array_equal(getattr(strided, name), getattr(segmented, name))
    part = sample_clips(videos, FULL, SEGMENTS, 120, 10).frames_BT
    np.testing.assert_array_equal(segmented.frames_BT[20:30], part)


@settings(max_examples=200, deadline=None)
@given(
    source_frames=st.integers(1, 2_000),
    height=st.integers(1, 3_000),
    width=st.integers(1, 3_000),
    shape=st.sampled_from([Shape(1, 1), Shape(2, 1), Shape(2, 2), Shape(4, 2), Shape(4, 4)]),
    size=st.integers(8, 400),
    jitter=st.floats(0, 3),
    stride=st.integers(1, 16),
    step=st.integers(1, 7),
    first=st.integers(0, 2**60),
    augmentation=st.builds(
        Augmentation, st.integers(0, 2**63), st.booleans(), st.booleans(), st.booleans()
    ),
)
def test_any_clip_of_any_video_can_be_read(
    source_frames, height, width, shape, size, jitter, stride, step, first, augmentation
):
    """Whatever the video and the grid, frames exist and the crop lies within them."""
    videos = dataclasses.replace(
        make_videos(1),
        first_frame=np.array([1_000]),
        source_frames=np.array([source_frames]),
        height=np.array([height]),
        width=np.array([width]),
        frame_step=step,
    )
    low = size * 8 / 7
    base = BaseGrid(4, 16, size, 4, stride, short_sides=(low, low * (1 + jitter)))
    grid = base.at(shape, 1)
    clips = sample_clips(videos, grid, augmentation, first, 5)
    stored = -(-source_frames // step)
    numbers_BT = videos.records(clips.rows_B, clips.frames_BT) - 1_000
    assert numbers_BT.shape == (5, grid.frames)
    assert 0 <= numbers_BT.min() <= numbers_BT.max() < stored
    assert np.all(np.diff(clips.frames_BT) >= 0)
    # The stored frame is the nearest to the source frame there is.
    wanted_BT = np.minimum(clips.frames_BT, source_frames - 1)
    nearest_BT = np.abs(wanted_BT[..., None] - step * np.arange(stored)).min(-1)
    np.testing.assert_array_equal(np.abs(wanted_BT - step * numbers_BT), nearest_BT)
    top_B, left_B, side_B = clips.boxes_B3.T
    assert min(top_B.min(), left_B.min()) >= 0
    assert side_B.min() >= 1
    assert np.all(top_B + side_B <= height)
    assert np.all(left_B + side_B <= width)
    exact_low = grid.size * min(height, width) / grid.short_sides[1]
    exact_high = grid.size * min(height, width) / grid.short_sides[0]
    assert np.all(side_B >= max(np.floor(exact_low), 1))
    assert np.all(side_B <= np.ceil(exact_high))
    if not augmentation.flip:
        assert not clips.flip_B.any()


def test_a_clip_carries_the_labels_within_its_span_and_a_video_all():
    rng = np.random.default_rng(0)
    row = np.sort(rng.integers(0, 6, 40))
    start = rng.integers(0, 50, 40)
    actions = Actions(row, rng.integers(0, 5, 40).astype(np.int32), start, start + 10)
    videos = dataclasses.replace(make_videos(7), actions=actions)
    rows_B, first_B = rng.integers(0, 7, 300), rng.integers(0, 60, 300)
    frames_BT = first_B[:, None] + 3 * np.arange(4)
    found_BK = videos.labels_within(rows_B, frames_BT)
    for b in range(300):
        last = videos.source_frames[rows_B[b]] - 1
        span = {min(f, last) for f in range(frames_BT[b, 0], frames_BT[b, -1] + 1)}
        expected = {
            label
            for r, label, s, e in zip(row, actions.label, start, start + 10, strict=True)
            if r == rows_B[b] and any(s <= f < e for f in span)
        }
        assert set(np.flatnonzero(found_BK[b])) == expected
    for r in range(7):
        assert set(np.flatnonzero(videos.labels(np.array([r]))[0])) == set(actions.label[row == r])


def test_flips_are_fair_and_can_be_off():
    videos = make_videos()
    flips = sample_clips(videos, FULL, PLAIN, 0, 20_000).flip_B
    assert abs(flips.mean() - 0.5) < 0.02
    assert not sample_clips(videos, FULL, Augmentation(5, False, False), 0, 100).flip_B.any()


def views_of(clips=1, crops=1, size=32):
    return sampling.Views(clips, crops, frames=8, stride=2, size=size, short_side=64)


def test_test_clips_spread_from_start_to_end():
    videos = dataclasses.replace(make_videos(1), source_frames=np.array([60]))
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
    np.testing.assert_array_equal(boxes[:, longer], [0, 40, 80])
    np.testing.assert_allclose(boxes[:, 1 - longer], 0)
    np.testing.assert_allclose(boxes[:, 2], 80)
    centre = sampling.view_boxes(videos, 0, views_of(size=32, crops=1))
    np.testing.assert_allclose(centre[0, :2], [(height - 40) / 2, (width - 40) / 2])


def test_views_larger_than_memory_are_refused():
    clips = psutil.virtual_memory().total // (8 * 32 * 32 * 3)
    sampling.check_views(views_of(clips))
    for more in (views_of(clips + 1), views_of(clips // 3 + 1, crops=3), views_of(10**400)):
        with pytest.raises(
            UserError, match=rf"eval.clips={more.clips} x .* enough for eval.clips="
        ):
            sampling.check_views(more)
    with pytest.raises(UserError, match=r"enough for a smaller eval.size alone"):
        sampling.check_views(views_of(size=10**6))
