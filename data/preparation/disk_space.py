"""The disk space that videos will take as JPEGs, estimated from a few frames of a few of them."""

import dataclasses
import pathlib
import shutil
import statistics
from collections.abc import Iterator

import av
from av.video.reformatter import VideoReformatter
from PIL import Image

from data.format.jpeg import encode_jpeg
from data.listing.image_folder import ImageFolder
from data.listing.videos import Video
from data.preparation.display import display_of, scaled
from data.preparation.parts import Stored
from data.preparation.video_file import announced_frames, open_video, video_stream
from mg_jax.errors import UserError

_VIDEOS = 8
_FRAMES = 4  # of each
# A frame takes at least this in its file, which bounds lengths that a jump of the clock made up.
_FEWEST_BYTES = 16


@dataclasses.dataclass(frozen=True)
class _Estimate:
    source_frames: float
    jpeg_bytes: float  # of one frame
    size: tuple[int, int]


def check_space(
    videos: list[Video], folder: pathlib.Path, stored: Stored, *, is_told: bool = True
) -> float:
    """Prints the disk space that the videos will take.

    Args:
      videos: to prepare.
      folder: of the parts.
      stored: how frames are stored.
      is_told: False on all but the first process of several.

    Returns:
      The number of their source frames, estimated; 0 where it is unknown.

    Raises:
      UserError: if less is free.
    """
    step = max(1, len(videos) // _VIDEOS)
    tried = videos[::step][:_VIDEOS]
    estimates = [_estimate(video.path, stored) for video in tried]
    sampled = [estimate for estimate in estimates if estimate is not None]
    if not sampled:
        print(
            f"disk space that {len(videos):,} videos will take: unknown, since none of the "
            f"{len(tried)} looked at can be read and tells its length"
        )
        return 0.0
    source_frames = statistics.mean(estimate.source_frames for estimate in sampled)
    stored_frames = source_frames / stored.frame_step
    mean = statistics.mean(e.source_frames * e.jpeg_bytes / stored.frame_step for e in sampled)
    need, free = mean * len(videos), shutil.disk_usage(folder).free
    width, height = sampled[-1].size
    print(
        f"{len(videos):,} videos will take about {in_words(need)} in {folder.parent}, "
        f"{in_words(free)} free: {in_words(mean)} and {stored_frames:.0f} frames of "
        f"{width} x {height} a video, as estimated from a few frames of {len(sampled)}",
        flush=True,
    )
    if need > free:
        raise UserError(
            f"that is more than the {in_words(free)} that are free in {folder}; choose another "
            "--config.data.dir, or a smaller --config.prepare.short_side or quality, or a larger "
            "frame_step"
        )
    return source_frames * len(videos)


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
        if path.is_dir():
            return _estimate_of_folder(path, stored)
        return _estimate_of_file(path, stored)
    except Exception:
        return None  # it is reported when it is prepared


def _estimate_of_folder(path: pathlib.Path, stored: Stored) -> _Estimate | None:
    folder = ImageFolder(path)
    count = len(folder.files)
    indices = [count * i // _FRAMES for i in range(_FRAMES)] if count else []
    images = [folder.image(folder.files[index]) for index in indices]
    size = scaled(*images[0].size, stored.short_side) if images else None
    images = [image.resize(size, Image.Resampling.BICUBIC) for image in images]
    return _from_images(images, count, stored.quality)


def _estimate_of_file(path: pathlib.Path, stored: Stored) -> _Estimate | None:
    with open_video(path) as container:
        stream = video_stream(container)
        count = min(announced_frames(container, stream), path.stat().st_size // _FEWEST_BYTES)
        scaler = VideoReformatter()
        images = [
            display_of(frame, stream, stored.short_side).image(scaler, frame)
            for frame in _spread_frames(container, stream)
        ]
    return _from_images(images, count, stored.quality)


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


def _from_images(images: list[Image.Image], count: float, quality: int) -> _Estimate | None:
    if not images or not count:
        return None
    jpeg_bytes = statistics.mean(len(encode_jpeg(image, quality)) for image in images)
    return _Estimate(count, jpeg_bytes, images[-1].size)
