"""The comparison as rows of text: what runs reached, what it cost, and how their configs differ."""

import dataclasses
import json
from collections.abc import Callable
from typing import Any

from mg_jax.metrics import NAMES
from mg_jax.report.comparison import Comparison, Quantity
from mg_jax.report.formatting import (
    NOTHING,
    flops_unit,
    number,
    percent,
    signed,
    time_unit,
    times,
)
from mg_jax.report.groups import Group, Spread
from mg_jax.report.sentences import state

# Rows of the comparison that the overview takes up.
_WALL_CLOCK, _TRAINING = "speed-up: wall clock", "speed-up: training time"
_ITERATIONS = "fewer iterations"


@dataclasses.dataclass(frozen=True)
class Row:
    """A row of a table.

    Attributes:
      label: what the row is about.
      cells: a text for each column; what follows a line break is a remark, shown in small print.
    """

    label: str
    cells: list[str]


@dataclasses.dataclass(frozen=True)
class Table:
    """Rows with the heads of their cells' columns."""

    heads: list[str]
    rows: list[Row]


def overview(comparison: Comparison) -> Table:
    """What matters most, with a row for each group."""
    sections = main_table(comparison)
    chosen = {row.label: row.cells for rows in sections.values() for row in rows}
    metric = NAMES[comparison.groups[0].metric]
    wanted = {
        _WALL_CLOCK: "wall clock faster",
        f"{metric}, %": f"{metric}, %",
        f"{metric}, difference": f"{metric} difference",
        _TRAINING: "training faster",
        _ITERATIONS: "fewer iterations",
    }
    heads = [head for label, head in wanted.items() if label in chosen]
    columns = [chosen[label] for label in wanted if label in chosen]
    rows = zip(comparison.groups, zip(*columns, strict=True), strict=True)
    return Table(heads, [Row(group.name, list(cells)) for group, cells in rows])


def main_table(comparison: Comparison) -> dict[str, list[Row]]:
    """Rows by the title of their section; each row has a cell for each group."""
    groups = comparison.groups
    longest = max((g.values["wall_clock_s"].mean for g in groups if g.values), default=0)
    sections = {
        "": _runs(groups),
        "Result": results(groups),
        f"Against {comparison.reference.name}": _ratios(comparison) if comparison.others else [],
        "Cost of the whole training": costs(groups),
        "Time": clocks(groups, *time_unit(longest)),
    }
    return {title: rows for title, rows in sections.items() if rows}


def settings_table(comparison: Comparison) -> list[Row]:
    """The settings in which runs differ."""
    return [
        Row(name, [", ".join(map(_setting, values)) for values in of_groups])
        for name, of_groups in comparison.differing_settings().items()
    ]


def _setting(value: Any) -> str:
    return value if isinstance(value, str) and value else json.dumps(value)


def runs_table(comparison: Comparison) -> Table:
    """A row for each run, with its folder."""
    rows = [
        Row(f"{run.name}\n{run.folder}", [group.name, str(run.config.seed), state((run,))])
        for group in comparison.groups
        for run in group.runs
    ]
    return Table(["column", "seed", "state"], rows)


def _runs(groups: tuple[Group, ...]) -> list[Row]:
    counted = [g.finished or g.runs for g in groups]
    seeds = [", ".join(str(run.config.seed) for run in runs) for runs in counted]
    return [
        Row("schedule", [g.method for g in groups]),
        Row("seeds", seeds),
        Row("state", [state(g.runs) for g in groups]),
    ]


def results(groups: tuple[Group, ...]) -> list[Row]:
    """Accuracies and loss."""
    texts = {f"{text}, %": (name, percent) for name, text in NAMES.items()}
    texts["loss"] = ("loss", lambda loss: number(loss, 3))
    return _rows(
        groups,
        {
            label: lambda group, name=name, text=text: _value(group, name, text, "centre view, ")
            for label, (name, text) in texts.items()
        },
    )


def costs(groups: tuple[Group, ...]) -> list[Row]:
    """What does not depend on the machine: iterations, epochs, clips and, if counted, FLOPs."""
    rows = {
        "iterations": lambda g: f"{g.schedule.iterations:,}",
        "epochs": lambda g: f"{g.epochs:.1f}",
        "clips": lambda g: f"{g.schedule.clips:,}",
    }
    if groups[0].clip_flops is not None:
        unit, name = flops_unit(max(g.flops(g.schedule.iterations) for g in groups))
        rows[name] = lambda g: f"{g.flops(g.schedule.iterations) / unit:,.3g}"
    return _rows(groups, rows)


def clocks(groups: tuple[Group, ...], unit: float, name: str) -> list[Row]:
    """The wall clock and its parts.

    Args:
      groups: of the columns.
      unit: of time, in seconds.
      name: of the unit.
    """
    digits = 1 if unit == 1 else 2
    labels = {
        "wall_clock_s": "wall clock",
        "train_s": "training",
        "compile_s": "compilation",
        "eval_s": "evaluation",
    }

    def text(seconds: Spread) -> str:
        return number(seconds, digits, 1 / unit)

    return _rows(
        groups,
        {
            f"{label}, {name}": lambda group, clock=clock: _value(group, clock, text, "until ")
            for clock, label in labels.items()
        },
    )


def _value(group: Group, name: str, text: Callable[[Spread], str], early: str) -> str:
    """A value of the finished runs; before there is one, with a remark of which step it is."""
    if name not in group.values:
        return ""
    if group.finished:
        return text(group.values[name])
    return f"{text(group.values[name])}\n{early}step {group.evaluated[-1]:,}"


def _ratios(comparison: Comparison) -> list[Row]:
    def ratio(quantity: Quantity) -> Callable[[Group], str]:
        def text(group: Group) -> str:
            found = comparison.ratio(group, quantity)
            return NOTHING if found is None else times(found)

        return text

    def difference(group: Group) -> str:
        found = comparison.points(group)
        return NOTHING if found is None else f"{signed(found)} points"

    rows = {
        _WALL_CLOCK: ratio("wall_clock_s"),
        _TRAINING: ratio("train_s"),
        _ITERATIONS: ratio("iterations"),
        "fewer FLOPs": ratio("flops"),
        f"{NAMES[comparison.groups[0].metric]}, difference": difference,
    }
    return _rows(comparison.groups, rows)


def _rows(groups: tuple[Group, ...], texts: dict[str, Callable[[Group], str]]) -> list[Row]:
    """The rows of which at least one cell says something, by what gives a group's cell."""
    rows = [Row(label, [text(group) for group in groups]) for label, text in texts.items()]
    return [
        Row(row.label, [cell or NOTHING for cell in row.cells]) for row in rows if any(row.cells)
    ]
