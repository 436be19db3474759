"""What the figures show as numbers: accuracy against what it costs, and training as it went."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from mg_jax.metrics import NAMES
from mg_jax.report.formatting import flops_unit, time_unit
from mg_jax.report.groups import Group, Spread, spread
from mg_jax.report.runs import RunRecord

_POINTS = 200  # of a training curve; more lines of a log are averaged
# What a run has cost at an evaluation: of its group, itself and the evaluation.
_Cost = Callable[[Group, RunRecord, dict[str, Any]], float]


@dataclasses.dataclass(frozen=True)
class Axis:
    """The cost that accuracy is drawn against.

    Attributes:
      name: for the picture's file.
      title: for the picture.
      label: for the axis, with the unit.
      unit: the unit's size, by which costs are divided.
    """

    name: str
    title: str
    label: str
    unit: float = 1


@dataclasses.dataclass(frozen=True)
class AccuracyCurve:
    """Accuracy of a group's runs during training, on one centre view, and at the end, on all views.

    Attributes:
      runs: for each run its evaluations, (cost, accuracy in percent) by row; shape (points, 2).
      mean_P2: the mean, over the runs that the group averages, of the points that all of them have.
      deviation_P: the accuracy's sample standard deviation there, or None for a single run.
      final: cost and accuracy of the finished runs at the end, or None.
    """

    runs: list[np.ndarray]
    mean_P2: np.ndarray
    deviation_P: np.ndarray | None
    final: tuple[Spread, Spread] | None

    @property
    def largest(self) -> float:
        """Cost of the last point, or 0 where there is none."""
        costs = [float(points_P2[:, 0].max(initial=0)) for points_P2 in self.runs]
        return max(costs + ([self.final[0].mean] if self.final else []))


def accuracy_curves(groups: Sequence[Group]) -> dict[Axis, list[AccuracyCurve]]:
    """For each cost the curves of the groups, which know their FLOPs; none before an evaluation."""
    found = {}
    for name, cost in _COSTS.items():
        curves = [_accuracy_curve(group, cost) for group in groups]
        largest = max(curve.largest for curve in curves)
        if largest > 0:
            found[_axis(name, largest)] = curves
    return found


def _accuracy_curve(group: Group, cost: _Cost) -> AccuracyCurve:
    def points(run: RunRecord, steps: list[int]) -> np.ndarray:
        lines = [run.evaluations[step] for step in steps]
        rows = [(cost(group, run, line), 100 * line[group.metric]) for line in lines]
        return np.array(rows, float).reshape(-1, 2)

    runs = [points(run, sorted(run.evaluations)) for run in group.runs]
    shared = [points(run, group.evaluated) for run in group.averaged]
    shared_RP2 = np.array(shared or np.empty((1, 0, 2)))
    deviation_P = shared_RP2[..., 1].std(0, ddof=1) if len(shared_RP2) > 1 else None
    return AccuracyCurve(runs, shared_RP2.mean(0), deviation_P, _final(group, cost))


def _final(group: Group, cost: _Cost) -> tuple[Spread, Spread] | None:
    if not group.finished:
        return None
    ends = [{**run.summary, "step": run.schedule.iterations} for run in group.finished]
    costs = [cost(group, run, end) for run, end in zip(group.finished, ends, strict=True)]
    return spread(costs), spread([100 * end["metrics"][group.metric] for end in ends])


def _axis(name: str, largest: float) -> Axis:
    """The axis of a cost, with a unit for values up to the largest."""
    if name == "wall_clock":
        unit, unit_name = time_unit(largest)
        return Axis(
            name, "wall clock", f"wall clock with compilation and evaluation, {unit_name}", unit
        )
    if name == "flops":
        unit, unit_name = flops_unit(largest)
        return Axis(name, "training FLOPs", f"training, {unit_name}", unit)
    return Axis(name, name, name)


_COSTS: dict[str, _Cost] = {
    "wall_clock": lambda group, run, line: line["wall_clock_s"],
    "iterations": lambda group, run, line: line["step"],
    "epochs": lambda group, run, line: run.epochs(line["step"]),
    "flops": lambda group, run, line: group.flops(line["step"]),
}


@dataclasses.dataclass(frozen=True)
class TrainingCurve:
    """A scalar of training over the iterations, averaged over short spans of them.

    Attributes:
      steps_P: middle of the iterations that each span's lines cover; spans without lines are left
        out.
      runs_RP: for each run that logs the scalar its mean over each span; NaN where it has no line.
      mean_P: the mean over the runs that did not diverge, or over all where all did; of those that
        have lines there, NaN where none has.
    """

    steps_P: np.ndarray
    runs_RP: np.ndarray
    mean_P: np.ndarray


def training_curve(group: Group, name: str) -> TrainingCurve | None:
    """The curve of a scalar that training logs, shares such as top1 in percent.

    None where no run logs it.
    """
    scale = 100 if name in NAMES else 1
    runs = [run for run in group.runs if any(name in line for line in run.train.values())]
    if not runs:
        return None
    logged = [
        {step: scale * line[name] for step, line in run.train.items() if name in line}
        for run in runs
    ]
    sound_R = [run.diverged is None for run in runs]
    # No narrower than the distance between lines, so that each span has one.
    spacing = max(max(values) / len(values) for values in logged)
    spans = max(1, min(_POINTS, int(group.schedule.iterations / spacing)))
    edges_E = np.linspace(0, group.schedule.iterations, spans + 1)
    averaged = [_averaged(values, edges_E) for values in logged]
    middles_RP, runs_RP = (np.array(rows) for rows in zip(*averaged, strict=True))
    lines_P = np.isfinite(middles_RP).any(0)
    runs_RP = runs_RP[:, lines_P]
    mean_P = _mean_of_known(runs_RP[sound_R] if any(sound_R) else runs_RP)
    return TrainingCurve(_mean_of_known(middles_RP[:, lines_P]), runs_RP, mean_P)


def _averaged(values: dict[int, float], edges_E: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each span the middle of the iterations that its lines cover, and the lines' mean.

    NaN in spans without lines.

    Args:
      values: by step; a line covers the iterations from the line before up to its step.
      edges_E: of the spans, in iterations; one more than there are spans.
    """
    ends_L = np.array(list(values), float)
    counts_L = np.diff(ends_L, prepend=0)
    middles_L = ends_L - counts_L / 2
    spans_L = np.searchsorted(edges_E, middles_L, side="left") - 1
    covered_P = np.bincount(spans_L, counts_L, len(edges_E) - 1)
    covered_P[covered_P == 0] = np.nan
    means = (
        np.bincount(spans_L, counts_L * of_L, len(edges_E) - 1) / covered_P
        for of_L in (middles_L, np.array(list(values.values())))
    )
    return tuple(means)


def _mean_of_known(values_RP: np.ndarray) -> np.ndarray:
    """Over the rows; NaN where none has a value."""
    known_P = np.isfinite(values_RP).sum(0)
    sums_P = np.nansum(values_RP, 0)
    return np.divide(sums_P, known_P, out=np.full(sums_P.shape, np.nan), where=known_P > 0)
