"""Video files and folders of frames in, JPEG frames out. No TensorFlow here."""

import dataclasses
import os
import pathlib
from collections.abc import Iterable, Iterator

import av
import numpy as np
from av.stream import Disposition
from av.video.reformatter import Interpolation, VideoReformatter
from PIL import Image, ImageOps

from data.jpeg import encode_jpeg

IMAGES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")

# A video whose frames come this much earlier or later than a constant rate says, in units of the
# time between two frames, has a variable rate. Containers round times to milliseconds.
_IRREGULAR = 0.75

# What decoders raise for damaged files; those of images all but the first.
_DAMAGE = (av.error.FFmpegError, OSError, ValueError, SyntaxError, Image.DecompressionBombError)

# Titles and the like may be in any encoding. PyAV takes that in its stride from version 19 on.
_ANY_TITLE = {} if int(av.__version__.split(".")[0]) >= 19 else {"metadata_errors": "replace"}

_TURNS = {
    1: Image.Transpose.ROTATE_90,
    2: Image.Transpose.ROTATE_180,
    3: Image.Transpose.ROTATE_270,
}


class VideoError(Exception):
    """A video that cannot be used, with the reason."""


@dataclasses.dataclass(frozen=True)
class Frames:
    """A video's frames as they are stored.

    Attributes:
      jpegs: every `step`-th frame, in order of presentation.
      height: pixels.
      width: pixels.
      fps: frames per second of the source, 0 where it does not say.
      source_frames: frames of the source, those left out included.
    """

    jpegs: list[bytes]
    height: int
    width: int
    fps: float
    source_frames: int


def read_frames(
    path: pathlib.Path, short_side: int, quality: int, step: int = 1, fps: float = 0.0
) -> Frames:
    """Decodes a video once and encodes every `step`-th frame.

    Videos are turned as their display matrix says. Those of a variable rate are brought to their
    mean rate, so that equally many frames are equally much time.

    Args:
      path: any file that FFmpeg reads, or a folder of images, one per frame, in order of names.
      short_side: frames whose short side is longer are scaled down to it, pixels.
      quality: of the JPEGs, 1 ... 95.
      step: keep frames 0, step, 2 step ...
      fps: of a folder of images.

    Raises:
      VideoError: if the video is missing, cannot be decoded or has no frames.
    """
    try:
        if path.is_dir():
            frames = _folder_images(path)
            return _encoded(frames, short_side, quality, step, fps)
        rate, irregular = _frame_rate(path)
        with _open(path) as container:
            frames = _decoded(container)
            frames = _at_constant_rate(frames, rate) if irregular else (f for _, f in frames)
            return _encoded(frames, short_side, quality, step, rate)
    except _DAMAGE as error:
        # Some errors of decoders carry no text of their own.
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise VideoError(reason) from error


def _encoded(frames: Iterable, short_side: int, quality: int, step: int, fps: float) -> Frames:
    jpegs, size, count = [], None, 0
    scaler = VideoReformatter()  # keeps its tables from frame to frame
    for count, frame in enumerate(frames, 1):
        if (count - 1) % step == 0:
            size = size or _scaled(frame.width, frame.height, short_side)
            image = _image(scaler, frame, *size)
            jpegs.append(encode_jpeg(image, quality))
    if not jpegs:
        raise VideoError("no frames")
    return Frames(jpegs, height=image.height, width=image.width, fps=fps, source_frames=count)


def _open(path: pathlib.Path):
    return av.open(str(path), **_ANY_TITLE)


def _video_stream(container) -> av.VideoStream:
    for stream in container.streams.video:
        if not stream.disposition & Disposition.attached_pic:  # the cover of a sound file
            return stream
    raise VideoError("no video stream")


def _decoded(container) -> Iterator[tuple[float | None, av.VideoFrame]]:
    """Time in seconds and frame, in order of presentation."""
    stream = _video_stream(container)
    # Workers are processes, one per core.
    stream.thread_count = 1
    for frame in container.decode(stream):
        yield frame.time, frame


def _frame_rate(path: pathlib.Path) -> tuple[float, bool]:
    """Frames per second, and whether frames come at irregular times; decodes nothing."""
    with _open(path) as container:
        stream = _video_stream(container)
        times = [
            float(packet.pts * packet.time_base)
            for packet in container.demux(stream)
            if packet.size and packet.pts is not None
        ]
        stated = float(stream.average_rate or 0)
    times_N = np.sort(times)
    if len(times_N) < 3 or times_N[-1] <= times_N[0]:
        return stated, False
    rate = (len(times_N) - 1) / (times_N[-1] - times_N[0])
    late_N = (times_N - times_N[0]) * rate - np.arange(len(times_N))
    if np.abs(late_N).max() > _IRREGULAR:
        return rate, True
    # What the container says is the exact rate, unless it is wrong.
    agree = abs(stated / rate - 1) * len(times_N) <= _IRREGULAR
    return (stated if agree else rate), False


def _at_constant_rate(frames: Iterator, rate: float) -> Iterator[av.VideoFrame]:
    """At each tick the frame that is on screen: repeats some and leaves some out."""
    start, tick, shown = None, 0, None
    for time, frame in frames:
        if time is None:
            continue
        start = time if start is None else start
        while shown is not None and tick < (time - start) * rate - 1e-6:
            yield shown
            tick += 1
        shown = frame
    if shown is not None:
        yield shown


def _folder_images(folder: pathlib.Path) -> Iterator[Image.Image]:
    for path in image_files(folder):
        with Image.open(path) as image:
            yield ImageOps.exif_transpose(image).convert("RGB")


def image_files(folder: pathlib.Path) -> list[pathlib.Path]:
    """The images of a folder in order: numbers in names count as numbers."""
    with os.scandir(folder) as entries:
        names = [e.name for e in entries if pathlib.Path(e.name).suffix.lower() in IMAGES]
    names.sort(key=lambda name: (len(name), name))
    return [folder / name for name in names]


def _image(
    scaler: VideoReformatter, frame: av.VideoFrame | Image.Image, width: int, height: int
) -> Image.Image:
    if isinstance(frame, Image.Image):
        same = frame.size == (width, height)
        return frame if same else frame.resize((width, height), Image.Resampling.BICUBIC)
    scaled = scaler.reformat(frame, width, height, "rgb24", interpolation=Interpolation.BICUBIC)
    image = Image.fromarray(scaled.to_ndarray())
    # The display matrix turns counter-clockwise, as Pillow does.
    quarter_turns = round(frame.rotation / 90) % 4
    return image.transpose(_TURNS[quarter_turns]) if quarter_turns else image


def _scaled(width: int, height: int, short_side: int) -> tuple[int, int]:
    scale = min(1.0, short_side / min(width, height))
    return round(width * scale), round(height * scale)
