"""The settings of optimizer, loss and augmentation: what is valid, and what they ask for.

Pure Python, as a plan needs them.
"""

import math

from mg_jax.errors import UserError
from mg_jax.grid import Grid
from mg_jax.schedule import Schedule

OPTIMIZERS = ("sgd", "adamw")
# What optimizer.freeze names, from the input on; the head is trained always.
STAGES = ("stem", "res2", "res3", "res4", "res5")


def check_training(config) -> None:
    """Checks the settings of optimizer, loss, augmentation and class balance.

    Raises:
      UserError: for an invalid value, naming the valid ones.
    """
    _check_optimizer(config.optimizer)
    _check_freeze(config)
    _check_share(config.model.drop_path, "model.drop_path")
    _check_share(config.loss.label_smoothing, "loss.label_smoothing")
    if not 0 <= config.data.class_exponent <= 1:
        raise UserError(
            f"data.class_exponent={config.data.class_exponent} must lie in 0 ... 1: 0 for classes "
            "drawn equally often, 1 for videos drawn equally often"
        )
    if config.data.flip_pairs and not config.data.flip:
        raise UserError(
            f"data.flip_pairs={config.data.flip_pairs!r} names classes that swap when a clip is "
            "mirrored, and data.flip=False mirrors none; set data.flip=True"
        )
    _check_augment(config.augment)
    if mixes(config.augment) and config.data.multi_label:
        raise UserError(
            f"augment.mixup={config.augment.mixup} and augment.cutmix={config.augment.cutmix} mix "
            "the labels of two clips, which must have one each; set both to 0 where "
            "data.multi_label=True"
        )
    if config.run.accumulate < 1:
        raise UserError(f"run.accumulate={config.run.accumulate} must be at least 1")


def changes_pixels(augment) -> bool:
    """Whether the `augment` section changes any clip."""
    jitter = augment.brightness, augment.contrast, augment.saturation, augment.hue
    return bool(augment.rand_layers or any(jitter) or augment.erase or mixes(augment))


def mixes(augment) -> bool:
    """Whether the `augment` section mixes clips with each other."""
    return bool(augment.mix and (augment.mixup or augment.cutmix))


def check_parts(config, schedule: Schedule, devices: int) -> None:
    """Checks that batches divide into parts, and that each clip has a neighbour to be mixed with.

    Args:
      config: of the run.
      schedule: that it describes.
      devices: their number, which divides the batch.

    Raises:
      UserError: naming valid settings.
    """
    parts, grids = config.run.accumulate, list(schedule.grids_from(0))
    paired = mixes(config.augment)  # clips are mixed with their neighbours
    mixing = "augment.mixup and augment.cutmix mix neighbouring clips"

    def divides(count: int, grid: Grid) -> bool:
        clips = grid.batch // devices
        return count == 1 or (clips % count == 0 and clips // count % grid.sub_batch == 0)

    def fits(count: int, grid: Grid) -> bool:
        return divides(count, grid) and not (paired and grid.batch // devices // count % 2)

    def clips_of(grid: Grid) -> str:
        clips = grid.batch // devices
        return f"the {clips} clips that each of {devices} devices has of grid {grid}"

    if odd := next((grid for grid in grids if not fits(1, grid)), None):
        raise UserError(
            f"{mixing}, and {clips_of(odd)} are not an even number; use another batch, sub_batch "
            "or number of devices"
        )
    if wrong := next((grid for grid in grids if not fits(parts, grid)), None):
        whole = f"parts of whole sub-batches of {wrong.sub_batch} clips"
        reason = f"does not divide {clips_of(wrong)} into {whole}"
        if divides(parts, wrong):
            reason = f"divides {clips_of(wrong)} into parts of an odd number, and {mixing}"
        counts = range(1, config.batch // devices + 1)
        valid = [n for n in counts if all(fits(n, grid) for grid in grids)]
        raise UserError(
            f"run.accumulate={parts} {reason}; for all grids of the schedule use "
            f"{' or '.join(map(str, valid))}"
        )


def _check_optimizer(optimizer) -> None:
    if optimizer.name not in OPTIMIZERS:
        raise UserError(
            f"optimizer.name={optimizer.name!r} is not known; use {' or '.join(OPTIMIZERS)}"
        )
    if len(optimizer.betas) != 2 or not all(
        isinstance(beta, (int, float)) and 0 <= beta < 1 for beta in optimizer.betas
    ):
        raise UserError(
            f"optimizer.betas={tuple(optimizer.betas)} must be two numbers, at least 0 and below "
            "1, for example (0.9, 0.999)"
        )
    if not 0 < optimizer.layer_decay <= 1:
        raise UserError(
            f"optimizer.layer_decay={optimizer.layer_decay} must be above 0 and at most 1"
        )
    for name in ("weight_decay", "clip_norm"):
        if not 0 <= optimizer[name] < math.inf:
            raise UserError(f"optimizer.{name}={optimizer[name]} must be positive, or 0 for none")
    for name in ("momentum", "average"):
        _check_share(optimizer[name], f"optimizer.{name}")


def _check_freeze(config) -> None:
    stages = STAGES[: len(config.model.stage_frames) + 1]
    if config.optimizer.freeze not in ("", *stages):
        raise UserError(
            f"optimizer.freeze={config.optimizer.freeze!r} is not a stage of the network; use "
            f"{', '.join(stages)}, or '' to train all"
        )


def _check_augment(augment) -> None:
    if augment.rand_layers < 0:
        raise UserError(f"augment.rand_layers={augment.rand_layers} must not be negative")
    limits = {
        "rand_magnitude": 10,
        "brightness": 1,
        "contrast": 1,
        "saturation": 1,
        "hue": 0.5,
        "erase": 1,
        "mix": 1,
        "coarse": 1,
    }
    for name, most in limits.items():
        if not 0 <= augment[name] <= most:
            raise UserError(f"augment.{name}={augment[name]} must lie in 0 ... {most}")
    for name in ("mixup", "cutmix"):
        if not 0 <= augment[name] < math.inf:
            raise UserError(f"augment.{name}={augment[name]} must be positive, or 0 for none")


def _check_share(value: float, name: str) -> None:
    if not 0 <= value < 1:
        raise UserError(f"{name}={value} must be at least 0 and below 1")
