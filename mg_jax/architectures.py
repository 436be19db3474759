"""The architectures by name and their settings, as plain data.

A plan checks them where JAX is not installed, so networks are named here and imported elsewhere.
"""

import contextlib
import dataclasses
import math
from collections.abc import Callable, Iterator
from typing import Any

from mg_jax.errors import UserError

DTYPES = ("float32", "bfloat16")
AFFINITIES = ("dot_product", "softmax", "unscaled_softmax")
SLOW_FRAMES = ("spread", "every")

# Bottleneck blocks of res2 ... res5 by depth; 8 ends with res3. 8 and 14 are for small data.
BLOCKS = {8: (1, 1), 14: (1, 1, 1, 1), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}


@dataclasses.dataclass(frozen=True)
class Architecture:
    """A network that `model.name` can name.

    Attributes:
      module: its Python module, whose `create(config, parts)` builds the network.
      check: raises UserError for invalid values of the settings that this architecture has.
      frame_unit: the setting that must divide the frames of every clip; None where any number of
        frames will fit.
      smallest_side: of clips, in pixels, by the `model` section of a config: of smaller ones no
        features are left.
    """

    module: str
    check: Callable[[Any], None]
    frame_unit: str | None = None
    smallest_side: Callable[[Any], int] = lambda config: 1


def check_model(config) -> None:
    """Checks the `model` section of a config.

    Raises:
      UserError: for an invalid value, naming the valid ones.
    """
    if config.name not in MODELS:
        raise UserError(f"model.name={config.name!r} is not known; use {' or '.join(MODELS)}")
    if config.num_classes < 0:
        raise UserError(
            f"model.num_classes={config.num_classes} must be at least 1, or 0 for as many as the "
            "data set has"
        )
    if not 0 <= config.dropout < 1:
        raise UserError(f"model.dropout={config.dropout} must be at least 0 and below 1")
    if config.dtype not in DTYPES:
        raise UserError(f"model.dtype={config.dtype!r} is not supported; use {' or '.join(DTYPES)}")
    with missing_settings_named(config):
        MODELS[config.name].check(config)


def frame_unit(config) -> int:
    """The number of frames that divides those of every clip that the model takes.

    Raises:
      UserError: if the config lacks the setting that gives it.
    """
    setting = MODELS[config.name].frame_unit
    with missing_settings_named(config):
        return getattr(config, setting) if setting else 1


def smallest_side(config) -> int:
    """The side of the smallest clips that the model takes, in pixels.

    Raises:
      UserError: if the config lacks a setting that gives it.
    """
    with missing_settings_named(config):
        return MODELS[config.name].smallest_side(config)


@contextlib.contextmanager
def missing_settings_named(config) -> Iterator[None]:
    """While an architecture reads the `model` section of a config, names a setting that it lacks.

    Raises:
      UserError: if there is one.
    """
    try:
        yield
    except AttributeError as error:
        if error.obj is not config:
            raise
        raise UserError(
            f"model.name={config.name} needs model.{error.name}, which the config lacks; set it in "
            "configs/base.py, for all recipes, or in the recipe"
        ) from error


def _check_resnet(config) -> None:
    _check_at_least_1(config, "width")
    if config.depth not in BLOCKS:
        depths = ", ".join(map(str, BLOCKS))
        raise UserError(f"model.depth={config.depth} does not exist; use one of {depths}")
    _check_odd(config, "stem_frames")
    _check_stage_frames(config, "stage_frames")
    _check_non_local(config.non_local, BLOCKS[config.depth])


def _check_i3d(config) -> None:
    _check_resnet(config)
    _check_at_least_1(config, "stem_stride")
    _check_at_least_1(config, "pool_frames")


def _check_slowfast(config) -> None:
    _check_resnet(config)
    _check_at_least_1(config, "alpha")
    _check_odd(config, "fusion_frames")
    _check_stage_frames(config, "fast_stage_frames")
    for name in ("stem_stride", "pool_frames"):
        if (value := getattr(config, name)) != 1:
            raise UserError(
                f"model.{name}={value} must be 1 with model.name=slowfast, whose slow "
                "pathway has every alpha-th frame of the fast one; it is a setting of i3d"
            )
    if config.slow_frames not in SLOW_FRAMES:
        raise UserError(
            f"model.slow_frames={config.slow_frames!r} is not known; use {' or '.join(SLOW_FRAMES)}"
        )
    if not 0.5 < config.width * config.beta < math.inf:  # rounds to 1 or more
        raise UserError(
            f"model.beta={config.beta:g} of model.width={config.width} leaves the fast pathway "
            "without channels; make their product at least 1"
        )


def _smallest_resnet_side(config) -> int:
    """Padding keeps a pixel of any side; without it the pooling takes 3 x 3 of the stem's."""
    return 1 if config.pad_stem_pool else 5


def _check_at_least_1(config, name: str) -> None:
    value = getattr(config, name)
    if value < 1:
        raise UserError(f"model.{name}={value} must be at least 1")


def _check_odd(config, name: str) -> None:
    value = getattr(config, name)
    if value < 1 or value % 2 == 0:
        raise UserError(f"model.{name}={value} must be odd, such as 1, 3, 5 or 7")


def _check_stage_frames(config, name: str) -> None:
    stages, count = tuple(getattr(config, name)), len(BLOCKS[config.depth])
    fits = len(stages) == count and all(
        isinstance(stage, (tuple, list))
        and stage
        and all(isinstance(k, int) and k > 0 and k % 2 for k in stage)
        for stage in stages
    )
    if not fits:
        raise UserError(
            f"model.{name}={stages} must list, for each of res2 ... res{count + 1}, odd kernel "
            "sizes over time that its blocks take in turn. For example ((1,), (1,), (3,), (3,)), "
            "or ((3,), (3, 1), (3, 1), (1, 3)) where every other block has one of 3; "
            f"model.depth={config.depth} has {count} of them"
        )


def _check_non_local(config, blocks: tuple[int, ...]) -> None:
    positions = tuple(config.positions)
    fits = len(positions) == len(blocks) and all(
        isinstance(stage, (tuple, list)) and all(j in range(count) for j in stage)
        for stage, count in zip(positions, blocks, strict=True)
    )
    if not fits:
        raise UserError(
            f"model.non_local.positions={positions} must list, for each of res2 ... res5, the "
            "blocks that a non-local block follows, counted from 0; the stages have "
            f"{blocks} blocks. For example ((), (1, 3), (1, 3, 5), ())"
        )
    if config.instantiation not in AFFINITIES:
        raise UserError(
            f"model.non_local.instantiation={config.instantiation!r} is not known; use "
            f"{' or '.join(AFFINITIES)}"
        )
    pool = tuple(config.pool)
    if len(pool) != 3 or not all(isinstance(size, int) and size > 0 for size in pool):
        raise UserError(
            f"model.non_local.pool={pool} must be three positive whole numbers, for time, height "
            "and width, for example (1, 2, 2)"
        )


MODELS = {
    "i3d": Architecture("mg_jax.models.i3d", _check_i3d, smallest_side=_smallest_resnet_side),
    "slowfast": Architecture(
        "mg_jax.models.slowfast",
        _check_slowfast,
        frame_unit="alpha",
        smallest_side=_smallest_resnet_side,
    ),
}
