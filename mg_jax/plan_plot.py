"""A schedule as a picture (paper, Fig. 2): the mini-batch over time, the learning rate below."""

import pathlib

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mg_jax.atomic_file import replaced
from mg_jax.grid import Grid
from mg_jax.schedule import Phase, Schedule

# By how much smaller than the base grid's a phase's clips are: 8, 4, 2 times, and not.
_COLOURS = ("#4c78a8", "#72b7b2", "#eeca3b", "#e45756")
_RATES = 2000  # points of the learning rate's curve


def draw_plan(schedule: Schedule, title: str, path: pathlib.Path) -> None:
    """Draws clips, frames, size and learning rate over the iterations as a PNG.

    Where a short cycle changes the size and the batch at every iteration, its grids are boxes in
    one another, the smallest in front.
    """
    figure = Figure(figsize=(10, 7), layout="constrained")
    panels = figure.subplots(4, 1, sharex=True, height_ratios=(3, 2, 3, 3))
    base = schedule.recipe.base
    figure.suptitle(
        f"{title}: {schedule.iterations:,} iterations, base grid {base.batch} x {base.frames} x "
        f"{base.size}^2\ncolour: the long cycle's shape; pale: the short cycle's, in turn",
        x=0.01,
        ha="left",
    )
    for axes, name in zip(panels, ("batch", "frames", "size"), strict=False):
        _draw_boxes(axes, schedule, name)
    labels = ("clips (log scale)", "frames", "pixels a side", "learning rate")
    for axes, label in zip(panels, labels, strict=True):
        axes.set_ylabel(label)
        axes.spines[["top", "right"]].set_visible(False)
    steps = np.unique(np.linspace(0, schedule.iterations - 1, _RATES).astype(int))
    panels[-1].plot(steps, [schedule.learning_rate(int(i)) for i in steps], color="#444444")
    panels[-1].set_yscale("log")
    panels[-1].set_xlabel("iteration")
    panels[-1].set_xlim(0, schedule.iterations)
    panels[-1].xaxis.set_major_formatter("{x:,.0f}")
    with replaced(path) as unfinished:
        figure.savefig(unfinished, dpi=150, format="png")


def _draw_boxes(axes: Axes, schedule: Schedule, name: str) -> None:
    base = schedule.recipe.base
    values = set()
    for phase in schedule.phases:
        heights = sorted({getattr(grid, name) for grid in phase.grids}, reverse=True)
        values.update(heights)
        for height in heights:
            axes.bar(
                phase.start,
                height,
                width=phase.end - phase.start,
                align="edge",
                color=_colour(phase, base.frames, base.size),
                edgecolor="white",
                linewidth=0.6,
                alpha=1 if height == heights[-1] else 0.45,
            )
    if name == "batch":
        axes.set_yscale("log", base=2)
        axes.set_ylim(min(values) / 2)
    axes.set_yticks(sorted(values), [str(value) for value in sorted(values)])
    axes.minorticks_off()


def _colour(phase: Phase, frames: int, size: int) -> str:
    largest: Grid = phase.grids[-1]
    factor = frames * size**2 / (largest.frames * largest.size**2)
    return _COLOURS[3 - min(round(np.log2(factor)), 3)]
