"""Checks of a recipe's settings: what cannot work ends with a message that names what can.

Every check raises a `UserError` for an invalid setting.
"""

import itertools
import math
from collections.abc import Iterable

from mg_jax.architectures import MODELS, frame_unit, smallest_side
from mg_jax.errors import UserError
from mg_jax.grid import FULL, LONG_CYCLE, SHORT_SHAPES, Shape, short_cycle
from mg_jax.schedule import Multigrid, Schedule, TooShort

# The settings of the cycles and their defaults, the only values that a baseline takes.
CYCLES = {
    **vars(Multigrid()),
    "shapes": tuple((shape.time, shape.area) for shape in LONG_CYCLE),
}
SAMPLINGS = ("stride", "segments")
# What run.loggers can name: a class, and the library that only this logger needs.
LOGGERS = {
    "jsonl": ("mg_jax.training.loggers.JsonLines", None),
    "tensorboard": ("mg_jax.training.loggers.TensorBoard", None),
    "wandb": ("mg_jax.training.loggers.WeightsAndBiases", "wandb"),
}
_WHEN_TO_COMPILE = ("auto", "background", "first", "off")  # values of run.compile_ahead
_LARGEST_SEED = (1 << 63) - 2  # JAX takes 63 bits, and precise batch norm one more than this


def check_base_grid(config) -> None:
    """Checks the base grid and how clips are drawn for it."""
    _check_all_positive(config, "batch", "frames", "size")
    if config.sub_batch < 0:
        raise UserError(f"sub_batch={config.sub_batch} must be positive, or 0 for whole batches")
    _check_all_positive(config.data, "stride", of="data")
    if config.data.sampling not in SAMPLINGS:
        raise UserError(
            f"data.sampling={config.data.sampling!r} is not known; use {' or '.join(SAMPLINGS)}"
        )
    if not 0 <= config.data.max_damaged <= 1:
        raise UserError(
            f"data.max_damaged={config.data.max_damaged} is a share and lies in 0 ... 1"
        )
    _check_pixels(config.data)
    if not _are_numbers(config.data.short_sides, 2):
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
            f"{nearest(config.batch, config.sub_batch)}, or a sub_batch of "
            f"{', '.join(map(str, divisors))}"
        )


def nearest(size: int, unit: int) -> str:
    """The multiples of a unit next to a size, in words."""
    lower = size // unit * unit
    return f"{lower} or {lower + unit}" if lower else str(unit)


def check_steps(schedule) -> None:
    """Checks the `schedule` section."""
    steps, end = tuple(schedule.steps), schedule.iterations
    positive = "iterations", "batch", "videos", "scale", "learning_rate", "decay"
    _check_all_positive(schedule, *positive, of="schedule")
    for name in ("warmup_iterations", "warmup_learning_rate"):
        if not 0 <= schedule[name] < math.inf:
            raise UserError(f"schedule.{name}={schedule[name]} must be positive, or 0 for none")
    if not all(isinstance(step, int) for step in steps):
        raise UserError(f"schedule.steps={steps} must be iterations, whole numbers")
    edges = (0, *steps, end)
    if any(a >= b for a, b in itertools.pairwise(edges)):
        raise UserError(
            f"schedule.steps={steps} must ascend and lie strictly between 0 and "
            f"schedule.iterations={end}"
        )


def check_stages(schedule: Schedule) -> None:
    """Checks that every stage has iterations; multigrid has fewer of them than the recipe."""
    stages = range(len(schedule.recipe.stages))
    empty = sorted({*stages} - {phase.stage for phase in schedule.phases})
    if empty:
        raise TooShort(
            f"learning-rate stage {empty[0] + 1} of {len(stages)} is left without iterations among "
            f"{schedule.iterations}"
        )


