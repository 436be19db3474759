"""From a config to its schedule; checks every setting."""

import itertools
import math

from mg_jax import grid as grid_lib
from mg_jax.architectures import MODELS, check_model, frame_unit
from mg_jax.errors import UserError
from mg_jax.grid import BaseGrid, Shape
from mg_jax.schedule import (
    Multigrid,
    Recipe,
    Schedule,
    TooShort,
    baseline_schedule,
    multigrid_schedule,
)

SAMPLINGS = ("stride", "segments")
LOGGERS = ("jsonl", "tensorboard", "wandb")


def recipe_from_config(config) -> Recipe:
    """The baseline's recipe, scaled to the config's batch.

    Learning rates are proportional to the batch and iterations inversely proportional (Goyal et
    al., 2017); schedule.scale multiplies only the iterations.

    Raises:
      UserError: for an invalid setting; the message names valid values.
    """
    check_model(config.model)
    _check_base_grid(config)
    _check_steps(config.schedule)
    scale = config.batch / config.schedule.batch
    _check_scaled_steps(config)
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
    try:
        return _schedule(config)
    except TooShort as error:
        raise TooShort(
            f"schedule.scale={config.schedule.scale:g} of schedule.iterations="
            f"{config.schedule.iterations:,}, stated for schedule.batch={config.schedule.batch} "
            f"and trained with batch={config.batch}: {error}; --config.schedule.scale="
            f"{least_scale(config):g} is the smallest valid one; a smaller --config.batch helps too"
        ) from error


def _schedule(config) -> Schedule:
    recipe = recipe_from_config(config)
    _check_evaluation(config)
    _check_run(config)
    if is_baseline(config):
        fixed = Shape(config.baseline.time_divisor, config.baseline.area_divisor)
        _check_fixed_shape(fixed)
        _check_frames(config, [fixed])
        _check_positive(config.baseline.epoch_factor, "baseline.epoch_factor")
        schedule = baseline_schedule(recipe, config.baseline.epoch_factor, fixed)
    else:
        cycles = _cycles(config)
        _check_frames(config, grid_lib.LONG_CYCLE[-cycles.long_shapes :])
        schedule = multigrid_schedule(recipe, cycles)
    _check_stages(schedule)
    _check_warmup(schedule)
    return schedule


def is_baseline(config) -> bool:
    """Whether a config trains the baseline, that is, has both cycles off."""
    return not (config.multigrid.long_cycle or config.multigrid.short_cycle)


def as_baseline(config):
    """A copy of a config with both cycles off."""
    config = config.copy_and_resolve_references()
    config.multigrid.long_cycle = config.multigrid.short_cycle = False
    return config


def schedules_of(config) -> dict[str, Schedule]:
    """The baseline's schedule and, unless the config is one, multigrid's."""
    schedules = {"baseline": schedule_from_config(as_baseline(config))}
    if not is_baseline(config):
        schedules["multigrid"] = schedule_from_config(config)
    return schedules


def check_devices(schedule: Schedule, devices: int) -> None:
    """Checks that the number of devices divides the batch.

    Raises:
      UserError: if it does not, naming valid batches and numbers of devices.
    """
    base = schedule.recipe.base
    if base.batch % devices:
        unit = math.lcm(devices, base.sub_batch or 1)
        raise UserError(
            f"batch={base.batch} cannot be split evenly over {devices} devices; use a batch of "
            f"{_nearest(base.batch, unit)}, or another number of devices: "
            f"{', '.join(str(d) for d in range(1, 2 * devices) if base.batch % d == 0)}"
        )


