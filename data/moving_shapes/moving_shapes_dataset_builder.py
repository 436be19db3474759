"""Small real videos whose class is the motion: for demonstrations, studies and tests."""

import pathlib
from typing import ClassVar

import numpy as np
import tensorflow_datasets as tfds

from data import builder
from data.moving_shapes import drawing

VIDEOS = {"train": 1024, "validation": 400}
SHORT_SIDE = 48  # of the stored frames, pixels


class Builder(tfds.core.GeneratorBasedBuilder):
    """Draws and encodes the videos, then prepares their frames."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar = {"1.0.0": "Four directions of motion."}

    def _info(self) -> tfds.core.DatasetInfo:
        return self.dataset_info_from_configs(
            description="Textured videos of shapes that move in one of four directions.",
            features=builder.features(drawing.MOTIONS),
            disable_shuffling=True,
            metadata=tfds.core.MetadataDict(),
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager):
        writer = builder.VideoWriter(SHORT_SIDE)
        splits = {}
        for split, count in VIDEOS.items():
            folder = pathlib.Path(dl_manager.download_dir) / "moving_shapes" / split
            splits |= writer.splits(split, draw_videos(folder, split, count))
        self.info.metadata.update(writer.metadata)
        return splits

    def _generate_examples(self):
        raise NotImplementedError("the splits' generators come from VideoWriter")


def draw_videos(folder: pathlib.Path, split: str, count: int) -> list[builder.Video]:
    """Draws `count` videos, classes in turn, each from its own seed."""
    folder.mkdir(parents=True, exist_ok=True)
    motions = list(drawing.MOTIONS)
    videos = []
    for i in range(count):
        name = f"{split}_{i:05d}"
        videos.append(builder.Video(name, folder / f"{name}.mp4", motions[i % len(motions)]))
    seeds = [(list(VIDEOS).index(split), i) for i in range(count)]
    for _ in builder.map_in_workers(_draw, zip(videos, seeds, strict=True)):
        pass
    return videos


def _draw(task: tuple[builder.Video, tuple[int, int]]) -> None:
    video, seed = task
    drawing.draw_video(video.path, video.label, np.random.default_rng(seed))
