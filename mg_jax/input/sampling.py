"""Which frames and which pixels an iteration reads: arithmetic on positions (paper, Sec. 3.1).

Training consumes one endless sequence of clips. Position p is element p mod n of the permutation
drawn from (seed, epoch p // n), and its augmentation is drawn from (seed, p). So the step alone
says what comes next: nothing else is needed to resume, and a run does not depend on how many
devices or hosts share it.
"""

import dataclasses
import functools
from collections.abc import Callable

import numpy as np
import psutil

from data.format.video_table import VideoTable
from mg_jax.errors import UserError
from mg_jax.grid import Grid
from mg_jax.input.balance import systematic_rows, video_weights

# Uniform draws of a position, in this order. Philox makes four at a time.
_STRIDE, _START, _SHORT_SIDE, _TOP, _LEFT, _FLIP = range(6)
_DRAWS = 8
# Second word of the Philox key; permutations use the epoch.
_AUGMENTATION = 1 << 63
_SEGMENTS = (1 << 63) + 1
_BALANCE = (1 << 63) + 2


@dataclasses.dataclass(frozen=True)
class Clips:
    """What to read for some clips.

    Attributes:
      rows_B: of the video table, int64.
      frames_BT: source frames, int64; those past a video's end repeat its last one.
      boxes_B3: top, left and side of the square crop, in pixels of the stored frame, int64.
      flip_B: whether to mirror, bool.
    """

    rows_B: np.ndarray
    frames_BT: np.ndarray
    boxes_B3: np.ndarray
    flip_B: np.ndarray


@dataclasses.dataclass(frozen=True)
class Views:
    """The views of each test video that its scores come from.

    Attributes:
      clips: per video, spread over its length; one is its centre.
      crops: per clip, 1 (centre) or 3 along the longer side.
      frames: T of a clip.
      stride: between its frames, in source frames; None for one frame from each of T segments.
      size: of a crop, pixels.
      short_side: of the scaled video, pixels.
    """

    clips: int
    crops: int
    frames: int
    stride: int | None
    size: int
    short_side: float

    def __len__(self) -> int:
        """V, views of a video."""
        return self.clips * self.crops


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """How clips are drawn, apart from their grid.

    Attributes:
      seed: of permutations and augmentation.
      flip: mirror half of the clips.
      inverse_uniform: draw the short side uniformly in its inverse.
      segments: one frame from each of T equal parts of the video, not T frames at one stride.
      class_exponent: classes are drawn as often as their number of videos to this power.
    """

    seed: int
    flip: bool
    inverse_uniform: bool
    segments: bool = False
    class_exponent: float = 1.0


def training_augmentation(data, seed: int) -> Augmentation:
    """The augmentation of training, by a config's `data` section."""
    segments, exponent = data.sampling == "segments", data.class_exponent
    return Augmentation(seed, data.flip, data.inverse_uniform, segments, exponent)


def centre_view(config) -> Views:
    """The one view of evaluations during training."""
    return evaluation_views(config, clips=1, crops=1)


def all_views(config) -> Views:
    """The config's views, for the evaluation at the end."""
    return evaluation_views(config, config.eval.clips, config.eval.crops)


def evaluation_views(config, clips: int, crops: int) -> Views:
    """Views of a test video: `clips` times `crops` on the config's grid of evaluation."""
    return Views(
        clips=clips,
        crops=crops,
        frames=config.frames,
        stride=config.data.stride if config.data.sampling == "stride" else None,
        size=config.eval.size,
        short_side=config.eval.short_side,
    )


def check_views(views: Views) -> None:
    """Refuses views of a video, uint8, that are larger than this machine's memory.

    Raises:
      UserError: if they are.
    """
    clip = views.frames * views.size**2 * 3
    needed, memory = clip * views.crops * views.clips, psutil.virtual_memory().total
    if needed > memory:
        clips = memory // (clip * views.crops)
        raise UserError(
            f"the views of a video take {needed // 10**6:,} MB, eval.clips={views.clips} x "
            f"eval.crops={views.crops} of {views.frames} x {views.size}^2, and this machine has "
            f"{memory // 10**6:,} MB of memory, enough for "
            + (f"eval.clips={clips} (the paper has 10)" if clips else "a smaller eval.size alone")
        )