def check_evaluation(config) -> None:
    """Checks the `eval` section."""
    _check_all_positive(config.eval, "times", "precise_bn_batches", "clips", of="eval")
    if config.eval.crops not in (1, 3):
        raise UserError(f"eval.crops={config.eval.crops} must be 1 (centre) or 3")
    if not 0 < config.eval.size <= config.eval.short_side:
        raise UserError(
            f"eval.size={config.eval.size} must lie in 1 ... eval.short_side="
            f"{config.eval.short_side}, so that the crop fits into the scaled video"
        )
    if config.eval.size < (least := smallest_side(config.model)):
        raise UserError(f"eval.size={config.eval.size} is too small: {_takes(least)}")


def _check_pixels(data) -> None:
    for name in ("mean", "std"):
        values = tuple(data[name])
        if not _are_numbers(values, 3) or (name == "std" and min(values) <= 0):
            raise UserError(
                f"data.{name}={values} must be three numbers, for red, green and blue in 0 ... 1"
                f"{', each above 0' if name == 'std' else ''}, such as (0.45, 0.45, 0.45)"
            )


def check_run(config) -> None:
    """Checks the `run` section and the seed."""
    _check_all_positive(config.run, "log_every", "checkpoint_every", "keep", of="run")
    if config.run.compile_ahead not in _WHEN_TO_COMPILE:
        choices = ", ".join(_WHEN_TO_COMPILE)
        raise UserError(f"run.compile_ahead={config.run.compile_ahead} must be one of {choices}")
    if config.run.readers < 0:
        raise UserError(f"run.readers={config.run.readers} must be positive, or 0 for all cores")
    loggers, steps = tuple(config.run.loggers), tuple(config.run.profile_steps)
    if unknown := [name for name in loggers if name not in LOGGERS]:
        raise UserError(f"run.loggers has {unknown[0]!r}; there are {', '.join(LOGGERS)}")
    if len(set(loggers)) < len(loggers):
        raise UserError(f"run.loggers={loggers} must name each logger once")
    whole = all(isinstance(step, int) for step in steps)
    if steps and not (whole and len(steps) == 2 and 0 <= steps[0] < steps[1]):
        raise UserError(
            f"run.profile_steps={steps} must be the first iteration and the one after the last, "
            "such as (100, 105), or ()"
        )
    if config.seed < 0:
        raise UserError(f"seed={config.seed} must not be negative")
    if config.seed > _LARGEST_SEED:
        raise UserError(f"seed={config.seed} must be at most {_LARGEST_SEED}")


def check_profile(config, schedule: Schedule) -> None:
    """Checks that the iterations to profile are of the run."""
    steps = tuple(config.run.profile_steps)
    if steps and steps[1] > schedule.iterations:
        raise UserError(
            f"run.profile_steps={steps} are not all of the run, which has {schedule.iterations:,} "
            "iterations"
        )


def check_no_cycles(config) -> None:
    """Checks that the settings of the cycles, both of which are off, are the default ones."""
    for name, default in CYCLES.items():
        value = config.multigrid[name]
        if (_as_tuple(value) if name == "shapes" else value) != default:
            instead = f"set baseline.{name}" if name in config.baseline else "leave it out"
            raise UserError(
                f"multigrid.{name}={value} is multigrid's; with both cycles off, {instead}, or "
                "turn a cycle on"
            )


def _as_tuple(value: object) -> object:
    """Lists, as files of recipes may have them, as tuples."""
    return tuple(map(_as_tuple, value)) if isinstance(value, (list, tuple)) else value


