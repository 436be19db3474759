"""Video files in, JPEG frames out. No TensorFlow here: worker processes import this module."""

import dataclasses
import io
import pathlib
from collections.abc import Iterator

import av
from PIL import Image


class VideoError(Exception):
    """A video that cannot be used, with the reason."""


@dataclasses.dataclass(frozen=True)
class Frames:
    """A video's frames as they are stored.

    Attributes:
      jpegs: encoded frames in order of presentation.
      height: pixels.
      width: pixels.
      fps: frames per second of the source, 0 where the file does not say.
    """

    jpegs: list[bytes]
    height: int
    width: int
    fps: float


def read_frames(path: pathlib.Path, short_side: int, quality: int) -> Frames:
    """Decodes a video once and encodes every frame.

    Args:
      path: any file that FFmpeg reads.
      short_side: frames whose short side is longer are scaled down to it, pixels.
      quality: of the JPEGs, 1 ... 95.

    Raises:
      VideoError: if the file is missing, cannot be decoded or has no frames.
    """
    jpegs, size, fps = [], (0, 0), 0.0
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise VideoError("no video stream")
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            fps = float(stream.average_rate or 0)
            for image in _images(container, stream, short_side):
                size = image.size
                jpegs.append(encode_jpeg(image, quality))
    except (av.error.FFmpegError, OSError) as error:
        raise VideoError(error.strerror or str(error)) from error
    if not jpegs:
        raise VideoError("no frames")
    return Frames(jpegs, height=size[1], width=size[0], fps=fps)


def _images(container, stream, short_side: int) -> Iterator[Image.Image]:
    size = None
    for frame in container.decode(stream):
        size = size or _scaled(frame.width, frame.height, short_side)
        yield frame.to_image(width=size[0], height=size[1])


def _scaled(width: int, height: int, short_side: int) -> tuple[int, int]:
    scale = min(1.0, short_side / min(width, height))
    return round(width * scale), round(height * scale)


def encode_jpeg(image: Image.Image, quality: int) -> bytes:
    """An RGB image as JPEG."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()
