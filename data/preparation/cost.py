"""The disk space and core-hours that videos will take, estimated from some frames of a few."""

import dataclasses
import itertools
import os
import pathlib
import shutil
import statistics
import time
from collections.abc import Iterator

import av
from av.video.reformatter import VideoReformatter
from PIL import Image

from data.format.jpeg import encode_jpeg
from data.listing.image_folder import ImageFolder
from data.listing.videos import Video
from data.preparation.display import display_of, scaled
from data.preparation.parts import Stored
from data.preparation.video_file import (
    VideoError,
    VideoFile,
    announced_frames,
    as_video_errors,
    decoded,
    open_video,
    video_stream,
)
from mg_jax.errors import UserError

_VIDEOS = 8
_FRAMES = 4  # of each, for their size
_TIMED = 32  # of each, in a row, for what they cost
# A frame takes at least this in its file, which bounds lengths that a jump of the clock made up.
_FEWEST_BYTES = 16


@dataclasses.dataclass(frozen=True)
class _Estimate:
    source_frames: float
    jpeg_bytes: float  # of one frame
    size: tuple[int, int]
    frame_s: float  # CPU time of a source frame, stored or not


@dataclasses.dataclass(frozen=True)
class Cost:
    """What a video costs, on average.

    Attributes:
      source_frames: of the video.
      stored_bytes: of its JPEGs.
      core_s: seconds of one core.
      size: of a stored frame, width and height, pixels.
      sampled: the number of videos that were looked at.
    """

    source_frames: float
    stored_bytes: float
    core_s: float
    size: tuple[int, int]
    sampled: int


def estimate(videos: list[Video], stored: Stored) -> Cost | None:
    """The mean cost of a video; None if none of some evenly spread ones can be read."""
    step = max(1, len(videos) // _VIDEOS)
    estimates = [_estimate(video.path, stored) for video in videos[::step][:_VIDEOS]]
    sampled = [estimate for estimate in estimates if estimate is not None]
    if not sampled:
        return None
    frame_step = stored.frame_step
    return Cost(
        source_frames=statistics.mean(e.source_frames for e in sampled),
        stored_bytes=statistics.mean(e.source_frames * e.jpeg_bytes / frame_step for e in sampled),
        core_s=statistics.mean(e.source_frames * e.frame_s for e in sampled),
        size=sampled[-1].size,
        sampled=len(sampled),
    )


def check_space(
    videos: list[Video], folder: pathlib.Path, stored: Stored, *, is_told: bool = True
) -> float:
    """Prints the disk space and core-hours that the videos will take.

    Args:
      videos: to prepare.
      folder: of the parts.
      stored: how frames are stored.
      is_told: False on all but the first process of several.

    Returns:
      The number of their source frames, estimated; 0 where it is unknown.

    Raises:
      UserError: if less disk is free.
    """
    cost = estimate(videos, stored)
    if cost is None:
        if is_told:
            print(
                f"disk space and time that {len(videos):,} videos will take: unknown, since none "
                f"of the {min(len(videos), _VIDEOS)} looked at can be read and tells its length"
            )
        return 0.0
    need, free = cost.stored_bytes * len(videos), shutil.disk_usage(folder).free
    if is_told:
        width, height = cost.size
        print(
            f"{len(videos):,} videos will take about {in_words(need)} in {folder.parent}, "
            f"{in_words(free)} free, and {core_time(cost.core_s * len(videos))}: "
            f"{in_words(cost.stored_bytes)} and {cost.source_frames / stored.frame_step:.0f} "
            f"frames of {width} x {height} a video, as estimated from some frames of "
            f"{cost.sampled}",
            flush=True,
        )
    if need > free:
        raise UserError(
            f"that is more than the {in_words(free)} that are free in {folder}; choose another "
            "--config.data.dir, or a smaller --config.prepare.short_side or quality, or a larger "
            "frame_step"
        )
    return cost.source_frames * len(videos)


def core_time(seconds: float) -> str:
    """Seconds of one core in a fitting unit."""
    if seconds < 100:
        return f"{seconds:.2g} core-seconds"
    if seconds < 6_000:
        return f"{seconds / 60:.2g} core-minutes"
    return f"{seconds / 3_600:,.3g} core-hours"


def in_words(count: float) -> str:
    """Bytes with three digits and a unit."""
    for unit in ("B", "KB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"


def _estimate(path: pathlib.Path, stored: Stored) -> _Estimate | None:
    """Of one video; None if it cannot be read or does not tell its length."""
    try:
        if os.path.isdir(path):
            return _estimate_of_folder(path, stored)
        return _estimate_of_file(path, stored)
    except VideoError:
        return None  # it is reported when it is prepared


def _estimate_of_folder(path: pathlib.Path, stored: Stored) -> _Estimate | None:
    with as_video_errors():
        folder = ImageFolder(path)
    count = len(folder.files)
    if not count:
        return None
    spread = [folder.files[count * i // _FRAMES] for i in range(_FRAMES)]
    begin = time.thread_time()
    images = list(decoded(map(folder.image, spread)))
    read_s = time.thread_time() - begin
    size = scaled(*images[0].size, stored.short_side)
    images = [image.resize(size, Image.Resampling.BICUBIC) for image in images]
    jpeg_bytes = _mean_jpeg_bytes(images, stored.quality)
    encode_s = time.thread_time() - begin - read_s
    frame_s = (read_s + encode_s / stored.frame_step) / _FRAMES
    return _Estimate(count, jpeg_bytes, size, frame_s)


def _estimate_of_file(path: pathlib.Path, stored: Stored) -> _Estimate | None:
    with open_video(path) as container:
        stream = video_stream(container)
        count = min(announced_frames(container, stream), path.stat().st_size // _FEWEST_BYTES)
        scaler = VideoReformatter()
        images = [
            display_of(frame, stream, stored.short_side).image(scaler, frame)
            for frame in decoded(_spread_frames(container, stream))
        ]
    if not images or not count:
        return None
    jpeg_bytes = _mean_jpeg_bytes(images, stored.quality)
    return _Estimate(count, jpeg_bytes, images[-1].size, _frame_s(path, stored))


def _spread_frames(
    container: av.container.InputContainer, stream: av.VideoStream
) -> Iterator[av.VideoFrame]:
    """The key frames before evenly spread times, since decoding begins at key frames."""
    start, duration = container.start_time or 0, container.duration or 0
    for i in range(_FRAMES):
        if i and duration:
            container.seek(start + duration * i // _FRAMES)
        frame = next(container.decode(stream), None)
        if frame is not None:
            yield frame


def _frame_s(path: pathlib.Path, stored: Stored) -> float:
    """CPU time of decoding a frame, and of storing it where it is stored, from the first ones."""
    with open_video(path) as container:
        file, scaler = VideoFile(container, path), VideoReformatter()
        count, begin = 0, time.thread_time()
        for count, frame in enumerate(itertools.islice(file.frames(), _TIMED), 1):
            if (count - 1) % stored.frame_step == 0:
                display = display_of(frame, file.stream, stored.short_side)
                _jpeg_bytes(display.image(scaler, frame), stored.quality)
        return (time.thread_time() - begin) / max(count, 1)


def _mean_jpeg_bytes(images: list[Image.Image], quality: int) -> float:
    return statistics.mean(_jpeg_bytes(image, quality) for image in images)


def _jpeg_bytes(image: Image.Image, quality: int) -> int:
    with as_video_errors():
        return len(encode_jpeg(image, quality))
