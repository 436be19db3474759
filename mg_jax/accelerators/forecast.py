"""What a schedule takes, from what its iterations take."""

import dataclasses
from typing import Any

from mg_jax.grid import Grid
from mg_jax.schedule import Schedule


@dataclasses.dataclass(frozen=True)
class Basis:
    """What is known of an iteration.

    Attributes:
      iteration: name of its seconds.
      total: name of a schedule's seconds.
      without: what the seconds leave out, in words.
      at_least: what stands before a time, in words.
      by: what stands before a speed-up, in words.
    """

    iteration: str
    total: str
    without: str
    at_least: str = ""
    by: str = ""


MEASURED = Basis("iteration_s", "train_s", "iterations alone, without input and evaluation")
COUNTED = Basis(
    "at_least_s",
    "at_least_s",
    "iterations alone, at least, without input, evaluation and links between devices",
    at_least="at least ",
    by="by count ",
)


def project(
    schedules: dict[str, Schedule], costs: dict[Grid, dict[str, Any]], basis: Basis
) -> dict[str, Any]:
    """The time of the schedules' iterations, and how much faster multigrid is than the baseline.

    Evaluation and input are no part of it.

    Args:
      schedules: by name.
      costs: of an iteration on a grid: its seconds, as `basis` names them, and flops, of all
        devices; lower_s and compile_s where they are known.
      basis: of the costs.

    Returns:
      schedules, with iterations, clips, seconds, flops, and compile_s where it is known, of each
      whose grids are all known; and where there are two of them speed_up, flops_ratio and
      iterations_ratio.
    """
    found = {
        name: _project(schedule, costs, basis)
        for name, schedule in schedules.items()
        if schedule.grid_counts().keys() <= costs.keys()
    }
    result: dict[str, Any] = {"schedules": found}
    if len(found) == 2:
        slow, fast = found["baseline"], found["multigrid"]
        result["speed_up"] = slow[basis.total] / fast[basis.total]
        result["flops_ratio"] = slow["flops"] / fast["flops"]
        result["iterations_ratio"] = slow["iterations"] / fast["iterations"]
    return result


def _project(schedule: Schedule, costs: dict[Grid, dict[str, Any]], basis: Basis) -> dict[str, Any]:
    counts = schedule.grid_counts()
    forecast = {"iterations": schedule.iterations, "clips": schedule.clips}
    for total, each in ((basis.total, basis.iteration), ("flops", "flops")):
        forecast[total] = sum(costs[grid][each] * count for grid, count in counts.items())
    if all("lower_s" in costs[grid] for grid in counts):
        forecast["compile_s"] = sum(
            costs[grid]["lower_s"] + costs[grid]["compile_s"] for grid in counts
        )
    return forecast


def format_forecast(forecast: dict[str, Any], basis: Basis) -> str:
    """A line for each schedule, and one that compares them; arguments of and as for `project`."""
    lines = [f"{basis.without}:"]
    for name, schedule in forecast["schedules"].items():
        compiling = (
            f", compilation {schedule['compile_s']:.0f} s" if "compile_s" in schedule else ""
        )
        lines.append(
            f"{name:<10} {schedule['iterations']:>9,} iterations, {basis.at_least}"
            f"{_duration(schedule[basis.total])}; {schedule['flops']:.3g} FLOPs{compiling}"
        )
    if "speed_up" in forecast:
        lines.append(
            f"{basis.by}{forecast['speed_up']:.2f}x faster; {forecast['flops_ratio']:.2f}x fewer "
            f"FLOPs, {forecast['iterations_ratio']:.2f}x fewer iterations"
        )
    return "\n".join(lines)


def _duration(seconds: float) -> str:
    for unit, length in (("days", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.3g} s"
