"""From a config to its schedule; checks every setting."""

import bisect
import collections
import itertools
import math
from collections.abc import Iterable

from mg_jax import recipe_settings
from mg_jax.architectures import check_model
from mg_jax.errors import UserError
from mg_jax.grid import FULL, BaseGrid, Shape
from mg_jax.schedule import (
    Multigrid,
    Recipe,
    Schedule,
    TooShort,
    baseline_schedule,
    multigrid_schedule,
)
from mg_jax.training_settings import check_training


def recipe_from_config(config) -> Recipe:
    """The baseline's recipe, scaled to the config's batch.

    Learning rates are proportional to the batch and iterations inversely proportional (Goyal et
    al., 2017); schedule.scale multiplies only the iterations.

    Raises:
      UserError: for an invalid setting; the message names valid values.
    """
    check_model(config.model)
    check_training(config)
    recipe_settings.check_base_grid(config)
    recipe_settings.check_steps(config.schedule)
    scale = config.batch / config.schedule.batch
    if not _keeps_stages(config):
        raise TooShort("a learning-rate stage is left without iterations")
    base = BaseGrid(
        batch=config.batch,
        frames=config.frames,
        size=config.size,
        sub_batch=config.sub_batch,
        stride=config.data.stride,
        short_sides=tuple(config.data.short_sides),
    )
    return Recipe(
        base=base,
        learning_rate=config.schedule.learning_rate * scale,
        boundaries=tuple(_scaled(config, step) for step in config.schedule.steps),
        iterations=_scaled(config, config.schedule.iterations),
        decay=config.schedule.decay,
        cosine=config.schedule.cosine,
        warmup_iterations=_scaled(config, config.schedule.warmup_iterations),
        warmup_learning_rate=config.schedule.warmup_learning_rate * scale,
    )


def schedule_from_config(config) -> Schedule:
    """The multigrid schedule, or the baseline's if both cycles are off.

    Raises:
      UserError: for an invalid setting; the message names valid values.
    """
    schedule = _long_enough(config)
    _check_warmup(config, schedule)
    recipe_settings.check_profile(config, schedule)
    return schedule


def _long_enough(config) -> Schedule:
    """As `_schedule`; where a stage has no iterations, the error says what would give it some."""
    try:
        return _schedule(config)
    except TooShort as error:
        raise TooShort(_advice(config, error)) from error


def _schedule(config) -> Schedule:
    """The schedule, without what depends on the run's length: the warm-up and the profile."""
    recipe = recipe_from_config(config)
    recipe_settings.check_evaluation(config)
    recipe_settings.check_run(config)
    if is_baseline(config):
        fixed = _fixed_shape(config)
        length = config.baseline.epoch_factor, fixed, config.baseline.iterations
        schedule = baseline_schedule(recipe, *length)
    else:
        schedule = multigrid_schedule(recipe, _cycles(config))
    recipe_settings.check_stages(schedule)
    return schedule


def _fixed_shape(config) -> Shape:
    recipe_settings.check_no_cycles(config)
    fixed = config.baseline
    for name in ("time_divisor", "area_divisor"):
        recipe_settings.check_positive(fixed[name], f"baseline.{name}")
    recipe_settings.check_length(fixed, "baseline")
    shape = Shape(fixed.time_divisor, fixed.area_divisor)
    recipe_settings.check_shapes(config, [shape], "baseline.time_divisor and baseline.area_divisor")
    return shape


def _cycles(config) -> Multigrid:
    recipe_settings.check_cycles(config)
    cycles = config.multigrid
    shapes = tuple(Shape(*pair) for pair in cycles.shapes) if cycles.long_cycle else (FULL,)
    short_shapes = cycles.short_shapes if cycles.short_cycle else 1
    recipe_settings.check_shapes(config, shapes, "multigrid.shapes")
    recipe_settings.check_short_cycle(config, shapes, short_shapes)
    return Multigrid(
        shapes=shapes,
        short_shapes=short_shapes,
        single_cycle=cycles.single_cycle,
        fine_tuning=cycles.fine_tuning,
        epoch_factor=cycles.epoch_factor,
        short_cycle_rate=cycles.short_cycle_rate,
        iterations=cycles.iterations,
        fine_tuning_share=cycles.fine_tuning_share,
    )