def check_cycles(config) -> None:
    """Checks the settings of the cycles, one of which is on."""
    cycles, fixed = config.multigrid, config.baseline
    for name, alone in (("epoch_factor", 1), ("iterations", 0)):
        if fixed[name] != alone:
            raise UserError(
                f"baseline.{name}={fixed[name]} is the baseline's; with a cycle on, set "
                f"multigrid.{name}"
            )
    if (fixed.time_divisor, fixed.area_divisor) != (1, 1):
        raise UserError(
            "baseline.time_divisor and baseline.area_divisor fix one grid and exclude the cycles; "
            "set multigrid.long_cycle=False and multigrid.short_cycle=False as well"
        )
    if not 1 <= cycles.short_shapes <= SHORT_SHAPES:
        raise UserError(
            f"multigrid.short_shapes={cycles.short_shapes} must lie in 1 ... {SHORT_SHAPES}"
        )
    if cycles.single_cycle and not cycles.long_cycle:
        raise UserError("multigrid.single_cycle=True needs multigrid.long_cycle=True")
    if cycles.short_cycle_rate and not cycles.short_cycle:
        raise UserError("multigrid.short_cycle_rate=True needs multigrid.short_cycle=True")
    check_length(cycles, "multigrid")
    check_positive(cycles.fine_tuning_share, "multigrid.fine_tuning_share", _NO_FINE_TUNING)
    fine_tunes = cycles.fine_tuning and not cycles.single_cycle
    if cycles.fine_tuning_share != 1 and not fine_tunes:
        raise UserError(
            f"multigrid.fine_tuning_share={cycles.fine_tuning_share:g} needs fine-tuning: "
            "multigrid.fine_tuning=True and multigrid.single_cycle=False"
        )
    if fine_tunes and config.schedule.steps:
        _check_share(config)
    if cycles.long_cycle:
        _check_order(tuple(cycles.shapes), fine_tunes)


def _check_share(config) -> None:
    """Checks that fine-tuning leaves the stage before it a twentieth, at whatever length."""
    share = config.multigrid.fine_tuning_share
    *_, start, middle, end = 0, *config.schedule.steps, config.schedule.iterations
    most = 1 + 0.95 * (middle - start) / (end - middle)
    if share > most:
        raise UserError(
            f"multigrid.fine_tuning_share={share:g} of the last stage's {end - middle} iterations "
            "leaves less than a twentieth of the stage before it; give at most "
            f"{math.floor(1000 * most) / 1000:g}"
        )


_NO_FINE_TUNING = "; for no fine-tuning set multigrid.fine_tuning=False"


def check_length(section, name: str) -> None:
    """Checks the epoch factor, and the iterations that may take its place."""
    check_positive(section.epoch_factor, f"{name}.epoch_factor")
    if section.iterations < 0:
        raise UserError(
            f"{name}.iterations={section.iterations} must be positive, or 0 for as many as "
            f"{name}.epoch_factor makes"
        )


def _check_order(shapes: tuple, fine_tunes: bool) -> None:
    """Checks that the long cycle's shapes are pairs of divisors from coarse to fine."""
    given = f"multigrid.shapes={shapes}"
    wrong = [shape for shape in shapes if not _is_shape(shape)]
    if wrong or not shapes:
        reason = f"{wrong[0]!r} is no such pair" if wrong else "there is none"
        raise UserError(
            f"{given} must be pairs (time divisor, area divisor) of numbers from 1 on, and "
            f"{reason}; the paper's are {CYCLES['shapes']}"
        )
    shapes = tuple(map(tuple, shapes))
    factors = [Shape(*shape).factor for shape in shapes]
    if len({*shapes}) < len(shapes) or factors != sorted(factors, reverse=True):
        ordered = sorted({*shapes}, key=lambda shape: Shape(*shape).factor, reverse=True)
        raise UserError(f"{given} must go from coarse to fine, each shape once: {tuple(ordered)}")
    if fine_tunes and shapes[-1] != (1, 1):
        raise UserError(
            f"{given} must end on the full shape, (1, 1), which fine-tuning trains on: "
            f"{(*shapes, (1, 1))}; or set multigrid.fine_tuning=False"
        )


def _is_shape(shape) -> bool:
    return isinstance(shape, (tuple, list)) and _are_numbers(shape, 2) and min(shape) >= 1


