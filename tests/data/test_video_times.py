"""Times of frames: constant rates, variable ones, and jumps of the clock."""

import math

import numpy as np
import pytest

from data.preparation.video_times import timeline
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


def shown(found, count):
    return np.arange(count) if found.shown_N is None else found.shown_N


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


@pytest.mark.parametrize("parts", [4, 6, 10])
@pytest.mark.parametrize("gap_s", [1.7, 8])
def test_any_number_of_gaps_in_a_constant_rate_is_closed(parts, gap_s):
    for each in (6, 10, 20, 30):
        times_N = np.arange(parts * each) / 25
        for part in range(1, parts):
            times_N = move(times_N, part * each, gap_s)
        found = timeline(times_N, 25)
        assert (found.fps, found.shown_N) == (25, None)
        (remark,) = found.remarks
        assert f"{parts - 1} times" in remark and f"after frame {each - 1};" in remark


def test_a_single_time_that_is_far_off_moves_no_other_frame():
    for seconds in (1e6, -1e6, 5, -5, 1.5, -1.5):
        for at in (0, 1, 5, 10, 16, 30, 50, 58, 59):
            times_N = np.arange(60) / 25
            times_N[at] += seconds
            found = timeline(times_N, 25)
            assert (found.fps, found.shown_N, len(found.remarks)) == (25, None, 1)


@pytest.mark.parametrize("places", [(1,), (30,), (59,), (20, 40)])
def test_gaps_in_a_variable_rate_leave_it_as_it_is_without_them(places):
    for seed in SEEDS:
        gaps = np.random.default_rng(seed).uniform(0.03, 0.07, 59)
        gaps[[at - 1 for at in places]] = 0.05
        times_N = np.append(0, np.cumsum(gaps))
        without = timeline(times_N, 0)
        for seconds in (3, 5, 9):
            moved_N = times_N
            for at in places:
                moved_N = move(moved_N, at, seconds)
            found = timeline(moved_N, 0)
            assert found.fps == pytest.approx(without.fps, rel=0.01)
            assert np.abs(shown(found, 60) - shown(without, 60)).max() <= 1
            said = "once" if len(places) == 1 else "2 times"
            assert f"jumps {said}, first by " in found.remarks[0]
            assert f"after frame {places[0] - 1};" in found.remarks[0]


def test_a_rate_that_changes_is_brought_to_the_mean_and_what_is_lost_is_said():
    """By hand: 59 gaps in 7 s; the first 1.2 s have ticks for 11 of their 30 frames."""
    times_N = np.append(np.arange(30) / 25, 1.2 + np.arange(30) / 5)
    found = timeline(times_N, 25)
    assert found.fps == pytest.approx(59 / 7)
    assert np.unique(found.shown_N).tolist() == [0, *range(2, 30, 3), *range(30, 60)]
    (remark,) = found.remarks
    assert "8.43 per second 19 of 60 are never on screen" in remark


def test_a_tenth_of_the_frames_is_not_lost_unsaid():
    for seed in SEEDS:
        rng = np.random.default_rng(seed)
        found = timeline(np.cumsum(rng.uniform(0.05 - 0.04 * seed / 40, 0.06, 100)), 0)
        lost = 100 - len(np.unique(shown(found, 100)))
        said = any(f"{lost} of 100 are never on screen" in remark for remark in found.remarks)
        assert said == (lost >= 10)


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
        shown_N = shown(found, count)
        assert len(shown_N) == count
        assert (np.diff(shown_N) >= 0).all()
        most = np.bincount(shown_N).max()
        assert most <= max(2, count * 2 / 3 + 1)
        if len(np.unique(shown_N)) < count * 0.9:
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


def test_videos_keep_every_frame_around_several_gaps(tmp_path):
    times = [40 * i + 1700 * (i // 6) for i in range(24)]
    frames = read(videos.write(tmp_path / "video.mkv", 24, times_ms=times))
    assert videos.numbers(frames.jpegs) == list(range(24))
    assert (frames.fps, frames.source_frames) == (25, 24)
    assert any("jumps 3 times" in remark for remark in frames.remarks)


@pytest.mark.parametrize("step", [2, 3, 5])
def test_steps_count_ticks_of_the_mean_rate(tmp_path, step):
    rng = np.random.default_rng(step)
    times = np.cumsum([0, *rng.choice([20, 40, 300], 19)]).tolist()
    path = videos.write(tmp_path / "video.mp4", 20, times_ms=times)
    every, some = read(path), read(path, step=step)
    assert list(some.jpegs) == list(every.jpegs)[::step]
    assert some.source_frames == 20