def _check_base_grid(config) -> None:
    for name in ("batch", "frames", "size"):
        _check_positive(config[name], name)
    if config.sub_batch < 0:
        raise UserError(f"sub_batch={config.sub_batch} must be positive, or 0 for whole batches")
    _check_positive(config.data.stride, "data.stride")
    if config.data.sampling not in SAMPLINGS:
        raise UserError(
            f"data.sampling={config.data.sampling!r} is not known; use {' or '.join(SAMPLINGS)}"
        )
    if not 0 <= config.data.max_damaged <= 1:
        raise UserError(
            f"data.max_damaged={config.data.max_damaged} is a share and lies in 0 ... 1"
        )
    if len(config.data.short_sides) != 2:
        raise UserError(
            f"data.short_sides={tuple(config.data.short_sides)} must be the smallest and the "
            "largest short side, for example (256.0, 340.0)"
        )
    smallest, largest = config.data.short_sides
    if not config.size <= smallest <= largest:
        raise UserError(
            f"data.short_sides={tuple(config.data.short_sides)} must ascend from at least "
            f"size={config.size}, so that a crop fits into every scaled video"
        )
    if config.sub_batch and config.batch % config.sub_batch:
        divisors = [d for d in range(1, config.batch + 1) if config.batch % d == 0]
        raise UserError(
            f"sub_batch={config.sub_batch} does not divide batch={config.batch}; use a batch of "
            f"{_nearest(config.batch, config.sub_batch)}, or a sub_batch of "
            f"{', '.join(map(str, divisors))}"
        )


def _nearest(size: int, unit: int) -> str:
    lower = size // unit * unit
    return f"{lower} or {lower + unit}" if lower else str(unit)


def _check_steps(schedule) -> None:
    steps, end = tuple(schedule.steps), schedule.iterations
    _check_positive(end, "schedule.iterations")
    _check_positive(schedule.batch, "schedule.batch")
    _check_positive(schedule.videos, "schedule.videos")
    _check_positive(schedule.scale, "schedule.scale")
    _check_positive(schedule.learning_rate, "schedule.learning_rate")
    if not all(isinstance(step, int) for step in steps):
        raise UserError(f"schedule.steps={steps} must be iterations, whole numbers")
    edges = (0, *steps, end)
    if any(a >= b for a, b in itertools.pairwise(edges)):
        raise UserError(
            f"schedule.steps={steps} must ascend and lie strictly between 0 and "
            f"schedule.iterations={end}"
        )


def _scaled(config, iterations: int) -> int:
    """Iterations at the config's batch and scale, given those stated for schedule.batch."""
    return round(iterations * config.schedule.scale / (config.batch / config.schedule.batch))


def _check_scaled_steps(config) -> None:
    edges = (0, *config.schedule.steps, config.schedule.iterations)
    if any(_scaled(config, a) >= _scaled(config, b) for a, b in itertools.pairwise(edges)):
        raise TooShort("a learning-rate stage is left without iterations")


def _check_stages(schedule: Schedule) -> None:
    """Checks that every stage has iterations; multigrid has fewer of them than the recipe."""
    stages = range(len(schedule.recipe.stages))
    empty = sorted({*stages} - {phase.stage for phase in schedule.phases})
    if empty:
        raise TooShort(
            f"learning-rate stage {empty[0] + 1} of {len(stages)} is left without iterations among "
            f"{schedule.iterations}"
        )


def least_scale(config) -> float:
    """The smallest schedule.scale of two digits with which every stage has iterations.

    Raises:
      UserError: for an invalid setting other than schedule.scale.
    """
    config = config.copy_and_resolve_references()
    scales = (float(f"{n}e{e}") for e in itertools.count(-7) for n in range(10, 100))
    return next(scale for scale in scales if _is_long_enough(config, scale))


def _is_long_enough(config, scale: float) -> bool:
    config.schedule.scale = scale
    try:
        _schedule(config)
    except TooShort:
        return False
    return True


def _check_evaluation(config) -> None:
    for name in ("times", "precise_bn_batches", "clips"):
        _check_positive(config.eval[name], f"eval.{name}")
    if config.eval.crops not in (1, 3):
        raise UserError(f"eval.crops={config.eval.crops} must be 1 (centre) or 3")
    if not 0 < config.eval.size <= config.eval.short_side:
        raise UserError(
            f"eval.size={config.eval.size} must lie in 1 ... eval.short_side="
            f"{config.eval.short_side}, so that the crop fits into the scaled video"
        )