def check_shapes(config, shapes: Iterable[Shape], setting: str) -> None:
    """Checks that the network takes the frames and pixels of every shape.

    The full shape is checked as well, since evaluation takes its frames.

    Args:
      config: of the run.
      shapes: that it trains on.
      setting: that gives the shapes, for the message.
    """
    shapes = {FULL, *shapes}
    least = smallest_side(config.model)
    if config.size < least:
        raise UserError(f"size={config.size} is too small: {_takes(least)}")
    for shape in sorted(shapes, key=lambda shape: shape.area):
        if (side := _side(config, shape)) < least:
            # Down to two decimals, so that what is advised is never too much.
            largest = 100 * config.size**2 // least**2 / 100
            raise UserError(
                f"{setting}: the shape ({shape.time:g}, {shape.area:g}) leaves {side} of "
                f"size={config.size} pixels, and {_takes(least)}; use an area divisor of at most "
                f"{largest:.12g}"
            )
    _check_frames(config, sorted({shape.time for shape in shapes}), setting)


def check_short_cycle(config, shapes: Iterable[Shape], count: int) -> None:
    """Checks that the network takes the pixels of the short cycle, which go down to H / 2.

    Args:
      config: of the run.
      shapes: of the long cycle.
      count: how many shapes the short cycle has.
    """
    least = smallest_side(config.model)
    short = max((s for shape in shapes for s in short_cycle(shape, count)), key=lambda s: s.area)
    if (side := _side(config, short)) < least:
        fits = math.ceil(least * math.sqrt(short.area))
        raise UserError(
            f"multigrid.short_cycle: an area divisor of {short.area:g} leaves {side} of "
            f"size={config.size} pixels, and {_takes(least)}; use a size of at least {fits}, or "
            "multigrid.short_cycle=False"
        )


def _side(config, shape: Shape) -> int:
    return round(config.size / math.sqrt(shape.area))


def _takes(least: int) -> str:
    return f"the network takes clips of at least {least} x {least} pixels"


def _check_frames(config, divisors: list[float], setting: str) -> None:
    """Checks that the frames of every grid are some, and a multiple of the network's unit."""
    unit = frame_unit(config.model)

    def fits(frames: int) -> bool:
        each = [round(frames / divisor) for divisor in divisors]
        return all(t and t % unit == 0 for t in each)

    if fits(config.frames):
        return
    below = next((n for n in range(config.frames, 0, -1) if fits(n)), None)
    above = next(n for n in itertools.count(config.frames) if fits(n))
    reasons = [f"the coarsest grid has 1/{divisors[-1]:g} of them"] if divisors[-1] > 1 else []
    name = MODELS[config.model.name].frame_unit
    reasons += [f"model.{name}={unit} must divide those of every clip"] if unit > 1 else []
    message = (
        f"frames={config.frames} does not fit: {' and '.join(reasons)}; use "
        f"{above if below is None else f'{below} or {above}'}"
    )
    if config.frames % unit == 0:  # evaluation's clips fit, so that other divisors help
        message += f", or other time divisors in {setting}"
        message += _nearest_valid_divisors(config.frames, unit, divisors)
    raise UserError(message)


def _nearest_valid_divisors(frames: int, unit: int, divisors: list[float]) -> str:
    """For the largest time divisor that does not fit, the nearest valid ones."""
    wrong = max(d for d in divisors if not round(frames / d) or round(frames / d) % unit)
    kept = frames / wrong // unit * unit  # of the next coarser grid that fits
    near = [t for t in (kept + unit, kept) if 0 < t < frames]
    if not near:
        return ""
    return (
        f": instead of {wrong:g}, {' or '.join(f'{frames / t:.4g} ({t:g} frames)' for t in near)}"
    )


def check_positive(value: float, name: str, otherwise: str = "") -> None:
    """Checks that a number is positive and finite.

    Args:
      value: to check.
      name: of the setting.
      otherwise: what to add to the message.
    """
    if not 0 < value < math.inf:
        raise UserError(f"{name}={value} must be positive{otherwise}")


def _check_all_positive(section, *names: str, of: str = "") -> None:
    """Checks settings of a section, whose name is `of`."""
    for name in names:
        check_positive(section[name], f"{of}.{name}" if of else name)


def _are_numbers(values: Iterable, count: int) -> bool:
    """Whether these are so many finite numbers."""
    values = tuple(values)
    return len(values) == count and all(
        isinstance(value, (int, float)) and math.isfinite(value) for value in values
    )