def _advice(config, error: TooShort) -> str:
    """What is too short, and what would do."""
    section = variant(config)
    # Where the baseline itself has lost a stage, no number of iterations brings it back.
    if (given := config[section].iterations) and _keeps_stages(config):
        least = _least_iterations(config)
        why = " for the stages and the warm-up" if config.schedule.warmup_iterations else ""
        return f"{section}.iterations={given}: {error}; use at least {least}{why}"
    return (
        f"schedule.scale={config.schedule.scale:g} of schedule.iterations="
        f"{config.schedule.iterations:,}, stated for schedule.batch={config.schedule.batch} "
        f"and trained with batch={config.batch}: {error}; --config.schedule.scale="
        f"{least_scale(config, config.schedule.scale):g} is the next valid one; a smaller "
        "--config.batch helps too"
    )


def _check_warmup(config, schedule: Schedule) -> None:
    """Checks that the warm-up fits into the run."""
    if _holds_warmup(schedule):
        return
    given, batch = config.schedule.warmup_iterations, config.batch
    scaled = schedule.recipe.warmup_iterations
    here = "" if scaled == given else f", {scaled} of batch={batch},"
    section = variant(config)
    raise UserError(
        f"the warm-up of schedule.warmup_iterations={given}{here} takes {scaled * batch} clips and "
        f"the run of {schedule.iterations} iterations only {schedule.clips}; use at most "
        f"schedule.warmup_iterations={_longest_warmup(config, schedule)}, or {section}.iterations="
        f"{_least_iterations(config)} or more"
    )


def _longest_warmup(config, schedule: Schedule) -> int:
    """The most `schedule.warmup_iterations`, fewer than given, that the schedule holds."""
    longest = schedule.clips // config.batch
    given = range(config.schedule.warmup_iterations)
    return bisect.bisect(given, longest, key=lambda steps: _scaled(config, steps)) - 1


def _holds_warmup(schedule: Schedule) -> bool:
    recipe = schedule.recipe
    return recipe.warmup_iterations * recipe.base.batch <= schedule.clips


def is_baseline(config) -> bool:
    """Whether a config trains the baseline, that is, has both cycles off."""
    return not (config.multigrid.long_cycle or config.multigrid.short_cycle)


def variant(config) -> str:
    """What a config trains: baseline or multigrid."""
    return "baseline" if is_baseline(config) else "multigrid"


def as_baseline(config):
    """A copy of a config with both cycles off and their settings the default ones."""
    config = config.copy_and_resolve_references()
    config.multigrid.update(long_cycle=False, short_cycle=False, **recipe_settings.CYCLES)
    return config


def schedules_of(config) -> dict[str, Schedule]:
    """The baseline's schedule and, unless the config is one, multigrid's.

    Raises:
      UserError: as `schedule_from_config` does; of the baseline beside multigrid it says so.
    """
    if is_baseline(config):
        return {"baseline": schedule_from_config(config)}
    multigrid = schedule_from_config(config)
    baseline = _long_enough(as_baseline(config))
    if not _holds_warmup(baseline):
        longest = _longest_warmup(config, baseline)
        raise UserError(
            f"the baseline that multigrid is compared with has {baseline.iterations} iterations, "
            f"fewer than the warm-up of schedule.warmup_iterations="
            f"{config.schedule.warmup_iterations}; use at most "
            f"schedule.warmup_iterations={longest}"
        )
    return {"baseline": baseline, "multigrid": multigrid}


