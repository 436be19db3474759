"""The report's tables as text: what runs reached, what it cost, and how their configs differ."""

import dataclasses
import json
from collections.abc import Callable

from mg_jax.metrics import NAMES
from mg_jax.report.cost import training_flops
from mg_jax.report.groups import Group, Spread, measured
from mg_jax.report.runs import TRAINING_VIDEOS
from mg_jax.report.units import flops_unit, signed, time_unit

SPACE = "\N{NO-BREAK SPACE}"  # so that a number stays on a line
_NOTHING = "\N{EN DASH}"
# Rows of the comparison that the overview takes up.
_TRAINING, _WALL_CLOCK = "speed-up: training time", "speed-up: wall clock"
_ITERATIONS = "fewer iterations"


@dataclasses.dataclass(frozen=True)
class Row:
    """A row of a table: what it is about, and a text for each group; a second line is a remark."""

    label: str
    cells: list[str]


@dataclasses.dataclass(frozen=True)
class Compared:
    """A group with its numbers.

    Attributes:
      group: the group.
      values: metrics and seconds, of `groups.measured`.
      flops: operations of its whole training.
    """

    group: Group
    values: dict[str, Spread]
    flops: float

    @property
    def state(self) -> str:
        """How far its runs are."""
        group = self.group
        done, of = len(group.finished), len(group.runs)
        if done == of:
            return "finished"
        open_runs = [run for run in group.runs if run.summary is None]
        running = [f"{run.step:,}" for run in open_runs if run.diverged is None]
        diverged = [f"{run.step:,}" for run in open_runs if run.diverged is not None]
        parts = [
            f"{done} of {of} runs finished" if done else "",
            f"diverged at step {' and '.join(diverged)}" if diverged else "",
            f"step {' and '.join(running)} of {group.schedule.iterations:,}" if running else "",
        ]
        return ", ".join(filter(None, parts))

    @property
    def accuracy(self) -> str:
        """The metric that counts, for a sentence; of unfinished runs the newest evaluation's."""
        name = self.group.metric
        return f"{NAMES[name]} {number(self.values[name], 1, 100)} %"


def compared(groups: list[Group], by_clip: list[dict[tuple[int, int], float]]) -> list[Compared]:
    """The numbers of groups, by operations of training on a clip of each frames and size."""
    return [
        Compared(
            group,
            measured(group),
            training_flops(group.schedule, group.schedule.iterations, flops),
        )
        for group, flops in zip(groups, by_clip, strict=True)
    ]


def number(value: Spread, digits: int, scale: float = 1) -> str:
    """A mean with its deviation, where it has one."""
    text = f"{scale * value.mean:,.{digits}f}"
    if value.deviation is not None:
        text += f"{SPACE}±{SPACE}{scale * value.deviation:,.{digits}f}"
    return text


def gain(first: Compared, other: Compared, name: str) -> float | None:
    """How many times less of `name`, in seconds, another group took; both must have finished."""
    if not (first.group.finished and other.group.finished):
        return None
    return first.values[name].mean / other.values[name].mean


def points(first: Compared, other: Compared) -> float | None:
    """How many percent points better another group is in the end; both must have finished."""
    if not (first.group.finished and other.group.finished):
        return None
    metric = first.group.metric
    return 100 * (other.values[metric].mean - first.values[metric].mean)


def overview(groups: list[Compared]) -> tuple[list[str], list[Row]]:
    """What matters most, a row for each group: the heads of its columns, and the rows."""
    sections = main_table(groups)
    chosen = {row.label: row.cells for rows in sections.values() for row in rows}
    metric = NAMES[groups[0].group.metric]
    wanted = {
        f"{metric}, %": f"{metric}, %",
        _TRAINING: "training faster",
        f"{metric}, difference": f"{metric} difference",
        _WALL_CLOCK: "wall clock faster",
        _ITERATIONS: "fewer iterations",
    }
    heads = [head for label, head in wanted.items() if label in chosen]
    cells = [chosen[label] for label in wanted if label in chosen]
    return heads, [
        Row(group.group.name, [row[index] for row in cells]) for index, group in enumerate(groups)
    ]


def main_table(groups: list[Compared]) -> dict[str, list[Row]]:
    """The comparison as sections of rows, each row with a cell for each group."""
    first, *others = groups
    sections = {
        "": _runs(groups),
        "Result": _results(groups),
        f"Against {first.group.name}": _against(groups) if others else [],
        "Cost of the whole training": _costs(groups),
        "Time": _times(groups),
    }
    return {title: rows for title, rows in sections.items() if rows}


