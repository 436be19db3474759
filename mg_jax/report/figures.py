"""The report's pictures, drawn narrow so that they can be read on a phone."""

import io
import math
from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from mg_jax.metrics import NAMES
from mg_jax.report.curves import AccuracyCurve, Axis, TrainingCurve
from mg_jax.report.groups import Group
from mg_jax.tools.plan_plot import shape_colours, shape_patches

# Okabe and Ito's colours, which colour-blind readers can tell apart, but for the yellow.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
_MARKERS = "os^Dv<>"
_DASHES = ("-", "--", ":", "-.")
PAGE_STYLE = {
    "font.size": 12,
    "axes.titlesize": 13,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e4e4e4",
    "axes.axisbelow": True,
}
_STAR = {"marker": "*", "markersize": 15, "markeredgecolor": "white"}
WIDTH, _DPI = 4.8, 220  # inches; 12 points are 12 pixels where the picture is 370 wide
_LONGEST = 42  # letters of a name that fit into a legend
_BAND = 0.28  # opacity of the bands that show the grid


def colour(index: int) -> str:
    """The colour of a group, by its place among the groups."""
    return COLOURS[index % len(COLOURS)]


def line_style(index: int) -> dict[str, str]:
    """Colour, marker and dashes of a group, by its place; no two of the first 49 are alike."""
    rounds = index // len(COLOURS)
    return {
        "color": colour(index),
        "marker": _MARKERS[(index + rounds) % len(_MARKERS)],
        "linestyle": _DASHES[rounds % len(_DASHES)],
    }


def accuracy_figure(axis: Axis, groups: Sequence[Group], curves: list[AccuracyCurve]) -> bytes:
    """Accuracy against a cost as a PNG: a curve for each group, a star for its final result."""
    with matplotlib.rc_context(PAGE_STYLE):
        metric = NAMES[groups[0].metric]
        handles = [
            Line2D([], [], markersize=6, **line_style(index)) for index in range(len(groups))
        ]
        names = [group.name for group in groups]
        if any(curve.final is not None for curve in curves):
            handles.append(Line2D([], [], color="#777777", linestyle="", **_STAR))
            names.append("at the end, on all views")
        figure = Figure(figsize=(WIDTH, 3.5 + 0.24 * len(names)), layout="constrained")
        axes = figure.subplots()
        for index, curve in enumerate(curves):
            _draw_accuracy(axes, index, curve, axis.unit)
        axes.set_title(f"{metric} against {axis.title}", loc="left")
        axes.set_xlabel(axis.label)
        axes.set_ylabel(f"{metric}, %")
        axes.set_xlim(left=0)
        low, high = axes.get_ylim()
        axes.set_ylim(max(low, -2), min(high, 102))
        axes.xaxis.set_major_formatter(tick)
        _legend(figure, handles, names)
        return png(figure)


def _draw_accuracy(axes: Axes, index: int, curve: AccuracyCurve, unit: float) -> None:
    """Draws the mean over the runs with its deviation as a band, single runs faint."""
    style = line_style(index)
    if len(curve.runs) > 1:
        for points_P2 in curve.runs:
            axes.plot(points_P2[:, 0] / unit, points_P2[:, 1], color=colour(index), alpha=0.35)
    cost_P, accuracy_P = curve.mean_P2[:, 0] / unit, curve.mean_P2[:, 1]
    if curve.deviation_P is not None:
        low_P, high_P = accuracy_P - curve.deviation_P, accuracy_P + curve.deviation_P
        axes.fill_between(cost_P, low_P, high_P, color=colour(index), alpha=0.2, linewidth=0)
    axes.plot(cost_P, accuracy_P, linewidth=2, markersize=5, **style)
    if curve.final is not None:
        cost, accuracy = curve.final
        axes.errorbar(
            cost.mean / unit,
            accuracy.mean,
            xerr=cost.deviation / unit if cost.deviation else None,
            yerr=accuracy.deviation,
            color=colour(index),
            capsize=4,
            zorder=3,
            **_STAR,
        )


def training_figure(
    group: Group, curves: dict[str, TrainingCurve], limits: dict[str, tuple[float, float]]
) -> bytes:
    """Scalars of training over the iterations as a PNG; coloured bands behind them show the grid.

    Args:
      group: whose runs are drawn.
      curves: by the scalar's name.
      limits: of the vertical axes, by the scalar's name, the same for all groups.
    """
    with matplotlib.rc_context({**PAGE_STYLE, "axes.grid": False}):
        patches = shape_patches(group.schedule, _BAND)
        height = 1.35 + 1.75 * len(curves) + 0.24 * math.ceil(len(patches) / 2)
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        panels = figure.subplots(len(curves), 1, sharex=True, squeeze=False)[:, 0]
        for axes, (name, curve) in zip(panels, curves.items(), strict=True):
            _draw_bands(axes, group)
            _draw_training(axes, curve)
            axes.set_ylabel("loss" if name == "loss" else f"{NAMES[name]}, %")
            axes.set_ylim(limits[name])
        panels[0].set_title(shortened(group.name), loc="left", parse_math=False)
        panels[-1].set_xlim(0, group.schedule.iterations)
        panels[-1].set_xlabel("iterations")
        panels[-1].xaxis.set_major_formatter(tick)
        figure.legend(
            handles=patches,
            loc="outside lower left",
            ncols=2,
            title="clips × frames × size²",
            alignment="left",
            frameon=False,
        )
        return png(figure)


def _draw_bands(axes: Axes, group: Group) -> None:
    """Draws a band for each phase of the schedule, in the colour of its long-cycle shape."""
    colours = shape_colours(group.schedule)
    for phase in group.schedule.phases:
        fill = colours[phase.grids[-1]]
        axes.axvspan(phase.start, phase.end, color=fill, alpha=_BAND, linewidth=0)


def _draw_training(axes: Axes, curve: TrainingCurve) -> None:
    if len(curve.runs_RP) > 1:
        for row_P in curve.runs_RP:
            _draw_known(axes, curve.steps_P, row_P, color="#222222", alpha=0.3, linewidth=1)
    _draw_known(axes, curve.steps_P, curve.mean_P, color="#222222", linewidth=1.6)


def _draw_known(axes: Axes, x_P: np.ndarray, y_P: np.ndarray, **style) -> None:
    known_P = ~np.isnan(y_P)
    axes.plot(x_P[known_P], y_P[known_P], **style)


def _legend(figure: Figure, handles: list[Line2D], names: list[str]) -> None:
    # The names are set afterwards: matplotlib leaves out labels that begin with _.
    blank = [" "] * len(names)
    legend = figure.legend(
        handles, blank, loc="outside lower left", frameon=False, borderaxespad=0.2
    )
    for text, name in zip(legend.get_texts(), names, strict=True):
        text.set_parse_math(False)
        text.set_text(shortened(name))


def shortened(name: str, longest: int = _LONGEST) -> str:
    """The name without its middle, where it is too long."""
    half = longest // 2
    return name if len(name) <= longest else f"{name[:half]}…{name[-half:]}"


def tick(value: float, _: int) -> str:
    """A number on an axis, without a power of ten."""
    return f"{value:,.10g}"


def png(figure: Figure) -> bytes:
    """The picture as a PNG."""
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=_DPI, format="png")
    return buffer.getvalue()
