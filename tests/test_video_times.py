"""Times of frames: constant rates, variable ones, and jumps of the clock."""

import math

import numpy as np
import pytest

from data.video_times import timeline
from tests import videos
from tests.preparations import read

SEEDS = range(40)


def constant(rng, count=None):
    """Times of a constant rate as containers round them, and the rate."""
    rate = float(rng.choice([12, 24, 25, 30_000 / 1001, 30, 50, 60]))
    times_N = np.arange(count or rng.integers(20, 300)) / rate
    return (np.round(times_N, 3) if rng.random() < 0.5 else times_N), rate


def jump(rng):
    """Seconds, backwards too."""
    return float(rng.choice([1, -1]) * 10 ** rng.uniform(0, 6))


def move(times_N, at, seconds):
    return times_N + np.where(np.arange(len(times_N)) >= at, seconds, 0)


def test_a_constant_rate_is_left_alone():
    for seed in SEEDS:
        times_N, rate = constant(np.random.default_rng(seed))
        found = timeline(times_N + seed, rate)
        assert (found.fps, found.shown_N, found.remarks) == (rate, None, ())


@pytest.mark.parametrize("where", ["first", "middle", "last", "one frame", "two"])
def test_all_frames_around_a_jump_are_kept_at_the_rate_of_the_rest(where):
    for seed in SEEDS:
        rng = np.random.default_rng(seed)
        times_N, rate = constant(rng)
        count = len(times_N)
        at = {"first": 1, "last": count - 1}.get(where, int(rng.integers(2, count - 2)))
        times_N = move(times_N, at, jump(rng))
        if where == "one frame":
            times_N = move(times_N, at + 1, times_N[at - 1] - times_N[at])
        elif where == "two":
            times_N = move(times_N, int(rng.integers(1, count)), jump(rng))
        found = timeline(times_N, rate)
        assert found.fps == rate
        assert found.shown_N is None or len(np.unique(found.shown_N)) >= count - 2
        if where in ("first", "middle"):
            assert found.shown_N is None
            assert any(f"after frame {at - 1}" in remark for remark in found.remarks)


def test_files_that_were_joined_go_on_where_they_were_joined():
    one_N = np.arange(60) / 25
    for times in ([one_N, one_N], [one_N, one_N, one_N + 0.02], [one_N + 95_443, one_N]):
        found = timeline(np.concatenate(times), 25)
        assert (found.fps, found.shown_N, len(found.remarks)) == (25, None, 1)


@pytest.mark.parametrize("gaps_ms", [[20, 40, 300], [16, 17, 33, 50, 500], [33, 67, 100], [40, 90]])
def test_frames_of_a_variable_rate_are_on_screen_until_the_next(gaps_ms):
    for seed in SEEDS:
        rng = np.random.default_rng(seed)
        shares = np.arange(len(gaps_ms), 0, -1.0)
        gaps = rng.choice(gaps_ms, 60, p=shares / shares.sum())
        gaps[rng.integers(60)] = 600  # a long still
        times = np.cumsum([0, *gaps]) / 1000
        found = timeline(times, 30)
        # By hand: every tick shows the last frame that has come.
        ticks = [times[-1] * k / 60 + 1e-6 for k in range(61)]
        on_screen = [max(i for i in range(61) if times[i] <= tick) for tick in ticks]
        assert found.shown_N.tolist() == on_screen
        assert found.fps == pytest.approx(60 / times[-1])


def test_no_times_make_a_still_of_a_video_nor_lose_most_of_it_unsaid():
    for seed in range(200):
        rng = np.random.default_rng(seed)
        count = int(rng.integers(3, 200))
        gaps = 10 ** rng.uniform(-3, rng.uniform(-1, 5), count)
        if seed % 2:
            gaps[rng.random(count) < 0.8] = 0.04
        if seed % 3 == 0:
            gaps *= np.where(rng.random(count) < 0.05, -1, 1)
        times_N = np.cumsum(gaps)
        times_N[rng.random(count) < 0.02] = math.nan
        found = timeline(times_N, 25)
        assert 0 < found.fps < math.inf
        shown_N = np.arange(count) if found.shown_N is None else found.shown_N
        assert len(shown_N) == count
        assert (np.diff(shown_N) >= 0).all()
        most = np.bincount(shown_N).max()
        assert most <= max(2, count * 2 / 3 + 1)
        if len(np.unique(shown_N)) < count / 2:
            assert any("never on screen" in remark for remark in found.remarks)


def test_missing_and_equal_times_are_filled_in():
    times_N = np.arange(60) / 25
    missing_N = np.where(np.arange(60) % 7 == 3, np.nan, times_N)
    missing_N[[0, 1, 58, 59]] = np.nan
    equal_N = times_N.copy()
    equal_N[[10, 20, 21, 59]] = equal_N[[9, 19, 19, 58]]
    for odd_N in (missing_N, equal_N, times_N - 5, times_N[::-1]):
        found = timeline(odd_N, 25)
        assert (found.fps, found.shown_N, found.remarks) == (25, None, ())
    for times in ([], [3.0], [0.0, 9.0], [math.nan] * 9, [1.0] * 9):
        assert timeline(times, 25).shown_N is None


def test_a_wrong_rate_is_corrected_and_remarked_upon():
    found = timeline(np.arange(60) / 25, 10)
    assert (found.fps, found.shown_N) == (pytest.approx(25), None)
    assert any("10 " in remark and "25" in remark for remark in found.remarks)
    assert timeline(np.arange(60) / 25, 0).remarks == ()


@pytest.mark.parametrize("step", [1, 3])
@pytest.mark.parametrize("gap_at", [1, 10, 19])
def test_videos_keep_every_frame_around_a_jump(tmp_path, gap_at, step):
    times = [40 * i + (36_000_000 if i >= gap_at else 0) for i in range(20)]
    frames = read(videos.write(tmp_path / "video.mkv", 20, times_ms=times), step=step)
    assert videos.numbers(frames.jpegs) == list(range(0, 20, step))
    assert (frames.fps, frames.source_frames) == (25, 20)
    assert any("jumps once" in remark for remark in frames.remarks)


@pytest.mark.parametrize("step", [2, 3, 5])
def test_steps_count_ticks_of_the_mean_rate(tmp_path, step):
    rng = np.random.default_rng(step)
    times = np.cumsum([0, *rng.choice([20, 40, 300], 19)]).tolist()
    path = videos.write(tmp_path / "video.mp4", 20, times_ms=times)
    every, some = read(path), read(path, step=step)
    assert list(some.jpegs) == list(every.jpegs)[::step]
    assert some.source_frames == 20
