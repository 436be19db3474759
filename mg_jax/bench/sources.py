"""Videos to measure with: real photographs, panned and zoomed over, in H.264 at Kinetics' size."""

import functools
import pathlib
from collections.abc import Callable

import av
import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_images

from data.workers import Pool, cores

WIDTH, HEIGHT, FPS = 340, 256, 30


def make_videos(folder: pathlib.Path, count: int, frames: int) -> list[pathlib.Path]:
    """Class folders train/still, train/fast and validation/... with the videos; kept if there."""
    paths = []
    for i in range(count):
        split = "train" if i < count - 2 else "validation"
        paths.append(folder / split / ("slow", "fast")[i % 2] / f"{i:04d}.mp4")
    todo = [(path, i) for i, path in enumerate(paths) if not path.exists()]
    Pool(cores(), lambda tally: None).run(functools.partial(_make, frames=frames), todo)
    return paths


def _make(task: tuple[pathlib.Path, int], count: Callable[[bool], None], frames: int) -> None:
    path, seed = task
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".tmp.mp4")
    with av.open(str(unfinished), "w") as container:
        # FFmpeg's defaults, as common copies of Kinetics have them: a key frame in 250.
        stream = container.add_stream("libx264", rate=FPS)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.thread_count = 1
        for image in _pan(seed, frames):
            container.mux(stream.encode(av.VideoFrame.from_image(image)))
        container.mux(stream.encode())
    unfinished.rename(path)
    count(True)


def _pan(seed: int, frames: int):
    """A window that moves and grows over a photograph from start to end."""
    rng = np.random.default_rng(seed)
    photographs = load_sample_images().images
    photograph = Image.fromarray(photographs[seed % len(photographs)])
    scales = rng.uniform(0.6, 1.0, 2) * min(photograph.width / WIDTH, photograph.height / HEIGHT)
    corners = rng.uniform(size=(2, 2))
    for t in np.linspace(0, 1, frames):
        scale = scales[0] + t * (scales[1] - scales[0])
        width, height = WIDTH * scale, HEIGHT * scale
        x, y = corners[0] + t * (corners[1] - corners[0])
        left, top = x * (photograph.width - width), y * (photograph.height - height)
        box = (left, top, left + width, top + height)
        yield photograph.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC, box)
