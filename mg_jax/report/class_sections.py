"""The page's sections on what runs get wrong: classes, confused pairs, calibration, mistakes."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from mg_jax.report.class_figures import calibration_figure, confusion_figure
from mg_jax.report.classes import (
    calibration,
    class_results,
    confused_pairs,
    confusion,
    shown_classes,
)
from mg_jax.report.formatting import NOTHING
from mg_jax.report.groups import Group
from mg_jax.report.picture import Picture, data_uri
from mg_jax.report.table import Row, Table
from mg_jax.workdir.video_scores import VideoScores, read_mistakes, read_scores


@dataclasses.dataclass(frozen=True)
class Clip:
    """A mistake as the page shows it: a moving picture and what it is.

    Attributes:
      data_uri: an address that holds the WebP.
      label: the names of its classes.
      predicted: the wrong class and its score.
      path: of the video.
    """

    data_uri: str
    label: str
    predicted: str
    path: str


@dataclasses.dataclass(frozen=True)
class ClassSection:
    """What one run of a group gets right and wrong.

    Attributes:
      title: names the group.
      about: which scores these are.
      classes: a row for each class, the worst first.
      pairs: the classes that are confused most; None where none are, or with several labels.
      pictures: confusion matrix and calibration.
      clips: the most confident mistakes.
    """

    title: str
    about: str
    classes: Table
    pairs: Table | None
    pictures: list[Picture]
    clips: list[Clip]


def class_sections(groups: Sequence[Group], file_names: Sequence[str]) -> list[ClassSection]:
    """A section for each group of which a run has kept its videos' scores; of the first such run.

    Args:
      groups: that the page compares.
      file_names: of the groups, for pictures.

    Raises:
      UserError: for a damaged file of scores.
    """
    sections = []
    for group, file_name in zip(groups, file_names, strict=True):
        for run in group.runs:
            scores = read_scores(run.folder)
            if scores is not None:
                clips = [_clip(one) for one in read_mistakes(run.folder)]
                sections.append(_section(group.name, run.name, file_name, scores, clips))
                break
    return sections


def _section(
    group: str, run: str, file_name: str, scores: VideoScores, clips: list[Clip]
) -> ClassSection:
    found = calibration(scores)
    pictures = [
        Picture(
            f"calibration_{file_name}.png",
            calibration_figure(found),
            f"how often scores of each size are right in {group}",
        )
    ]
    matrix_KK, pairs = confusion(scores), None
    if matrix_KK is not None and len(shown := shown_classes(matrix_KK)):
        classes = [scores.classes[k] for k in shown]
        title = "confusion"
        if len(shown) < len(scores.classes):
            title = f"{len(shown)} classes that are confused most"
        matrix = confusion_figure(matrix_KK[shown][:, shown], classes, title)
        shows = f"confusion matrix of {group}, {title}"
        pictures.insert(0, Picture(f"confusion_{file_name}.png", matrix, shows))
        pairs = _pairs_table(matrix_KK, scores.classes)
    about = (
        f"{run}, step {scores.step:,}: {len(scores.ids):,} videos of {scores.split}, "
        f"{len(scores.classes):,} classes; expected calibration error {found.error:.1%}"
    )
    return ClassSection(
        f"What {group} gets wrong", about, _class_table(scores), pairs, pictures, clips
    )


def _class_table(scores: VideoScores) -> Table:
    heads = ["videos", *([] if scores.multi_label else ["accuracy, %"]), "average precision, %"]
    rows = []
    for result in class_results(scores):
        shares = [] if scores.multi_label else [result.accuracy]
        shares.append(result.average_precision)
        cells = [NOTHING if share is None else f"{100 * share:.1f}" for share in shares]
        rows.append(Row(result.name, [f"{result.videos:,}", *cells]))
    return Table(heads, rows)


def _pairs_table(matrix_KK: np.ndarray, classes: list[str]) -> Table | None:
    rows = [
        Row(pair.label, [pair.predicted, f"{pair.videos:,}", f"{100 * pair.share:.1f}"])
        for pair in confused_pairs(matrix_KK, classes)
    ]
    return Table(["taken for", "videos", "of the class's, %"], rows) if rows else None


def _clip(mistake: dict[str, Any]) -> Clip:
    return Clip(
        data_uri(mistake["webp"], "webp"),
        " · ".join(mistake["label"]) or "no label",
        f"{mistake['predicted']} {mistake['score']:.0%}",
        mistake["path"],
    )
