"""Which frames and which pixels an iteration reads: arithmetic on positions (paper, Sec. 3.1).

Training consumes one endless sequence of clips. Position p is element p mod n of the permutation
drawn from (seed, epoch p // n), and its augmentation is drawn from (seed, p). So the step alone
says what comes next: nothing else is needed to resume, and a run does not depend on how many
devices or hosts share it.
"""

import dataclasses
import functools

import numpy as np

from mg_jax.grid import Grid

# Uniform draws of a position, in this order. Philox makes four at a time.
_STRIDE, _START, _SHORT_SIDE, _TOP, _LEFT, _FLIP = range(6)
_DRAWS = 8
_AUGMENTATION = 1 << 63  # second word of the Philox key; permutations use the epoch


@dataclasses.dataclass(frozen=True)
class VideoTable:
    """The videos of a split, a row each.

    Attributes:
      ids: names, str.
      label: int32.
      first_frame: record number of the first frame, int64.
      num_frames: int64.
      height: of the frames as stored, pixels, int64.
      width: of the frames as stored, pixels, int64.
    """

    ids: np.ndarray
    label: np.ndarray
    first_frame: np.ndarray
    num_frames: np.ndarray
    height: np.ndarray
    width: np.ndarray

    def __len__(self) -> int:
        return len(self.label)


@dataclasses.dataclass(frozen=True)
class Clips:
    """What to read for some clips.

    Attributes:
      rows_B: of the video table, int64.
      frames_BT: record numbers, int64.
      boxes_B3: top, left and side of the square crop, in pixels of the stored frame, float32.
      flip_B: whether to mirror, bool.
    """

    rows_B: np.ndarray
    frames_BT: np.ndarray
    boxes_B3: np.ndarray
    flip_B: np.ndarray


@dataclasses.dataclass(frozen=True)
class Views:
    """What test videos are seen through.

    Attributes:
      clips: per video, spread over its length; one is its centre.
      crops: per clip, 1 (centre) or 3 along the longer side.
      frames: T of a clip.
      stride: between its frames, in source frames.
      size: of a crop, pixels.
      short_side: of the scaled video, pixels.
    """

    clips: int
    crops: int
    frames: int
    stride: int
    size: int
    short_side: float

    def __len__(self) -> int:
        """V, views of a video."""
        return self.clips * self.crops


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """How clips are drawn beside their grid.

    Attributes:
      seed: of permutations and augmentation.
      flip: mirror half of the clips.
      inverse_uniform: draw the short side uniformly in its inverse.
    """

    seed: int
    flip: bool
    inverse_uniform: bool


def training_augmentation(data, seed: int) -> Augmentation:
    """What a config's `data` section says of flips and scales."""
    return Augmentation(seed, data.flip, data.inverse_uniform)


