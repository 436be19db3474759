"""The schedule as a table and a picture for people, and as JSON for programs."""

import pathlib
from typing import Any

from mg_jax import lengths
from mg_jax.input.class_files import check_named_files
from mg_jax.input.prepared import (
    check_builder,
    check_class_count,
    count_videos,
    prepared_classes,
)
from mg_jax.machine.atomic_file import write_json
from mg_jax.recipe import recipe_from_config, schedule_from_config, variant
from mg_jax.schedule import Phase, Schedule
from mg_jax.tools.plan_plot import draw_plan
from mg_jax.training_settings import check_parts
from mg_jax.workdir.config import check_init_from

# Deviations from Eq. 1 that a plan names; those of the paper's recipes, by whole pixels, are less.
_SHOWN = 0.01


def write_plan(config, workdir: pathlib.Path, videos: int | None = None) -> str:
    """Writes `plan.json` and `plan.png` into the work directory and returns the table.

    Needs neither data nor an accelerator. Shows epochs where the number of videos is known.

    Args:
      config: of the run.
      workdir: of the run.
      videos: to train on; None for the prepared data set's, where it is there.

    Raises:
      UserError: for invalid settings, before anything is written.
    """
    schedule = schedule_from_config(config)
    check_parts(config, schedule, devices=1)  # what does not fit on one fits on no number of them
    if config.init_from:
        check_init_from(config)
    classes = prepared_classes(config)
    if classes is None:
        check_builder(config)
    else:
        check_class_count(config, classes)
    if config.data.flip_pairs or config.loss.class_weights:
        check_named_files(config, classes)
    baseline = recipe_from_config(config).iterations
    if videos is None:
        videos = count_videos(config, config.data.train_split)
    plan = plan_dict(schedule, baseline)
    if excess := _excess(schedule):
        plan["excess"] = excess
    if videos is None:
        epochs = lengths.describe_stated(config)
    else:
        epochs = lengths.describe_epochs(config, schedule, videos)
        plan |= {
            "videos": videos,
            "epochs": schedule.clips / videos,
            "baseline_epochs": lengths.recipe_epochs(config, videos),
        }
    workdir.mkdir(parents=True, exist_ok=True)
    write_json(workdir / "plan.json", plan)
    title = variant(config)
    draw_plan(schedule, title, workdir / "plan.png")
    see = f"see {workdir / 'plan.png'} and {workdir / 'plan.json'}; --mode=train trains it"
    return f"{format_plan(schedule, baseline, title, videos)}\n{epochs}\n{see}"


def plan_dict(schedule: Schedule, baseline_iterations: int) -> dict[str, Any]:
    """The schedule as plain data; learning rates relative to the recipe's, before warm-up."""
    return {
        "total_iterations": schedule.iterations,
        "baseline_iterations": baseline_iterations,
        "iteration_reduction": baseline_iterations / schedule.iterations,
        "phases": [_phase_dict(phase) for phase in schedule.phases],
    }


def _phase_dict(phase: Phase) -> dict[str, Any]:
    first = phase.grids[-1]
    return {
        "stage": phase.stage,
        "start": phase.start,
        "end": phase.end,
        "frames": first.frames,
        "size": first.size,
        # Powers of 0.1 carry a rounding error in the 17th digit.
        "lr_multiplier": round(phase.lr_multiplier, 12),
        "short_cycle": [
            {"frames": g.frames, "size": g.size, "batch": g.batch, "bn": g.sub_batch}
            for g in phase.grids
        ],
    }


def format_plan(
    schedule: Schedule, baseline_iterations: int, title: str, videos: int | None = None
) -> str:
    """A table: a block for each phase, a line for each grid of its short cycle.

    Args:
      schedule: to show.
      baseline_iterations: to compare with.
      title: of the table.
      videos: number to train on, to show epochs; None where it is not known.
    """
    base, fewer = schedule.recipe.base, schedule.iterations != baseline_iterations
    epochs = schedule.clips / (baseline_iterations * base.batch)
    header = (
        f"{'phase':>5} {'stage':>5} {'iterations':>19}   {'clips x frames x size^2':<24} "
        f"{'sub-batch':>9} {'learning rate':>21} {'clips':>13} {'share':>6}"
        + (f" {'epochs':>7}" if videos else "")
    )
    lines = [f"{title}, base grid {base.batch} x {base.frames} x {base.size}^2", "", header]
    for number, phase in enumerate(schedule.phases, 1):
        lines += ["", *_phase_lines(schedule, number, phase, videos)]
    lines += [
        "",
        f"{schedule.iterations:,} iterations against the baseline's {baseline_iterations:,}: "
        + (f"{baseline_iterations / schedule.iterations:.2f}x fewer" if fewer else "as many"),
        f"{schedule.clips:,} clips, {epochs:.3g}x the baseline's",
        *_rounding_lines(schedule),
    ]
    return "\n".join(lines)


def _rounding_lines(schedule: Schedule) -> list[str]:
    """The grids that whole frames, pixels and sub-batches keep away from Eq. 1, if any."""
    excess = _excess(schedule)
    if not excess:
        return []
    each = (f"{grid} {share:+.1%}" for grid, share in excess.items())
    return [f"pixels of an iteration against the base grid's (Eq. 1: the same): {', '.join(each)}"]


def _excess(schedule: Schedule) -> dict[str, float]:
    """By grid, whatever its sub-batch, the deviations that are worth showing."""
    base = schedule.recipe.base
    shares = {str(grid): base.excess(grid) for grid in schedule.grids_from(0)}
    return {grid: share for grid, share in shares.items() if abs(share) > _SHOWN}


def _phase_lines(schedule: Schedule, number: int, phase: Phase, videos: int | None) -> list[str]:
    clips = phase.clips_before(phase.end)
    span = f"{phase.start:,} - {phase.end:,}"
    lines = []
    for i, grid in enumerate(phase.grids):
        steps = phase.steps_on(i) if schedule.short_cycle_rate else range(phase.start, phase.end)
        rates = _rates(schedule, steps) if i == 0 or schedule.short_cycle_rate else ""
        left = f"{number:>5} {phase.stage + 1:>5} {span:>19}" if i == 0 else " " * 31
        right = f"{clips:>13,} {clips / schedule.clips:>6.1%}" if i == 0 else ""
        right += f" {clips / videos:>7.3g}" if i == 0 and videos else ""
        text = f"{grid.batch:>5} x {grid.frames:>2} x {grid.size:>3}^2"
        lines.append(f"{left}   {text:<24} {grid.sub_batch:>9} {rates:>21} {right}".rstrip())
    return lines


def _rates(schedule: Schedule, steps: range) -> str:
    """The learning rates of the first and the last of some steps."""
    if not steps:
        return ""
    first, last = (schedule.learning_rate(i) for i in (steps[0], steps[-1]))
    return f"{first:.4g}" if first == last else f"{first:.4g} to {last:.4g}"
