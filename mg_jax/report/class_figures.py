"""Pictures of an evaluation's confusion of classes and of its calibration."""

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from mg_jax.report.classes import Calibration
from mg_jax.report.figures import PAGE_STYLE, WIDTH, colour, png, shortened

_LONGEST = 18  # letters of a class's name beside a matrix
_FAR = 50  # ratio of counts that only a logarithmic axis shows


def confusion_figure(matrix_KK: np.ndarray, classes: list[str], title: str) -> bytes:
    """A confusion matrix as a PNG: rows are classes, columns what their videos were taken for.

    Args:
      matrix_KK: videos, of at most as many classes as have room.
      classes: names of rows and columns.
      title: of the picture.
    """
    K = len(classes)
    names = [f"{shortened(name, _LONGEST)}  {k}" for k, name in enumerate(classes, 1)]
    with matplotlib.rc_context({**PAGE_STYLE, "axes.grid": False}):
        figure = Figure(figsize=(WIDTH, 1.2 + 0.27 * max(K, 6)), layout="constrained")
        axes = figure.subplots()
        shares_KK = matrix_KK / np.maximum(matrix_KK.sum(1, keepdims=True), 1)
        axes.imshow(shares_KK, cmap="Blues", vmin=0, vmax=1, aspect="auto")
        for (j, k), count in np.ndenumerate(matrix_KK):
            if count:
                dark = shares_KK[j, k] > 0.5
                style = {"color": "white" if dark else "#222222", "ha": "center", "va": "center"}
                axes.text(k, j, str(count), fontsize=12 if K <= 10 else 9, **style)
        axes.set_xticks(range(K), range(1, K + 1), fontsize=12 if K <= 10 else 10)
        axes.set_yticks(range(K), names, parse_math=False)
        axes.set_xlabel("predicted")
        figure.suptitle(title, x=0.01, ha="left", fontsize=13)
        return png(figure)


def calibration_figure(found: Calibration) -> bytes:
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
        upper.set_title("calibration", loc="left")
        counts_P = found.counts_P
        log = counts_P.max() > _FAR * counts_P.min()
        lower.bar(100 * found.confidence_P, counts_P, width=6, color=colour(0), log=bool(log))
        lower.yaxis.set_major_formatter("{x:,.0f}")
        lower.yaxis.set_minor_formatter(NullFormatter())
        lower.set_ylabel("scores")
        lower.set_xlabel("score, %")
        return png(figure)
