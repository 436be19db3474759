"""Videos to measure with: camera movements over real photographs, in formats of data sets."""

import dataclasses
import functools
import pathlib
from collections.abc import Iterator

import av
import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_images

from data.preparation.workers import Pool, Tally
from mg_jax.machine.atomic_file import replaced
from mg_jax.machine.cores import usable_cores
from mg_jax.machine.progress import say


@dataclasses.dataclass(frozen=True)
class Format:
    """How videos are stored.

    Attributes:
      width: of a frame, pixels.
      height: likewise.
      fps: frames per second.
      codec: FFmpeg's name of the encoder.
      suffix: of the files.
      bit_rate: bits per second; None for the encoder's own choice of quality.
      options: of the encoder.
    """

    width: int
    height: int
    fps: int
    codec: str = "libx264"
    suffix: str = ".mp4"
    bit_rate: int | None = None
    options: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        rate = f", {self.bit_rate / 1000:.0f} kbit/s" if self.bit_rate else ""
        return f"{self.width} x {self.height}, {self.fps} fps, {self.codec}{rate}"


# FFmpeg's defaults, as common copies of Kinetics have them: a key frame in 250.
USUAL = Format(340, 256, 30)


def make_videos(
    folder: pathlib.Path, count: int, frames: int, form: Format = USUAL
) -> list[pathlib.Path]:
    """Folders train and validation with two classes of videos; those that are there are kept."""
    paths = []
    for i in range(count):
        split = "train" if i < count - 2 else "validation"
        paths.append(folder / split / ("china", "flower")[i % 2] / f"{i:04d}{form.suffix}")
    todo = [(path, i) for i, path in enumerate(paths) if not path.exists()]
    if todo:
        say(f"making {len(todo)} videos of {frames} frames, {form}, in {folder}; they are kept")
    Pool(usable_cores(), lambda tally: None).run(
        functools.partial(_make, frames=frames, form=form), todo
    )
    return paths


def _make(task: tuple[pathlib.Path, int], tally: Tally, frames: int, form: Format) -> None:
    path, seed = task
    path.parent.mkdir(parents=True, exist_ok=True)
    muxer = form.suffix.removeprefix(".")
    with replaced(path) as unfinished, av.open(str(unfinished), "w", format=muxer) as container:
        stream = container.add_stream(form.codec, rate=form.fps, options=dict(form.options))
        stream.width, stream.height, stream.pix_fmt = form.width, form.height, "yuv420p"
        stream.thread_count = 1
        if form.bit_rate:
            stream.bit_rate = form.bit_rate
        for image_HWC in _scene(seed, frames, form.width, form.height):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image_HWC, "rgb24")))
        container.mux(stream.encode())
    tally.add_video(True)


def _scene(seed: int, frames: int, width: int, height: int) -> Iterator[np.ndarray]:
    """A hand-held camera pans and zooms over a photograph, a piece of another one moves before it.

    With the grain of a sensor, `H W 3` uint8.
    """
    rng = np.random.default_rng(seed)
    photographs = [Image.fromarray(image) for image in load_sample_images().images]
    background, other = photographs[seed % 2], photographs[1 - seed % 2]
    left, top = rng.integers(0, (other.width - 120, other.height - 160))
    actor = other.crop((left, top, left + 120, top + 160))
    scales = rng.uniform(0.6, 0.9, 2) * min(background.width / width, background.height / height)
    corners, path = rng.uniform(0.1, 0.9, (2, 2)), rng.uniform(0, 0.6, (2, 2))
    shake = np.cumsum(rng.normal(0, 0.002, (frames, 2)), 0)
    for t, shaken in zip(np.linspace(0, 1, frames), shake, strict=True):
        size = np.array([width, height]) * (scales[0] + t * (scales[1] - scales[0]))
        corner = np.clip(corners[0] + t * (corners[1] - corners[0]) + shaken, 0, 1)
        start = corner * (np.array(background.size) - size)
        image = background.resize(
            (width, height), Image.Resampling.BICUBIC, (*start, *start + size)
        )
        x, y = (path[0] + np.sin(3 * t) * (path[1] - path[0])) * (width, height)
        image.paste(actor, (round(x), round(y)))
        grain = rng.normal(0, 4, (height, width, 3))
        yield np.clip(np.asarray(image) + grain, 0, 255).astype(np.uint8)
