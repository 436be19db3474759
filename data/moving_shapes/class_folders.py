"""Class folders of drawn videos, as people have them of their own."""

import pathlib

import numpy as np

from data.moving_shapes.drawing import CROWD, EIGHT_MOTIONS, draw_video
from mg_jax.errors import UserError
from mg_jax.machine.atomic_file import replaced_folder


def draw_class_folders(folder: pathlib.Path, videos: list[int], seed: int) -> int:
    """Writes `folder/CLASS/NUMBER.mp4` for the eight directions of motion, with distractors.

    Args:
      folder: new, or empty.
      videos: of each class, in the order of `EIGHT_MOTIONS`; a single number is for every class.
      seed: not negative; each video follows from it, its class and its number.

    Returns:
      How many videos were written.

    Raises:
      UserError: for a folder that holds something, or numbers of videos that do not fit.
      OSError: if the folder cannot be written; then there is nothing of it.
    """
    each = videos * len(EIGHT_MOTIONS) if len(videos) == 1 else videos
    if len(each) != len(EIGHT_MOTIONS) or min(each) < 1:
        raise UserError(
            f"--videos={','.join(map(str, videos))} must be one number, or "
            f"{len(EIGHT_MOTIONS)}, for {', '.join(EIGHT_MOTIONS)}; each at least 1"
        )
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise UserError(f"--to={folder} is there already; give a new folder, or remove it")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with replaced_folder(folder) as unfinished:
        for label, (name, motion) in enumerate(EIGHT_MOTIONS.items()):
            (unfinished / name).mkdir()
            for i in range(each[label]):
                rng = np.random.default_rng((seed, label, i))
                draw_video(unfinished / name / f"{i:03d}.mp4", motion, rng, CROWD)
    return sum(each)
