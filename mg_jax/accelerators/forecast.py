"""What a schedule takes at least, from the least time of its iterations."""

from typing import Any

from mg_jax.grid import Grid
from mg_jax.schedule import Schedule


def project(schedules: dict[str, Schedule], costs: dict[Grid, dict[str, Any]]) -> dict[str, Any]:
    """The least time of the schedules' iterations, and how much faster the last of them is.

    Evaluation and input are no part of it.

    Args:
      schedules: by name.
      costs: of an iteration on a grid: at_least_s and flops, of all devices.

    Returns:
      schedules, with iterations, clips, at_least_s and flops of each whose grids are all known; and
      where there are two of them speed_up, flops_ratio and iterations_ratio.
    """
    found = {}
    for name, schedule in schedules.items():
        counts = schedule.grid_counts()
        if counts.keys() <= costs.keys():
            found[name] = {"iterations": schedule.iterations, "clips": schedule.clips} | {
                key: sum(costs[grid][key] * count for grid, count in counts.items())
                for key in ("at_least_s", "flops")
            }
    result: dict[str, Any] = {"schedules": found}
    if len(found) == 2:
        slow, fast = found["baseline"], found["multigrid"]
        result["speed_up"] = slow["at_least_s"] / fast["at_least_s"]
        result["flops_ratio"] = slow["flops"] / fast["flops"]
        result["iterations_ratio"] = slow["iterations"] / fast["iterations"]
    return result


def format_forecast(forecast: dict[str, Any]) -> str:
    """A line for each schedule, and one that compares them."""
    lines = ["iterations alone, at least, without input, evaluation and links between devices:"]
    for name, schedule in forecast["schedules"].items():
        lines.append(
            f"{name:<10} {schedule['iterations']:>9,} iterations, at least "
            f"{_duration(schedule['at_least_s'])}; {schedule['flops']:.3g} FLOPs"
        )
    if "speed_up" in forecast:
        lines.append(
            f"by count {forecast['speed_up']:.2f}x faster; {forecast['flops_ratio']:.2f}x fewer "
            f"FLOPs, {forecast['iterations_ratio']:.2f}x fewer iterations"
        )
    return "\n".join(lines)


def _duration(seconds: float) -> str:
    for unit, length in (("days", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.3g} s"
