"""Small real videos whose class is the motion: for demonstrations, studies and tests."""

import dataclasses
import pathlib
from typing import ClassVar

import numpy as np

from data.builder import VideoBuilder
from data.listing.findings import Findings
from data.listing.videos import Action, Listing, Video
from data.moving_shapes import drawing
from data.preparation.workers import Pool, Tally, progress
from mg_jax.errors import UserError
from mg_jax.machine.atomic_file import replaced
from mg_jax.machine.lock import in_turn

_SPLITS = ("train", "validation")  # in the order of their seeds


@dataclasses.dataclass(frozen=True)
class Variant:
    """A task that is drawn.

    Attributes:
      videos: their number, by split.
      motions: direction (x, y) of length 1, by class.
      scene: what each video shows.
    """

    videos: dict[str, int]
    motions: dict[str, tuple[float, float]]
    scene: drawing.Scene = drawing.THREE_SHAPES


PLAIN = Variant({"train": 1024, "validation": 1000}, drawing.MOTIONS)
VARIANTS = {
    name: Variant({"train": videos, "validation": 1000}, drawing.EIGHT_MOTIONS, drawing.CROWD)
    for name, videos in {"crowd1": 160, "crowd1_more": 256, "crowd1_few": 96}.items()
}


class Builder(VideoBuilder):
    """Draws and encodes the videos, then prepares their frames.

    `moving_shapes` alone has four classes, and a trained network hardly confuses them. The variant
    `crowd1` has eight, distractors, and 160 instead of 1,024 training videos; `crowd1_more` has 256
    and `crowd1_few` 96.
    """

    VARIANTS: ClassVar = f"{', '.join(VARIANTS)}, or no variant"
    VARIANT_OPTIONAL = True

    def listing(self, findings: Findings) -> Listing:
        """Draws the missing videos.

        Raises:
          UserError: for an unknown variant.
        """
        if self.variant and self.variant not in VARIANTS:
            raise UserError(
                f"data.name=moving_shapes/{self.variant} is not known; use moving_shapes or "
                f"{', '.join(f'moving_shapes/{name}' for name in VARIANTS)}"
            )
        variant = VARIANTS.get(self.variant, PLAIN)
        name = "_".join(filter(None, ("moving_shapes", self.variant)))
        folder = pathlib.Path(self._data_dir_root) / "downloads" / name
        # Of processes that prepare together one draws.
        with in_turn(folder / "lock"):
            splits = {
                split: draw_videos(folder / split, split, count, self.settings.workers, variant)
                for split, count in variant.videos.items()
            }
        return Listing(list(variant.motions), splits)


def draw_videos(
    folder: pathlib.Path,
    split: str,
    count: int,
    workers: int,
    variant: Variant = PLAIN,
) -> list[Video]:
    """Draws `count` videos, classes in turn, each from its own seed."""
    folder.mkdir(parents=True, exist_ok=True)
    videos, tasks = [], []
    for i in range(count):
        name = f"{split}_{i:05d}"
        path = folder / f"{name}.mp4"
        label = i % len(variant.motions)
        videos.append(Video(name, path, (Action(label),)))
        if not path.exists():
            motion = list(variant.motions.values())[label]
            tasks.append((path, motion, (_SPLITS.index(split), i), variant.scene))
    with progress(f"drawing {split}", count, count - len(tasks)) as show:
        Pool(workers, show).run(_draw, tasks)
    return videos


def _draw(
    task: tuple[pathlib.Path, tuple[float, float], tuple[int, int], drawing.Scene], tally: Tally
) -> None:
    path, motion, seed, scene = task
    with replaced(path) as unfinished:
        drawing.draw_video(unfinished, motion, np.random.default_rng(seed), scene)
    tally.add_video(True)