def sample_clips(
    videos: VideoTable, grid: Grid, augmentation: Augmentation, first: int, count: int
) -> Clips:
    """The clips at positions [first, first + count) of the training sequence.

    Args:
      videos: of the training split.
      grid: gives frames, size and the ranges of stride and short side.
      augmentation: seed and what is random.
      first: first position.
      count: B, clips.
    """
    balanced = None
    if augmentation.class_exponent != 1:
        balanced = functools.partial(
            _balanced_epoch, videos, augmentation.seed, augmentation.class_exponent
        )
    rows_B = video_rows(augmentation.seed, len(videos), first, count, balanced)
    return clips_of(videos, grid, augmentation, first, rows_B)


def clips_of(
    videos: VideoTable, grid: Grid, augmentation: Augmentation, first: int, rows_B: np.ndarray
) -> Clips:
    """Clips of given videos, drawn as those at the positions from `first` on are."""
    count = len(rows_B)
    draws_BD = uniforms(augmentation.seed, first, count)
    flip_B = draws_BD[:, _FLIP] < 0.5 if augmentation.flip else np.zeros(count, bool)
    if augmentation.segments:
        draws_BT = uniforms(augmentation.seed, first, count, _SEGMENTS, grid.frames)
        frames_BT = segment_frames(videos.source_frames[rows_B], draws_BT)
    else:
        frames_BT = _strided_frames(videos, grid, rows_B, draws_BD)
    return Clips(
        rows_B=rows_B,
        frames_BT=frames_BT,
        boxes_B3=_random_boxes(videos, grid, augmentation.inverse_uniform, rows_B, draws_BD),
        flip_B=flip_B,
    )


