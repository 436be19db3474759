"""The frame rate of a video, and which frame is on screen when, from the times of its frames."""

import dataclasses
from collections.abc import Sequence

import numpy as np

# The rate is variable if a frame comes earlier or later than at a constant rate by more than this,
# in units of the time between two frames. Containers round times to milliseconds.
_IRREGULAR = 0.75

# A long gap between frames is either a still, which a player shows, or a jump of the clock, which
# says nothing of the video. It is a jump by any of these rules:
# 1. Time runs backwards, or the gap is longer than FFmpeg itself accepts (its dts_delta_threshold)
#    and out of proportion to the usual gap.
_JUMP_S = 10.0
_JUMP_GAPS = 100  # usual gaps
# 2. Long gaps are few, and without them the rate is constant. Where the rate changes they are many;
#    in a screen recording stills are many, or stand among other gaps of all lengths.
_LONG_GAPS = 5  # usual gaps
_FEW = 1 / 5  # of all gaps, but two at least
_ALIKE = 0.25  # of the usual gap, by which nearly all of the rest may differ from it
_NEARLY_ALL = 0.95
# 3. Gaps longer than stills are few, and together so long that they decide the mean rate.
_STILL_S = 1.0
_STILL_GAPS = 20  # usual gaps; both must be exceeded
_DECIDING = 1 / 3  # of the video
# 4. Otherwise one frame would be on screen for most of the video.
_MOSTLY = 2 / 3

# Some containers have the times in order of decoding, a few frames off (H.264 holds back 16 at
# most), while decoders return the frames in order of presentation.
_REORDERED = 16

# The rate that the file states is right if the usual gap agrees with it up to this share.
_SAME_RATE = 0.01
_OTHER_RATE = 0.05  # a share; rates that differ by more get a remark

_LOST = 0.1  # share of frames that are never on screen, from which on there is a remark


@dataclasses.dataclass(frozen=True)
class Timeline:
    """When frames are on screen.

    Attributes:
      fps: frames per second, 0 where neither the times nor the file tell.
      shown_N: index of the frame at each tick of that rate; None if each frame has one tick.
      remarks: what a person should know of the times.
    """

    fps: float
    shown_N: np.ndarray | None
    remarks: tuple[str, ...]


def timeline(times: Sequence[float], stated: float) -> Timeline:
    """The frame rate, and where it varies which frames are on screen at ticks of the mean rate.

    There are as many ticks as frames. Jumps of the clock are replaced by the usual gap.

    Args:
      times: seconds, of the frames in the order in which they are shown; NaN where missing.
      stated: frames per second that the file states, 0 where it states none.
    """
    times_N = np.asarray(times, float)
    known_N = times_N[np.isfinite(times_N)]
    if len(times_N) < 3 or len(np.unique(known_N)) < 2:
        return Timeline(stated, None, ())
    times_N = _spread(_in_order(_filled(times_N), stated))
    gaps_G = np.diff(times_N)
    usual = _usual(gaps_G)
    jump_G = _jumps(gaps_G, usual)
    closed_N = times_N - np.append(0, np.cumsum(np.where(jump_G, gaps_G - usual, 0)))
    rate = _mean_rate(closed_N)
    remarks = _jump_remarks(gaps_G, jump_G)
    if _is_constant(closed_N):
        # What the container says is the exact rate, unless it is wrong.
        agree = abs(stated / rate - 1) * len(times_N) <= _IRREGULAR
        agree = agree or abs(stated * usual - 1) <= _SAME_RATE
        if stated and not agree and abs(stated / rate - 1) > _OTHER_RATE:
            remarks.append(f"says {stated:.4g} frames per second, but its times say {rate:.4g}")
        return Timeline(stated if agree else rate, None, tuple(remarks))
    shown_N = _on_screen(closed_N, rate)
    return Timeline(rate, shown_N, (*remarks, *_lost_remarks(shown_N, rate)))


def _filled(times_N: np.ndarray) -> np.ndarray:
    """Interpolates missing times; before and after all known ones, frames get the usual gap."""
    indices_N = np.arange(len(times_N))
    (known_K,) = np.nonzero(np.isfinite(times_N))
    filled_N = np.interp(indices_N, known_K, times_N[known_K])
    gap = _usual(np.diff(filled_N[known_K[0] : known_K[-1] + 1]))
    outside_N = np.minimum(indices_N - known_K[0], 0) + np.maximum(indices_N - known_K[-1], 0)
    return filled_N + outside_N * gap


