"""A schedule as a picture (paper, Fig. 2): the mini-batch over time, the learning rate below."""

import itertools
import pathlib

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from mg_jax.grid import BaseGrid, Grid
from mg_jax.machine.atomic_file import replaced
from mg_jax.schedule import Schedule

# Of shapes whose clips have 1/8, 1/4, 1/2 and all of the base grid's pixels; the others for shapes
# that share one of these with another shape.
_COLOURS = ("#4c78a8", "#72b7b2", "#eeca3b", "#e45756")
_FURTHER = ("#b279a2", "#9d755d", "#54a24b", "#f58518", "#ff9da6", "#bab0ac")
# Strength of a shape's colour for its grids in the short cycle: its own size, H/√2, H/2.
_TINTS = (1, 0.55, 0.28)
_RATES = 2000  # points of the learning rate's curve


def draw_plan(schedule: Schedule, title: str, path: pathlib.Path) -> None:
    """Writes the schedule's picture as a PNG."""
    with replaced(path) as unfinished:
        plan_figure(schedule, title).savefig(unfinished, dpi=150, format="png")


def plan_figure(schedule: Schedule, title: str) -> Figure:
    """Clips, frames, size and learning rate over the iterations, in panels from top to bottom.

    A short cycle, which changes size and batch at every iteration, is drawn as nested boxes, the
    smallest in front, coarser grids paler.
    """
    figure = Figure(figsize=(10, 7), layout="constrained")
    panels = figure.subplots(4, 1, sharex=True, height_ratios=(3, 2, 3, 3))
    base = schedule.recipe.base
    figure.suptitle(
        f"{title}: {schedule.iterations:,} iterations, base grid {grid_text(base)}",
        x=0.01,
        ha="left",
    )
    _draw_legend(figure, schedule)
    for axes, name in zip(panels, ("batch", "frames", "size"), strict=False):
        _draw_boxes(axes, schedule, name)
    labels = ("clips (log scale)", "frames", "pixels a side", "learning rate")
    for axes, label in zip(panels, labels, strict=True):
        axes.set_ylabel(label)
        axes.spines[["top", "right"]].set_visible(False)
    _draw_rates(panels[-1], schedule)
    panels[-1].set_xlabel("iteration")
    panels[-1].set_xlim(0, schedule.iterations)
    panels[-1].xaxis.set_major_formatter("{x:,.0f}")
    return figure


def _draw_rates(axes: Axes, schedule: Schedule) -> None:
    """One line, or with a short-cycle rate one for each of its grids, as pale as the grid's box."""
    places = max(len(phase.grids) for phase in schedule.phases) if schedule.short_cycle_rate else 1
    steps = np.unique(np.linspace(0, schedule.iterations - 1, _RATES).astype(int))
    for place in range(places):
        on_it = steps - steps % places + place
        on_it = np.unique(on_it[on_it < schedule.iterations])
        rates = [schedule.learning_rate(int(i)) for i in on_it]
        axes.plot(on_it, rates, color=_tint("#444444", places - 1 - place))
    axes.set_yscale("log")


def _draw_boxes(axes: Axes, schedule: Schedule, name: str) -> None:
    colours = shape_colours(schedule)
    values = set()
    for phase in schedule.phases:
        # From the long cycle's own grid to the coarsest; of equal ones the former counts.
        grids = list(dict.fromkeys(reversed(phase.grids)))
        levels = {getattr(grid, name): level for level, grid in reversed(list(enumerate(grids)))}
        values.update(levels)
        for height, level in sorted(levels.items(), reverse=True):
            axes.bar(
                phase.start,
                height,
                width=phase.end - phase.start,
                align="edge",
                color=_tint(colours[phase.grids[-1]], level),
                edgecolor="white",
                linewidth=0.6,
            )
    if name == "batch":
        axes.set_yscale("log", base=2)
        axes.set_ylim(min(values) / 2)
    axes.set_yticks(sorted(values), [f"{value:,}" for value in sorted(values)])
    axes.minorticks_off()


def _tint(colour: str, level: int) -> tuple[float, ...]:
    """A colour for the grid that is `level` places coarser than the long cycle's."""
    return tuple(1 - _TINTS[level] * (1 - part) for part in to_rgb(colour))


def _draw_legend(figure: Figure, schedule: Schedule) -> None:
    """The shapes of the long cycle, and that the grids of the short cycle are paler."""
    patches = shape_patches(schedule)
    if any(len(set(phase.grids)) > 1 for phase in schedule.phases):
        label = "paler: short cycle"
        patches.append(Patch(color=_tint("#777777", 1), label=label))
    figure.legend(
        handles=patches,
        loc="outside lower left",
        ncols=len(patches),
        title="clips × frames × size²",
        alignment="left",
        frameon=False,
    )


def shape_patches(schedule: Schedule, alpha: float = 1) -> list[Patch]:
    """A legend's entry for each of the schedule's long-cycle shapes, in order of first use."""
    return [
        Patch(color=colour, alpha=alpha, label=grid_text(grid))
        for grid, colour in shape_colours(schedule).items()
    ]


def grid_text(grid: Grid | BaseGrid) -> str:
    """Clips × frames × size²."""
    return f"{grid.batch:,} × {grid.frames} × {grid.size}²"


def shape_colours(schedule: Schedule) -> dict[Grid, str]:
    """A colour for each long-cycle shape, in order of first use.

    It is told by the pixels of a clip against the base grid's, the same in all pictures, unless
    another shape of the schedule has it already.
    """
    base, further = schedule.recipe.base, itertools.cycle(_FURTHER)
    colours: dict[Grid, str] = {}
    for grid in dict.fromkeys(phase.grids[-1] for phase in schedule.phases):
        factor = base.frames * base.size**2 / (grid.frames * grid.size**2)
        colour = _COLOURS[3 - min(round(np.log2(factor)), 3)]
        colours[grid] = next(further) if colour in colours.values() else colour
    return colours