def uniforms(
    seed: int, first: int, count: int, word: int = _AUGMENTATION, draws: int = _DRAWS
) -> np.ndarray:
    """Draws in [0, 1) for positions [first, first + count), `B draws` float64.

    Philox is counter-based: a position's draws are blocks of its output, which need no others.

    Args:
      seed: first word of the key.
      first: first position.
      count: B.
      word: second word of the key; another one gives independent draws.
      draws: of each position.
    """
    blocks = -(-draws // 4)
    bits = np.random.Philox(key=_key(seed, word), counter=blocks * first)
    raw = bits.random_raw(count * blocks * 4).reshape(count, -1)[:, :draws]
    return (raw >> np.uint64(11)) * 2.0**-53


def video_rows(
    seed: int,
    videos: int,
    first: int,
    count: int,
    rows_of_epoch: Callable[[int], np.ndarray] | None = None,
) -> np.ndarray:
    """Rows of the video table at positions [first, first + count), int64.

    Args:
      seed: of permutations.
      videos: N, their number.
      first: first position.
      count: B.
      rows_of_epoch: gives the N rows of an epoch; by default each one once, permuted.
    """
    rows_of_epoch = rows_of_epoch or functools.partial(_permutation, seed, videos)
    epochs_B, offsets_B = np.divmod(first + np.arange(count), videos)
    rows_B = np.empty(count, np.int64)
    for epoch in range(int(epochs_B[0]), int(epochs_B[-1]) + 1):
        chosen = epochs_B == epoch
        rows_B[chosen] = rows_of_epoch(epoch)[offsets_B[chosen]]
    return rows_B


@functools.lru_cache(maxsize=4)
def _balanced_epoch(videos: VideoTable, seed: int, exponent: float, epoch: int) -> np.ndarray:
    """The rows of an epoch of as many clips as there are videos, classes drawn more evenly."""
    offset = uniforms(seed, epoch, 1, _BALANCE, 1).item()
    rows_N = systematic_rows(video_weights(videos, exponent), offset)
    return rows_N[_permutation(seed, len(videos), epoch)]


@functools.lru_cache(maxsize=4)
def _permutation(seed: int, videos: int, epoch: int) -> np.ndarray:
    # Sorting raw bits, unlike Generator.permutation, gives the same order in every NumPy.
    raw = np.random.Philox(key=_key(seed, epoch)).random_raw(videos)
    return np.argsort(raw, kind="stable")


def _key(seed: int, word: int) -> np.ndarray:
    return np.array([seed, word], np.uint64)


def _strided_frames(
    videos: VideoTable, grid: Grid, rows_B: np.ndarray, draws_BD: np.ndarray
) -> np.ndarray:
    """A stride from the grid's range, then a start such that the span fits into the video."""
    low, high = grid.strides
    stride_B = low + np.floor(draws_BD[:, _STRIDE] * (high - low + 1)).astype(np.int64)
    span_B = (grid.frames - 1) * stride_B + 1
    starts_B = np.maximum(videos.source_frames[rows_B] - span_B + 1, 1)
    start_B = np.floor(draws_BD[:, _START] * starts_B).astype(np.int64)
    return start_B[:, None] + stride_B[:, None] * np.arange(grid.frames)


def segment_frames(source_frames_B: np.ndarray, draws_BT: np.ndarray) -> np.ndarray:
    """Frame floor((i + u) n / T) for segment i of T, u its draw in [0, 1); `B T` int64."""
    T = draws_BT.shape[1]
    return np.floor((np.arange(T) + draws_BT) * source_frames_B[:, None] / T).astype(np.int64)


def _random_boxes(
    videos: VideoTable,
    grid: Grid,
    inverse_uniform: bool,
    rows_B: np.ndarray,
    draws_BD: np.ndarray,
) -> np.ndarray:
    """The crop of h x h from the video scaled to a random short side, in stored pixels.

    It is rounded to whole pixels, so that only what it shows has to be decoded.
    """
    low, high = grid.short_sides
    draw_B = draws_BD[:, _SHORT_SIDE]
    if inverse_uniform:
        short_side_B = 1 / (1 / high + draw_B * (1 / low - 1 / high))
    else:
        short_side_B = low + draw_B * (high - low)
    height_B, width_B = videos.height[rows_B], videos.width[rows_B]
    side_B = box_side(grid.size, np.minimum(height_B, width_B), short_side_B)
    top_B = np.floor(draws_BD[:, _TOP] * (height_B - side_B + 1)).astype(np.int64)
    left_B = np.floor(draws_BD[:, _LEFT] * (width_B - side_B + 1)).astype(np.int64)
    return np.stack([top_B, left_B, side_B], -1)


def box_side(size: int, stored: np.ndarray, short_side: np.ndarray) -> np.ndarray:
    """Side of a crop in stored pixels, int64; it is `size` at the scale `short_side` / `stored`."""
    side = np.rint(size * stored / short_side).astype(np.int64)
    return np.clip(side, 1, stored)


def view_frames(videos: VideoTable, row: int, views: Views) -> np.ndarray:
    """Source frames of a test video's clips, `clips T`, spread evenly; one clip is the centre."""
    count = int(videos.source_frames[row])
    if views.stride is None:
        draws_C = (np.arange(views.clips) + 0.5) / views.clips
        draws_CT = np.tile(draws_C[:, None], (1, views.frames))
        return segment_frames(np.full(views.clips, count), draws_CT)
    span = (views.frames - 1) * views.stride + 1
    room = max(count - span, 0)
    starts = np.linspace(0, room, views.clips) if views.clips > 1 else np.array([room / 2])
    return np.floor(starts).astype(np.int64)[:, None] + views.stride * np.arange(views.frames)


def view_boxes(videos: VideoTable, row: int, views: Views) -> np.ndarray:
    """Crops of a test video, `crops 3` int64: the centre, or `crops` along the longer side."""
    height, width = videos.shape(row)
    side = box_side(views.size, np.array(min(height, width)), np.array(views.short_side))
    along = np.linspace(0, 1, views.crops) if views.crops > 1 else np.array([0.5])
    centre = np.full(views.crops, 0.5)
    top, left = (along, centre) if height > width else (centre, along)
    boxes = [top * (height - side), left * (width - side), np.full(views.crops, side)]
    return np.rint(np.stack(boxes, -1)).astype(np.int64)