def _in_order(times_N: np.ndarray, stated: float) -> np.ndarray:
    """Sorts times that are only a few frames out of order; jumps are left as they are."""
    order_N = np.argsort(times_N, kind="stable")
    moved = np.abs(order_N - np.arange(len(times_N))).max()
    sorted_N = times_N[order_N]
    # Sorting would give a single time that is far off a place that is not its own.
    near_s = max(_STILL_S, _REORDERED * _usual(np.diff(sorted_N)))
    near = np.abs(sorted_N - times_N).max() <= near_s
    if near and moved <= min(_REORDERED, len(times_N) // 4):
        return sorted_N
    as_stated = abs(stated / _mean_rate(sorted_N) - 1) * len(times_N) <= _IRREGULAR
    return sorted_N if as_stated and _is_constant(sorted_N) else times_N


def _spread(times_N: np.ndarray) -> np.ndarray:
    """Spreads frames that have the same time evenly up to the next time."""
    again_N = np.append(False, np.diff(times_N) == 0)
    return _filled(np.where(again_N, np.nan, times_N)) if again_N.any() else times_N


def _usual(gaps_G: np.ndarray) -> float:
    """The time between two frames, seconds: the mean of those near the median."""
    positive_P = np.sort(gaps_G[gaps_G > 0])
    if not len(positive_P):
        return float(np.abs(gaps_G).max())  # time runs backwards all along
    median = positive_P[(len(positive_P) - 1) // 2]
    return float(positive_P[np.abs(positive_P / median - 1) <= 0.5].mean())


def _jumps(gaps_G: np.ndarray, usual: float) -> np.ndarray:
    """Which gaps are jumps; the rules are above."""
    jump_G = (gaps_G < 0) | (gaps_G > max(_JUMP_S, _JUMP_GAPS * usual))
    long_G = jump_G | (gaps_G > _LONG_GAPS * usual)
    few = max(2, len(gaps_G) * _FEW)
    if long_G.sum() - jump_G.sum() <= few and _is_steady(np.where(long_G, usual, gaps_G), usual):
        return long_G
    closed_G = np.where(jump_G, usual, gaps_G)
    no_still_G = closed_G > max(_STILL_S, _STILL_GAPS * usual)
    deciding = closed_G[no_still_G].sum() > _DECIDING * closed_G.sum()
    if deciding and no_still_G.sum() <= few:
        jump_G |= no_still_G
        closed_G[no_still_G] = usual
    while len(closed_G) > 2 and closed_G.max() > max(usual, _MOSTLY * closed_G.sum()):
        longest = closed_G.argmax()
        jump_G[longest], closed_G[longest] = True, usual
    return jump_G


def _is_steady(gaps_G: np.ndarray, usual: float) -> bool:
    """Whether the rate is constant and nearly all gaps are alike, not just their mean."""
    alike = (np.abs(gaps_G / usual - 1) <= _ALIKE).mean()
    return bool(alike >= _NEARLY_ALL) and _is_constant(np.append(0, np.cumsum(gaps_G)))


def _mean_rate(times_N: np.ndarray) -> float:
    return float((len(times_N) - 1) / (times_N[-1] - times_N[0]))


def _is_constant(times_N: np.ndarray) -> bool:
    late_N = (times_N - times_N[0]) * _mean_rate(times_N) - np.arange(len(times_N))
    return bool(np.abs(late_N).max() <= _IRREGULAR)


def _on_screen(times_N: np.ndarray, rate: float) -> np.ndarray:
    """At each tick the index of the last frame that has come; the last tick has the last frame."""
    ticks_N = np.arange(len(times_N))
    due_N = (times_N - times_N[0]) * rate - 1e-6
    shown_N = np.searchsorted(due_N, ticks_N, "right") - 1
    shown_N[-1] = len(times_N) - 1
    return shown_N


def _jump_remarks(gaps_G: np.ndarray, jump_G: np.ndarray) -> list[str]:
    (jumps_J,) = np.nonzero(jump_G)
    if not len(jumps_J):
        return []
    first = jumps_J[0]
    times = "once" if len(jumps_J) == 1 else f"{len(jumps_J)} times"
    return [
        f"its clock jumps {times}, first by {gaps_G[first]:.4g} s after frame {first}; "
        "all frames are kept as if it did not"
    ]


def _lost_remarks(shown_N: np.ndarray, rate: float) -> list[str]:
    lost = len(shown_N) - len(np.unique(shown_N))
    if lost < _LOST * len(shown_N):
        return []
    return [
        f"its frames come at very irregular times; at their mean rate of {rate:.3g} per second "
        f"{lost} of {len(shown_N)} are never on screen"
    ]
