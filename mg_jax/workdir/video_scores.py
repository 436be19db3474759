"""What an evaluation leaves of every video: `scores.npz`, `predictions.csv`, `mistakes/`."""

import csv
import dataclasses
import json
import pathlib
import zipfile
import zlib
from typing import Any

import numpy as np

from mg_jax.machine.atomic_file import replaced
from mg_jax.workdir.config import WorkdirError

SCORES = "scores.npz"
PREDICTIONS = "predictions.csv"
MISTAKES = "mistakes"  # a folder, and in it a list of this name
TOP = 5  # classes that are named for each video


@dataclasses.dataclass(frozen=True)
class VideoScores:
    """Scores and labels of the videos of an evaluation; damaged videos are left out.

    Attributes:
      ids: of the videos, their paths in the data set, str.
      scores_NK: probabilities, float32.
      labels_NK: 1 for the labels of a video, 0 for the others, uint8.
      classes: names of the K classes.
      multi_label: a video has any number of labels, not one.
      step: iterations that the weights were trained for.
      split: that the videos are from.
    """

    ids: np.ndarray
    scores_NK: np.ndarray
    labels_NK: np.ndarray
    classes: list[str]
    multi_label: bool
    step: int
    split: str


def write_scores(workdir: pathlib.Path, scores: VideoScores) -> None:
    """Writes both files; each is there whole or not at all."""
    arrays = {f.name: np.asarray(getattr(scores, f.name)) for f in dataclasses.fields(scores)}
    with replaced(workdir / SCORES) as unfinished, unfinished.open("wb") as file:
        np.savez_compressed(file, **arrays)
    with (
        replaced(workdir / PREDICTIONS) as unfinished,
        unfinished.open("w", encoding="utf-8", newline="") as file,
    ):
        rows = csv.writer(file)
        top = min(TOP, len(scores.classes))
        rows.writerow(["path", "label", *top_columns(top)])
        for name, scores_K, labels_K in zip(
            scores.ids, scores.scores_NK, scores.labels_NK, strict=True
        ):
            label = ";".join(scores.classes[k] for k in np.flatnonzero(labels_K))
            best = top_classes(scores_K, scores.classes)
            rows.writerow([name, label, *(cell for pair in best for cell in pair)])


def top_columns(top: int) -> list[str]:
    """Names of the columns that hold the best classes of a video and their scores."""
    return [name for k in range(1, top + 1) for name in (f"class_{k}", f"score_{k}")]


def top_classes(scores_K: np.ndarray, classes: list[str]) -> list[tuple[str, str]]:
    """The best classes and their scores as text, best first; of equal scores the lower index."""
    best = np.argsort(-scores_K, kind="stable")[:TOP]
    return [(classes[k], f"{scores_K[k]:.6f}") for k in best]


def read_scores(workdir: pathlib.Path) -> VideoScores | None:
    """What `write_scores` has written; None where there is none.

    Raises:
      WorkdirError: if the file is damaged.
    """
    path = workdir / SCORES
    if not path.exists():
        return None
    try:
        with np.load(path, allow_pickle=False) as content:
            found = {f.name: content[f.name] for f in dataclasses.fields(VideoScores)}
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise WorkdirError(
            f"{path} is damaged ({error}); --mode=eval with the run's flags writes it again"
        ) from error
    plain = {name: found[name].item() for name in ("multi_label", "step", "split")}
    return VideoScores(**{**found, **plain, "classes": found["classes"].tolist()})


def read_mistakes(workdir: pathlib.Path) -> list[dict[str, Any]]:
    """The most confident mistakes: `path`, `label`, `predicted`, `score`, and `webp`, a clip.

    Empty where there are none, or while an evaluation is writing them.
    """
    folder = workdir / MISTAKES
    try:
        listed = json.loads((folder / f"{MISTAKES}.json").read_text("utf-8"))
        return [{**one, "webp": (folder / one["file"]).read_bytes()} for one in listed]
    except (OSError, ValueError, KeyError, TypeError):
        return []
