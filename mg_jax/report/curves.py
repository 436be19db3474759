"""What the figures show as numbers: accuracy against what it costs, and training as it went."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from mg_jax.metrics import NAMES
from mg_jax.report.cost import training_flops
from mg_jax.report.groups import Group, Spread, spread, with_wall_clock
from mg_jax.report.runs import LoggedRun
from mg_jax.report.units import flops_unit, time_unit

_POINTS = 200  # of a training curve; more lines of a log are averaged


@dataclasses.dataclass(frozen=True)
class Axis:
    """What accuracy is drawn against.

    Attributes:
      name: of the picture's file.
      title: of the picture.
      label: of the axis, its unit included.
      unit: by which values are divided.
    """

    name: str
    title: str
    label: str
    unit: float = 1


@dataclasses.dataclass(frozen=True)
class AccuracyCurve:
    """Accuracy of a group's runs along the way, on one centre view, and in the end, on all views.

    Attributes:
      runs: for each run its points, (cost, accuracy in percent) by row; shape (points, 2).
      mean_P2: the mean, over the runs that the group averages, of the points that all of them have.
      deviation_P: the accuracy's sample standard deviation there, or None for a single run.
      final: cost and accuracy of the finished runs in the end, or None.
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


def accuracy_curves(
    groups: list[Group], by_clip: list[dict[tuple[int, int], float]]
) -> dict[Axis, list[AccuracyCurve]]:
    """For each axis the groups' curves; axes for which nothing is logged are left out.

    Args:
      groups: to be compared.
      by_clip: for each group the operations of training on a clip, by frames and size.
    """
    found = {}
    for name, cost in _COSTS.items():
        curves = [
            _accuracy_curve(group, functools.partial(cost, by_clip=flops))
            for group, flops in zip(groups, by_clip, strict=True)
        ]
        largest = max(curve.largest for curve in curves)
        if largest > 0:
            found[_axis(name, largest)] = curves
    return found


def _accuracy_curve(
    group: Group, cost: Callable[[LoggedRun, dict[str, Any]], float | None]
) -> AccuracyCurve:
    points = {}
    for run in group.runs:
        for step, line in sorted(run.evaluations.items()):
            at = cost(run, with_wall_clock(line))
            if at is not None:
                points[run.name, step] = (at, 100 * line[group.metric])
    shown = group.averaged
    common = [s for s in group.evaluated if all((run.name, s) in points for run in shown)]
    if common:
        shared_RP2 = np.array([[points[run.name, s] for s in common] for run in shown])
    else:
        shared_RP2 = np.empty((1, 0, 2))
    deviation_P = shared_RP2[..., 1].std(0, ddof=1) if len(shared_RP2) > 1 else None
    runs = [
        np.array([points[name, s] for name, s in points if name == run.name]).reshape(-1, 2)
        for run in group.runs
    ]
    return AccuracyCurve(runs, shared_RP2.mean(0), deviation_P, _final(group, cost))


def _final(
    group: Group, cost: Callable[[LoggedRun, dict[str, Any]], float | None]
) -> tuple[Spread, Spread] | None:
    if not group.finished:
        return None
    ends = [{**run.summary, "step": run.schedule.iterations} for run in group.finished]
    costs = [cost(run, end) for run, end in zip(group.finished, ends, strict=True)]
    return spread(costs), spread([100 * end["metrics"][group.metric] for end in ends])


def _axis(name: str, largest: float) -> Axis:
    """For costs up to a largest one."""
    if name == "wall_clock":
        unit, unit_name = time_unit(largest)
        return Axis(
            name, "wall clock", f"wall clock with compilation and evaluation, {unit_name}", unit
        )
    if name == "flops":
        unit, unit_name = flops_unit(largest)
        return Axis(name, "training FLOPs", f"training, {unit_name}", unit)
    return Axis(name, name, name)


# What a run has cost at a line of its log, None where nothing tells: (run, line, operations of
# training on a clip) -> cost.
_COSTS = {
    "wall_clock": lambda run, line, by_clip: line.get("wall_clock_s"),
    "iterations": lambda run, line, by_clip: line["step"],
    "epochs": lambda run, line, by_clip: run.epochs(line["step"]),
    "flops": lambda run, line, by_clip: training_flops(run.schedule, line["step"], by_clip),
}


@dataclasses.dataclass(frozen=True)
class TrainingCurve:
    """A scalar of training over the iterations, averaged over short spans.

    Attributes:
      steps_P: middle of the iterations that each span's lines cover, spans without lines left out.
      runs_RP: for each run that logs it the mean over each span; NaN where it has none.
      mean_P: the mean over those that have got that far and did not diverge, or over all where all
        did; NaN where there is none.
    """

    steps_P: np.ndarray
    runs_RP: np.ndarray
    mean_P: np.ndarray


def training_curve(group: Group, name: str) -> TrainingCurve | None:
    """The curve of a scalar of the log's lines on training, or None where no run logs it.

    Shares, such as top1, are in percent.
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
    # No narrower than the lines lie apart, so that each span has one.
    spacing = max(max(values) / len(values) for values in logged)
    spans = max(1, min(_POINTS, int(group.schedule.iterations / spacing)))
    edges_E = np.linspace(0, group.schedule.iterations, spans + 1)
    runs_RP = np.full((len(logged), spans), np.nan)
    middles_RP = runs_RP.copy()
    for row_P, middle_P, values in zip(runs_RP, middles_RP, logged, strict=True):
        # A line covers the iterations from the line before up to its step.
        ends_L = np.array(list(values), float)
        counts_L = np.diff(ends_L, prepend=0)
        middles_L = ends_L - counts_L / 2
        spans_L = np.searchsorted(edges_E, middles_L, side="left") - 1
        covered_P = np.bincount(spans_L, counts_L, spans)
        there_P = covered_P > 0
        for means_P, of_L in ((row_P, np.array(list(values.values()))), (middle_P, middles_L)):
            sums_P = np.bincount(spans_L, counts_L * of_L, spans)
            means_P[there_P] = sums_P[there_P] / covered_P[there_P]
    lines_P = np.isfinite(middles_RP).any(0)
    runs_RP = runs_RP[:, lines_P]
    mean_P = _mean_of_known(runs_RP[sound_R] if any(sound_R) else runs_RP)
    return TrainingCurve(_mean_of_known(middles_RP[:, lines_P]), runs_RP, mean_P)


def _mean_of_known(values_RP: np.ndarray) -> np.ndarray:
    """Over the rows; NaN where none has a value."""
    known_P = np.isfinite(values_RP).sum(0)
    sums_P = np.nansum(values_RP, 0)
    return np.divide(sums_P, known_P, out=np.full(sums_P.shape, np.nan), where=known_P > 0)
