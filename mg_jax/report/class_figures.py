"""Pictures of an evaluation's confusion of classes and of its calibration."""

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from mg_jax.report.classes import Calibration
from mg_jax.report.figures import PAGE_STYLE, WIDTH, colour, png, shortened

_LONGEST = 18  # letters of a class's name beside a matrix


def confusion_figure(matrix_KK: np.ndarray, classes: list[str], title: str) -> bytes:
    """A confusion matrix as a PNG: rows are classes, columns what their videos were taken for.

    Args:
      matrix_KK: videos, of at most as many classes as have room.
      classes: names of rows and columns.
      title: of the picture.
    """
    K = len(classes)
    names = [shortened(name, _LONGEST) for name in classes]
    with matplotlib.rc_context({**PAGE_STYLE, "axes.grid": False}):
        figure = Figure(figsize=(WIDTH, 1.9 + 0.27 * max(K, 6)), layout="constrained")
        axes = figure.subplots()
        shares_KK = matrix_KK / np.maximum(matrix_KK.sum(1, keepdims=True), 1)
        axes.imshow(shares_KK, cmap="Blues", vmin=0, vmax=1, aspect="auto")
        for (j, k), count in np.ndenumerate(matrix_KK):
            if count:
                dark = shares_KK[j, k] > 0.5
                style = {"color": "white" if dark else "#222222", "ha": "center", "va": "center"}
                axes.text(k, j, str(count), fontsize=12 if K <= 10 else 7, **style)
        axes.set_xticks(range(K), names, rotation=90, parse_math=False)
        axes.set_yticks(range(K), names, parse_math=False)
        axes.set_xlabel("predicted")
        axes.set_ylabel("label")
        axes.set_title(title, loc="left", parse_math=False)
        return png(figure)


def calibration_figure(found: Calibration, title: str) -> bytes:
    """How often scores of each size are right, as a PNG; below it how many there are."""
    with matplotlib.rc_context(PAGE_STYLE):
        figure = Figure(figsize=(WIDTH, 4.4), layout="constrained")
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
        upper.plot([0, 100], [0, 100], color="#777777", linestyle="--", linewidth=1)
        points = 100 * found.confidence_P, 100 * found.right_P
        upper.plot(*points, color=colour(0), marker="o", linewidth=2)
        upper.set_ylabel("right, %")
        upper.set_xlim(0, 100)
        upper.set_ylim(0, 100)
        upper.set_title(title, loc="left", parse_math=False)
        lower.bar(100 * found.confidence_P, found.counts_P, width=6, color=colour(0), log=True)
        lower.set_ylabel("scores")
        lower.set_xlabel("score, %")
        return png(figure)