def check_devices(schedule: Schedule, devices: int) -> None:
    """Checks that the number of devices divides every batch.

    Raises:
      UserError: if it does not, naming valid batches and numbers of devices.
    """
    base = schedule.recipe.base
    common = math.gcd(base.batch, *(grid.batch for grid in schedule.grids_from(0)))
    if common % devices == 0:
        return
    fitting = ", ".join(str(d) for d in range(1, 2 * devices) if common % d == 0)
    if base.batch % devices:
        unit = math.lcm(devices, base.sub_batch or 1)
        raise UserError(
            f"batch={base.batch} cannot be split evenly over {devices} devices; use a batch of "
            f"{recipe_settings.nearest(base.batch, unit)}, or another number of devices: {fitting}"
        )
    grid = next(grid for grid in schedule.grids_from(0) if grid.batch % devices)
    raise UserError(
        f"the batch of the grid {grid} cannot be split evenly over {devices} devices; use other "
        f"divisors in multigrid.shapes, or another number of devices: {fitting}"
    )


def _scaled(config, iterations: int) -> int:
    """Iterations at the config's batch and scale, given those stated for schedule.batch."""
    return round(iterations * config.schedule.scale / (config.batch / config.schedule.batch))


def _keeps_stages(config) -> bool:
    """Whether every stage has iterations at the config's batch and scale, beside fine-tuning."""
    edges = (0, *config.schedule.steps, config.schedule.iterations)
    scaled = [_scaled(config, edge) for edge in edges]
    *_, before, last = 0, *(b - a for a, b in itertools.pairwise(scaled))
    cycles = config.multigrid
    fine_tunes = cycles.fine_tuning and not cycles.single_cycle and not is_baseline(config)
    if fine_tunes and config.schedule.steps and cycles.fine_tuning_share * last >= before + last:
        return False
    return all(a < b for a, b in itertools.pairwise(scaled))


def least_scale(config, at_least: float = 0) -> float:
    """The smallest schedule.scale of two digits with which every stage has iterations.

    By rounding a larger one may leave a stage none where a smaller one does not.

    Args:
      config: of the run.
      at_least: which it is not to be smaller than.

    Raises:
      UserError: for an invalid setting other than schedule.scale.
    """
    config = config.copy_and_resolve_references()
    config.multigrid.iterations = config.baseline.iterations = 0  # would keep the length
    scales = (float(f"{n}e{e}") for e in itertools.count(-7) for n in range(10, 100))
    return _least(config, "schedule.scale", (scale for scale in scales if scale >= at_least))


def _least_iterations(config) -> int:
    """More iterations than given, from which on every stage has some and the warm-up fits."""
    config, section = config.copy_and_resolve_references(), variant(config)
    setting = f"{section}.iterations"
    enough = _least(config, setting, itertools.count(config[section].iterations + 1))

    def schedule_of(iterations: int) -> Schedule:
        config[section].iterations = iterations
        return _schedule(config)

    def fits(iterations: int) -> bool:
        try:
            return _holds_warmup(schedule_of(iterations))
        except TooShort:
            return False

    recipe = recipe_from_config(config)
    clips = recipe.warmup_iterations * recipe.base.batch
    # Clips grow evenly with iterations, but for what rounding moves: less than four iterations of
    # each phase. A stage that has one in n of them has some of n, wherever rounding puts it.
    long = schedule_of(enough + clips + 10_000)
    largest = max(grid.batch for grid in long.grids_from(0))
    rate, moved = long.clips / long.iterations, 4 * len(long.phases) * largest
    of_stages = collections.Counter()
    for phase in long.phases:
        of_stages[phase.stage] += phase.end - phase.start
    all_stages = math.ceil(long.iterations / max(min(of_stages.values()) - 1, 1))
    nearly, surely = int((clips - moved) / rate), math.ceil((clips + moved) / rate)
    tried = range(max(enough, nearly), max(enough, surely, all_stages))
    return next((n + 1 for n in reversed(tried) if not fits(n)), max(enough, nearly))


def _least(config, setting: str, values: Iterable[float]) -> float:
    """The first value of a setting with which every stage has iterations."""
    config = config.copy_and_resolve_references()
    for value in values:
        config.update_from_flattened_dict({setting: value})
        try:
            _schedule(config)
        except TooShort:
            continue
        return value
    raise AssertionError("endless")