def _check_run(config) -> None:
    for name in ("log_every", "checkpoint_every", "keep"):
        _check_positive(config.run[name], f"run.{name}")
    if config.run.readers < 0:
        raise UserError(f"run.readers={config.run.readers} must be positive, or 0 for all cores")
    loggers, steps = tuple(config.run.loggers), tuple(config.run.profile_steps)
    if unknown := [name for name in loggers if name not in LOGGERS]:
        raise UserError(f"run.loggers has {unknown[0]!r}; there are {', '.join(LOGGERS)}")
    if steps and not (len(steps) == 2 and 0 <= steps[0] < steps[1]):
        raise UserError(
            f"run.profile_steps={steps} must be the first iteration and the one after the last, "
            "such as (100, 105), or ()"
        )
    if config.seed < 0:
        raise UserError(f"seed={config.seed} must not be negative")


def _cycles(config) -> Multigrid:
    cycles, fixed = config.multigrid, config.baseline
    if fixed.epoch_factor != 1:
        raise UserError(
            f"baseline.epoch_factor={fixed.epoch_factor} is the baseline's; with a cycle on, set "
            "multigrid.epoch_factor"
        )
    if (fixed.time_divisor, fixed.area_divisor) != (1, 1):
        raise UserError(
            "baseline.time_divisor and baseline.area_divisor fix one grid and exclude the cycles; "
            "set multigrid.long_cycle=False and multigrid.short_cycle=False as well"
        )
    for name, largest in (("long_shapes", 4), ("short_shapes", 3)):
        if not 1 <= cycles[name] <= largest:
            raise UserError(f"multigrid.{name}={cycles[name]} must lie in 1 ... {largest}")
    if cycles.single_cycle and not cycles.long_cycle:
        raise UserError("multigrid.single_cycle=True needs multigrid.long_cycle=True")
    if cycles.short_cycle_rate and not cycles.short_cycle:
        raise UserError("multigrid.short_cycle_rate=True needs multigrid.short_cycle=True")
    _check_positive(cycles.epoch_factor, "multigrid.epoch_factor")
    return Multigrid(
        long_shapes=cycles.long_shapes if cycles.long_cycle else 1,
        short_shapes=cycles.short_shapes if cycles.short_cycle else 1,
        single_cycle=cycles.single_cycle,
        fine_tuning=cycles.fine_tuning,
        epoch_factor=cycles.epoch_factor,
        short_cycle_rate=cycles.short_cycle_rate,
    )


def _check_fixed_shape(shape: Shape) -> None:
    _check_positive(shape.time, "baseline.time_divisor")
    _check_positive(shape.area, "baseline.area_divisor")


def _check_frames(config, shapes: list[Shape]) -> None:
    """Checks that T is a multiple of every temporal divisor times the model's own, if any."""
    of_model = frame_unit(config.model)
    unit = math.lcm(*(shape.time * of_model for shape in shapes))
    if config.frames % unit == 0:
        return
    divisor = max(shape.time for shape in shapes)
    reasons = [f"the coarsest grid has 1/{divisor} of them"] if divisor > 1 else []
    setting = MODELS[config.model.name].frame_unit
    reasons += [f"model.{setting}={of_model} must divide those of a clip"] if of_model > 1 else []
    other = "baseline.time_divisor" if is_baseline(config) else "multigrid.long_shapes"
    raise UserError(
        f"frames={config.frames} must be a multiple of {unit}: {' and '.join(reasons)}; use "
        + _nearest(config.frames, unit)
        + (f", or a smaller {other}" if divisor > 1 else "")
    )


def _check_warmup(schedule: Schedule) -> None:
    recipe = schedule.recipe
    clips = recipe.warmup_iterations * recipe.base.batch
    if clips > schedule.clips:
        raise UserError(
            f"the warm-up of schedule.warmup_iterations={recipe.warmup_iterations} iterations "
            f"({clips} clips) is longer than the run ({schedule.clips} clips)"
        )


def _check_positive(value: float, name: str) -> None:
    if not 0 < value < math.inf:
        raise UserError(f"{name}={value} must be positive")