def _runs(groups: list[Compared]) -> list[Row]:
    counted = [g.group.finished or g.group.runs for g in groups]
    seeds = [", ".join(str(run.config.seed) for run in runs) for runs in counted]
    return [
        Row("schedule", [g.group.method for g in groups]),
        Row("seeds", seeds),
        Row("state", [g.state for g in groups]),
    ]


def _results(groups: list[Compared]) -> list[Row]:
    def shown(name: str, digits: int, scale: float) -> Callable[[Compared], str]:
        return lambda group: _shown(group, name, digits, scale, "centre view, ")

    rows = [(f"{text}, %", shown(name, 1, 100)) for name, text in NAMES.items()]
    return _rows(groups, [*rows, ("loss", shown("loss", 3, 1))])


def _shown(group: Compared, name: str, digits: int, scale: float, early: str) -> str:
    """A number of the finished runs; before there is one, with a remark of which step it is."""
    if name not in group.values:
        return ""
    text = number(group.values[name], digits, scale)
    if group.group.finished:
        return text
    return f"{text}\n{early}step {group.group.evaluated[-1]:,}"


def _against(groups: list[Compared]) -> list[Row]:
    first = groups[0]

    def times(ratio: float | None) -> str:
        return _NOTHING if ratio is None else f"{ratio:.2f}×"

    def difference(group: Compared) -> str:
        found = points(first, group)
        return _NOTHING if found is None else f"{signed(found)} points"

    def seconds(name: str) -> Callable[[Compared], str]:
        return lambda group: times(gain(first, group, name))

    iterations = first.group.schedule.iterations
    return _rows(
        groups,
        [
            (_TRAINING, seconds("train_s")),
            (_WALL_CLOCK, seconds("wall_clock_s")),
            (_ITERATIONS, lambda g: times(iterations / g.group.schedule.iterations)),
            ("fewer FLOPs", lambda g: times(first.flops / g.flops)),
            (f"{NAMES[first.group.metric]}, difference", difference),
        ],
    )


def _costs(groups: list[Compared]) -> list[Row]:
    unit, name = flops_unit(max(g.flops for g in groups))

    def epochs(group: Compared) -> str:
        of_all = group.group.epochs
        return _NOTHING if of_all is None else f"{of_all:.1f}"

    return _rows(
        groups,
        [
            ("iterations", lambda g: f"{g.group.schedule.iterations:,}"),
            ("epochs", epochs),
            ("clips", lambda g: f"{g.group.schedule.clips:,}"),
            (name, lambda g: f"{g.flops / unit:,.3g}"),
        ],
    )


def _times(groups: list[Compared]) -> list[Row]:
    walls = [g.values["wall_clock_s"].mean for g in groups if "wall_clock_s" in g.values]
    unit, name = time_unit(max(walls, default=0))
    digits = 1 if unit == 1 else 2

    def shown(clock: str) -> Callable[[Compared], str]:
        return lambda group: _shown(group, clock, digits, 1 / unit, "until ")

    labels = {
        "wall_clock_s": "wall clock",
        "train_s": "training",
        "compile_s": "compilation",
        "eval_s": "evaluation",
    }
    return _rows(groups, [(f"{label}, {name}", shown(clock)) for clock, label in labels.items()])


def _rows(groups: list[Compared], kinds: list[tuple[str, Callable[[Compared], str]]]) -> list[Row]:
    """Rows of which at least one cell says something."""
    rows = [Row(label, [show(group) for group in groups]) for label, show in kinds]
    return [
        Row(row.label, [cell or _NOTHING for cell in row.cells]) for row in rows if any(row.cells)
    ]


def differing_settings(groups: list[Group]) -> list[Row]:
    """The settings in which any two runs differ; where those of a group do, all its values.

    Training videos differ where two runs that know theirs do.
    """
    runs = [run for group in groups for run in group.runs]
    names = dict.fromkeys(name for run in runs for name in run.settings)
    rows = []
    for name in names:
        cells = [
            ", ".join(dict.fromkeys(_setting(run.settings.get(name)) for run in group.runs))
            for group in groups
        ]
        known = [run for run in runs if name != TRAINING_VIDEOS or name in run.settings]
        if len({_setting(run.settings.get(name)) for run in known}) > 1:
            rows.append(Row(name, cells))
    return rows


def _setting(value) -> str:
    if value is None:
        return "not set"
    return value if isinstance(value, str) and value else json.dumps(value)
