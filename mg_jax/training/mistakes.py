"""The most confident mistakes of an evaluation, as small animated pictures of what was seen."""

import pathlib
import shutil

import numpy as np
from absl import logging
from PIL import Image

from data.format.jpeg import DamagedFrame
from mg_jax.input.clips import read_views
from mg_jax.input.datasets import Split
from mg_jax.input.sampling import Views
from mg_jax.machine.atomic_file import replaced, write_json
from mg_jax.workdir.video_scores import MISTAKES, VideoScores

_COUNT = 12  # mistakes
_FRAMES = 12  # of a clip, at most, evenly spread
_SIDE = 128  # pixels; larger frames are scaled down
_QUALITY = 70  # of WebP
_LOOP_MS = 1600  # a clip takes


def confident_mistakes(scores: VideoScores) -> list[tuple[int, int]]:
    """Row and wrong class of the videos that are wrong with the highest scores, those first.

    With one label a video is wrong if another class has a higher score; with several, if a class
    that it is not labelled with has a score of at least one half.
    """
    wrong_NK = np.where(scores.labels_NK > 0, -1.0, np.nan_to_num(scores.scores_NK, nan=-1.0))
    worst_N = wrong_NK.argmax(1)
    highest_N = wrong_NK[np.arange(len(wrong_NK)), worst_N]
    threshold_N = np.full(len(wrong_NK), 0.5)
    if not scores.multi_label:
        threshold_N = np.where(scores.labels_NK > 0, scores.scores_NK, 0).max(1)
    order = np.argsort(-highest_N, kind="stable")
    return [(int(i), int(worst_N[i])) for i in order if highest_N[i] > threshold_N[i]][:_COUNT]


def write_mistakes(
    workdir: pathlib.Path, scores: VideoScores, split: Split, rows_N: np.ndarray, views: Views
) -> None:
    """Writes `mistakes/`: a WebP of each, and at last `mistakes.json`, which lists them.

    Args:
      workdir: of the run; an earlier evaluation's folder is replaced.
      scores: of the evaluation.
      split: that was evaluated.
      rows_N: the split's row of each of the scores' videos.
      views: of which the middle one of each video is shown.
    """
    folder = workdir / MISTAKES
    shutil.rmtree(folder, ignore_errors=True)
    listed = []
    for i, k in confident_mistakes(scores):
        row = int(rows_N[i])
        try:
            frames_THWC = _middle_view(split, row, views)
        except DamagedFrame as error:  # since it was scored
            logging.error("video %s cannot be shown: %s", scores.ids[i], error)
            continue
        folder.mkdir(exist_ok=True)
        name = f"{len(listed) + 1:02}.webp"
        with replaced(folder / name) as unfinished:
            write_animation(unfinished, frames_THWC)
        listed.append(
            {
                "file": name,
                "path": str(scores.ids[i]),
                "label": [scores.classes[j] for j in np.flatnonzero(scores.labels_NK[i])],
                "predicted": scores.classes[k],
                "score": round(float(scores.scores_NK[i, k]), 6),
            }
        )
    if listed:
        write_json(folder / f"{MISTAKES}.json", listed)


def _middle_view(split: Split, row: int, views: Views) -> np.ndarray:
    """The middle view of a video, `T h h 3` uint8, as the network gets it."""
    shape = (len(views), views.frames, views.size, views.size, 3)
    views_VThhC = np.empty(shape, np.uint8)
    read_views(views_VThhC, split.frames.jpegs, split.videos, row, views)
    return views_VThhC[len(views) // 2]


def write_animation(path: pathlib.Path, frames_THWC: np.ndarray) -> None:
    """Writes a clip as an endless animated WebP of at most 12 frames of 128 pixels."""
    T = len(frames_THWC)
    shown = min(T, _FRAMES)
    images = [Image.fromarray(frame) for frame in frames_THWC[np.arange(shown) * T // shown]]
    if images[0].width > _SIDE:
        size = (_SIDE, round(_SIDE * images[0].height / images[0].width))
        images = [image.resize(size, Image.Resampling.LANCZOS) for image in images]
    options = {"quality": _QUALITY, "duration": _LOOP_MS // shown, "loop": 0}
    images[0].save(path, "WEBP", save_all=True, append_images=images[1:], **options)
