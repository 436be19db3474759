"""Small real videos whose class is the motion: for demonstrations, studies and tests."""

import pathlib

import numpy as np

from data.builder import VideoBuilder
from data.listing.findings import Findings
from data.listing.videos import Action, Listing, Video
from data.moving_shapes import drawing
from data.preparation.workers import Pool, Tally, progress
from mg_jax.machine.atomic_file import replaced
from mg_jax.machine.lock import in_turn

VIDEOS = {"train": 1024, "validation": 1000}


class Builder(VideoBuilder):
    """Draws and encodes the videos, then prepares their frames."""

    def listing(self, findings: Findings) -> Listing:
        """Draws the videos that are not there yet."""
        folder = pathlib.Path(self._data_dir_root) / "downloads" / "moving_shapes"
        # Of processes that prepare together one draws.
        with in_turn(folder / "lock"):
            splits = {
                split: draw_videos(folder / split, split, count, self.settings.workers)
                for split, count in VIDEOS.items()
            }
        return Listing(list(drawing.MOTIONS), splits)


def draw_videos(folder: pathlib.Path, split: str, count: int, workers: int) -> list[Video]:
    """Draws `count` videos, classes in turn, each from its own seed."""
    folder.mkdir(parents=True, exist_ok=True)
    videos, tasks = [], []
    for i in range(count):
        name = f"{split}_{i:05d}"
        path = folder / f"{name}.mp4"
        label = i % len(drawing.MOTIONS)
        videos.append(Video(name, path, (Action(label),)))
        if not path.exists():
            tasks.append((path, list(drawing.MOTIONS)[label], (list(VIDEOS).index(split), i)))
    with progress(f"drawing {split}", count, count - len(tasks)) as show:
        Pool(workers, show).run(_draw, tasks)
    return videos


def _draw(task: tuple[pathlib.Path, str, tuple[int, int]], tally: Tally) -> None:
    path, motion, seed = task
    with replaced(path) as unfinished:
        drawing.draw_video(unfinished, motion, np.random.default_rng(seed))
    tally.add_video(True)
