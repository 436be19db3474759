"""The paper's Fig. 3 of a study's cells: accuracy against what training costs."""

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from mg_jax.metrics import NAMES
from mg_jax.report.figures import PAGE_STYLE, line_style, png, tick
from mg_jax.report.formatting import flops_unit, time_unit
from mg_jax.report.groups import Group
from mg_jax.study.cells import FACTORS, timed
from mg_jax.study.questions import LABELS

_Curve = list[tuple[float, Group]]  # epoch factors, ascending, and their cells


def has_figure_3(groups: list[Group]) -> bool:
    """Whether a variant has two lengths that have finished, which makes a curve."""
    return any(len(curve) > 1 for curve in _curves(groups).values())


def draw_figure_3(groups: list[Group]) -> bytes:
    """A PNG of three panels, accuracy against training time, operations and iterations.

    A curve for each variant joins its lengths, which are written beside its points; bars are the
    standard deviations over seeds.

    Args:
      groups: cells, named so, with their operations counted, of which `has_figure_3`.
    """
    curves = _curves(groups)
    shown = [group for curve in curves.values() for _, group in curve]
    second, seconds = time_unit(max(group.values["train_s"].mean for group in shown))
    flop, flops = flops_unit(max(group.flops(group.schedule.iterations) for group in shown))
    costs = {
        f"training time, {seconds}": lambda group: group.values["train_s"].mean / second,
        f"training, {flops}": lambda group: group.flops(group.schedule.iterations) / flop,
        "iterations": lambda group: group.schedule.iterations,
    }
    with matplotlib.rc_context(PAGE_STYLE):
        figure = Figure(figsize=(13, 5), layout="constrained")
        panels = figure.subplots(1, len(costs), sharey=True)
        for axes, (label, cost) in zip(panels, costs.items(), strict=True):
            for index, curve in enumerate(curves.values()):
                _draw_curve(axes, index, curve, cost)
            axes.set_xscale("log")
            axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.xaxis.set_major_formatter(tick)
            axes.xaxis.set_minor_formatter(NullFormatter())
            axes.set_xlabel(label)
        panels[0].set_ylabel(f"{NAMES[shown[0].metric]}, %")
        handles, _ = panels[0].get_legend_handles_labels()
        names = [LABELS[name] for name in curves]
        figure.legend(handles, names, loc="outside lower left", ncols=len(names), frameon=False)
        return png(figure)


def _curves(groups: list[Group]) -> dict[str, _Curve]:
    """The finished lengths of every variant that has some."""
    finished = {group.name: group for group in groups if group.finished}
    curves = {
        name: [
            (factor, finished[timed(name, factor)])
            for factor in factors
            if timed(name, factor) in finished
        ]
        for name, factors in FACTORS.items()
    }
    return {name: curve for name, curve in curves.items() if curve}


def _draw_curve(axes: Axes, index: int, curve: _Curve, cost) -> None:
    scores = [group.values[group.metric] for _, group in curve]
    axes.errorbar(
        [cost(group) for _, group in curve],
        [100 * score.mean for score in scores],
        yerr=[100 * (score.deviation or 0) for score in scores],
        capsize=3,
        label=str(index),
        **line_style(index),
    )
    for (factor, group), score in zip(curve, scores, strict=True):
        axes.annotate(
            f"{factor:g}×",
            (cost(group), 100 * score.mean),
            xytext=(4, -11),
            textcoords="offset points",
            fontsize=8,
            color=line_style(index)["color"],
        )
