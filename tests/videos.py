"""Small real videos, encoded files and folders of images, and configs that prepare them."""

import fractions
import io
import pathlib
import struct
from collections.abc import Iterator, Sequence

import av
import numpy as np
from ml_collections import ConfigDict
from PIL import Image

from configs.base import get_base


def images(width: int, height: int, count: int) -> Iterator[Image.Image]:
    """Red grows with the column, green with the row, blue with the frame: 10 a frame from 10."""
    columns, rows = np.meshgrid(np.arange(width), np.arange(height))
    for i in range(count):
        planes = [columns * 255 / width, rows * 255 / height, np.full_like(rows, 10 + 10 * i)]
        yield Image.fromarray(np.stack(planes, -1).astype(np.uint8))


def numbers(jpegs: Sequence[bytes]) -> list[int]:
    """Which of the `images` these are."""
    return [round(pixels(jpeg)[..., 2].mean() / 10) - 1 for jpeg in jpegs]


def pixels(jpeg: bytes) -> np.ndarray:
    """A stored frame, `H W 3` float."""
    return np.asarray(Image.open(io.BytesIO(jpeg)), float)


def write(
    path: pathlib.Path,
    count: int = 5,
    size: tuple[int, int] = (32, 24),
    fps: int = 25,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    matrix: Sequence[int] | None = None,
    aspect: fractions.Fraction | None = None,
    times_ms: Sequence[int] | None = None,
    title: str = "",
) -> pathlib.Path:
    """A video file of `images`, by default at a constant rate, otherwise at the times given.

    Args:
      matrix: a, b, c, d of the display matrix of an MP4, which shows pixel (p, q) at
        (a p + c q, b p + d q).
      aspect: of the pixels, width over height.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    milliseconds = fractions.Fraction(1, 1000)
    with av.open(str(path), "w") as container:
        container.metadata["title"] = title
        stream = container.add_stream(codec, rate=fps)
        (stream.width, stream.height), stream.pix_fmt = size, pix_fmt
        stream.bit_rate = 800_000
        if aspect:
            stream.codec_context.sample_aspect_ratio = aspect
        if times_ms is not None:
            stream.time_base = stream.codec_context.time_base = milliseconds
        for i, image in enumerate(images(*size, count)):
            # At once from RGB, FFmpeg 7 leaves chroma unset at the edges of odd sizes.
            frame = av.VideoFrame.from_image(image).reformat(format="yuv444p")
            if times_ms is not None:
                frame.pts, frame.time_base = times_ms[i], milliseconds
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    if matrix:
        _set_matrix(path, *matrix)
    return path


def _set_matrix(path: pathlib.Path, a: int, b: int, c: int, d: int) -> None:
    """Into the track header of an MP4: rows of 16.16, 16.16 and 2.30 fixed point numbers."""
    content = bytearray(path.read_bytes())
    at = content.index(b"tkhd") + 44
    numbers = [v << 16 for v in (a, b, 0, c, d, 0, 0, 0)]
    content[at : at + 36] = struct.pack(">9i", *numbers, 1 << 30)
    path.write_bytes(content)


def write_folder(
    path: pathlib.Path, count: int = 5, size: tuple[int, int] = (32, 24), name: str = "{:05d}.jpg"
) -> pathlib.Path:
    """A folder of `images`, numbered from 1."""
    path.mkdir(parents=True, exist_ok=True)
    for i, image in enumerate(images(*size, count), 1):
        image.save(path / name.format(i), quality=95)
    return path


def write_lines(path: pathlib.Path, *lines: str) -> pathlib.Path:
    """A text file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def write_files(folder: pathlib.Path, *names: str) -> pathlib.Path:
    """Files that are there and not empty, and that is all; for what decodes no video."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return folder


def config_for(source: pathlib.Path, name: str, **prepare) -> ConfigDict:
    """A config whose originals lie in `source` and whose data set comes to lie beside it."""
    config = get_base()
    config.data.name = name
    config.data.dir = str(source.parent / "prepared")
    # Many tests need one split only.
    there = {path.stem for path in source.iterdir()} if source.is_dir() else set()
    if name == "charades":
        config.data.eval_split = "test"
    elif "val" in there and "train" not in there:
        config.data.train_split = "validation"
    elif not there & {"val", "validation", "something-something-v2-validation"}:
        config.data.eval_split = "train"
    config.prepare.source = str(source)
    config.prepare.workers = 1
    config.prepare.update(prepare)
    return config


def write_sound_only(path):
    """Writes a file that holds sound and no video."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16_000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        frame.rate = 16_000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