def evaluation_views(config, clips: int, crops: int) -> Views:
    """Views of a test video: `clips` times `crops` on the config's grid of evaluation."""
    return Views(
        clips=clips,
        crops=crops,
        frames=config.frames,
        stride=config.data.stride,
        size=config.eval.size,
        short_side=config.eval.short_side,
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
    draws_BD = uniforms(augmentation.seed, first, count)
    rows_B = video_rows(augmentation.seed, len(videos), first, count)
    flip_B = draws_BD[:, _FLIP] < 0.5 if augmentation.flip else np.zeros(count, bool)
    return Clips(
        rows_B=rows_B,
        frames_BT=_random_frames(videos, grid, rows_B, draws_BD),
        boxes_B3=_random_boxes(videos, grid, augmentation.inverse_uniform, rows_B, draws_BD),
        flip_B=flip_B,
    )


def uniforms(seed: int, first: int, count: int) -> np.ndarray:
    """Draws in [0, 1) for positions [first, first + count), `B 8` float64.

    Philox is counter-based: a position's draws are a block of its output, found without the others.
    """
    bits = np.random.Philox(key=_key(seed, _AUGMENTATION), counter=_DRAWS // 4 * first)
    raw = bits.random_raw(count * _DRAWS).reshape(count, _DRAWS)
    return (raw >> np.uint64(11)) * 2.0**-53


def video_rows(seed: int, videos: int, first: int, count: int) -> np.ndarray:
    """Rows of the video table at positions [first, first + count), int64."""
    epochs_B, offsets_B = np.divmod(first + np.arange(count), videos)
    rows_B = np.empty(count, np.int64)
    for epoch in range(int(epochs_B[0]), int(epochs_B[-1]) + 1):
        chosen = epochs_B == epoch
        rows_B[chosen] = _permutation(seed, videos, epoch)[offsets_B[chosen]]
    return rows_B


@functools.lru_cache(maxsize=4)
def _permutation(seed: int, videos: int, epoch: int) -> np.ndarray:
    # Sorting raw bits, unlike Generator.permutation, gives the same order in every NumPy.
    raw = np.random.Philox(key=_key(seed, epoch)).random_raw(videos)
    return np.argsort(raw, kind="stable")


def _key(seed: int, word: int) -> np.ndarray:
    return np.array([seed, word], np.uint64)


def _random_frames(
    videos: VideoTable, grid: Grid, rows_B: np.ndarray, draws_BD: np.ndarray
) -> np.ndarray:
    """A stride from the grid's range, then a start such that the span fits into the video."""
    low, high = grid.strides
    stride_B = low + np.floor(draws_BD[:, _STRIDE] * (high - low + 1)).astype(np.int64)
    span_B = (grid.frames - 1) * stride_B + 1
    starts_B = np.maximum(videos.num_frames[rows_B] - span_B + 1, 1)
    start_B = np.floor(draws_BD[:, _START] * starts_B).astype(np.int64)
    return _clamped(videos, rows_B, start_B[:, None] + stride_B[:, None] * np.arange(grid.frames))


def _clamped(videos: VideoTable, rows_B: np.ndarray, frames_BT: np.ndarray) -> np.ndarray:
    """Record numbers of a video's frames; what lies past its end repeats the last frame."""
    last_B1 = videos.num_frames[rows_B, None] - 1
    return videos.first_frame[rows_B, None] + np.minimum(frames_BT, last_B1)


def _random_boxes(
    videos: VideoTable,
    grid: Grid,
    inverse_uniform: bool,
    rows_B: np.ndarray,
    draws_BD: np.ndarray,
) -> np.ndarray:
    """The crop of h x h from the video scaled to a random short side, in stored pixels."""
    low, high = grid.short_sides
    draw_B = draws_BD[:, _SHORT_SIDE]
    if inverse_uniform:
        short_side_B = 1 / (1 / high + draw_B * (1 / low - 1 / high))
    else:
        short_side_B = low + draw_B * (high - low)
    height_B, width_B = videos.height[rows_B], videos.width[rows_B]
    side_B = grid.size * np.minimum(height_B, width_B) / short_side_B
    top_B = draws_BD[:, _TOP] * (height_B - side_B)
    left_B = draws_BD[:, _LEFT] * (width_B - side_B)
    return np.stack([top_B, left_B, side_B], -1).astype(np.float32)


def decode_windows(videos: VideoTable, rows_N: np.ndarray, boxes_N3: np.ndarray) -> np.ndarray:
    """The pixels that must be decoded for each crop: top, left, height, width, `N 4` int64.

    One more pixel on each side, where there is one, feeds the interpolation at the crop's edge.
    """
    size_N2 = np.stack([videos.height[rows_N], videos.width[rows_N]], -1)
    start_N2 = np.maximum(np.floor(boxes_N3[:, :2]).astype(np.int64) - 1, 0)
    end_N2 = np.ceil(boxes_N3[:, :2] + boxes_N3[:, 2:]).astype(np.int64) + 1
    return np.concatenate([start_N2, np.minimum(end_N2, size_N2) - start_N2], -1)


def common_window(windows_N4: np.ndarray) -> np.ndarray:
    """The smallest window that holds all, `4` int64."""
    start_2 = windows_N4[:, :2].min(0)
    end_2 = (windows_N4[:, :2] + windows_N4[:, 2:]).max(0)
    return np.concatenate([start_2, end_2 - start_2])


def resamplings(boxes_N3: np.ndarray, windows_N4: np.ndarray, size: int) -> np.ndarray:
    """How a decoded window becomes a crop: scale, and translation of rows and columns, `N 3`.

    A pixel centre at x of the window lands at x * scale + translation of the crop; float32.
    """
    scale_N1 = size / boxes_N3[:, 2:]
    corner_N2 = boxes_N3[:, :2] - windows_N4[:, :2]
    return np.concatenate([scale_N1, -corner_N2 * scale_N1], -1).astype(np.float32)


def view_frames(videos: VideoTable, row: int, views: Views) -> np.ndarray:
    """Record numbers of a test video's clips, `clips T`, spread evenly; one clip is the centre."""
    span = (views.frames - 1) * views.stride + 1
    room = max(int(videos.num_frames[row]) - span, 0)
    starts = np.linspace(0, room, views.clips) if views.clips > 1 else np.array([room / 2])
    frames_VT = np.floor(starts).astype(np.int64)[:, None] + views.stride * np.arange(views.frames)
    return _clamped(videos, np.full(views.clips, row), frames_VT)


def view_boxes(videos: VideoTable, row: int, views: Views) -> np.ndarray:
    """Crops of a test video, `crops 3`: the centre, or `crops` along the longer side."""
    height, width = int(videos.height[row]), int(videos.width[row])
    side = views.size * min(height, width) / views.short_side
    along = np.linspace(0, 1, views.crops) if views.crops > 1 else np.array([0.5])
    centre = np.full(views.crops, 0.5)
    top, left = (along, centre) if height > width else (centre, along)
    boxes = [top * (height - side), left * (width - side), np.full(views.crops, side)]
    return np.stack(boxes, -1).astype(np.float32)
