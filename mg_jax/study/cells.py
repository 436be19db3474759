"""What a study trains: cells, each a variant of a config by a name."""

from collections.abc import Iterable
from typing import Any

from mg_jax.errors import UserError
from mg_jax.grid import LONG_CYCLE
from mg_jax.recipe import recipe_from_config, schedule_from_config
from mg_jax.schedule import Multigrid, Schedule, TooShort

BASELINE, MULTIGRID = "baseline", "multigrid"
COARSE, SHORT, LONG = "baseline_coarse", "short_cycle_only", "long_cycle_only"

# The variants that Fig. 3 trains for several lengths, with the epochs of each relative to the
# recipe's; the longest only of those that are cheap.
FACTORS = {
    BASELINE: (0.25, 0.5, 1.0, 1.5, 2.0),
    COARSE: (0.25, 0.5, 1.0, 1.5, 2.0, 3.0),
    SHORT: (0.25, 0.5, 1.0, 1.5, 2.0),
    LONG: (0.25, 0.5, 1.0, 1.5, 2.0, 3.0),
    MULTIGRID: (0.25, 0.5, 1.0, 1.5, 2.0, 3.0),
}

_NO_CYCLES = {"multigrid.long_cycle": False, "multigrid.short_cycle": False}
_SHAPES = tuple((shape.time, shape.area) for shape in LONG_CYCLE)

# The method as the paper recommends it. The cells differ in these settings.
_DEFAULTS = {
    "multigrid.long_cycle": True,
    "multigrid.short_cycle": True,
    **{f"multigrid.{name}": value for name, value in vars(Multigrid()).items()},
    "multigrid.shapes": _SHAPES,
    "baseline.epoch_factor": 1.0,
    "baseline.iterations": 0,
    "baseline.time_divisor": 1,
    "baseline.area_divisor": 1,
    "schedule.cosine": False,
    "augment.rand_layers": 0,
    "augment.rand_magnitude": 7,
    "augment.coarse": 1.0,
}


def cells(config, overrides: Iterable[str] = ()) -> dict[str, dict[str, Any]]:
    """For each cell, by name, the settings that make it of a config.

    They set everything in which cells differ, whatever the config itself says of it: all but those
    called augmented go without RandAugment. Runs of fewer
    epochs than the recipe's have a warm-up that is shorter by as much, otherwise it might be longer
    than the run. Cells are left out that would leave a learning-rate stage without iterations.

    Args:
      config: the recipe.
      overrides: names of the settings that were given on the command line.

    Raises:
      UserError: if the config has no sub-batches, or describes no schedule, or if an override is
        of a setting in which cells differ.
    """
    if taken := [name for name in overrides if name in _DEFAULTS]:
        raise UserError(
            f"--config.{taken[0]} is what the cells of a study differ in; leave it out and choose "
            "cells with --set or --cells"
        )
    if not config.sub_batch:
        raise UserError("a study compares sub-batches with whole batches; set sub_batch, say to 8")
    variants = _variants(_iterations(config, {}))
    for factor in (1.0, 1.5, 2.0):
        try:
            cut = _iterations(config, {"multigrid.epoch_factor": factor})
        except TooShort:
            continue
        variants[f"baseline_cut_{factor:g}x"] = {**_NO_CYCLES, "baseline.iterations": cut}
    if config.sub_batch == config.batch:
        del variants["baseline_whole_batch_bn"]
    *_, before, last = recipe_from_config(config).stages
    if before <= last / 2:
        del variants["fine_tuning_longer"]
    found = {}
    for name, changed in variants.items():
        try:
            found[name] = _with_warmup(config, {**_DEFAULTS, **changed})
        except TooShort:
            if name in (BASELINE, MULTIGRID):
                raise
    return found


def cell_config(config, settings: dict[str, Any], seed: int):
    """The config of a cell with a seed."""
    config = config.copy_and_resolve_references()
    config.update_from_flattened_dict({**settings, "seed": seed})
    return config


def timed(name: str, factor: float) -> str:
    """The name of a variant's cell whose epochs are `factor` times the recipe's."""
    usual = 1.0 if name in (BASELINE, COARSE) else Multigrid.epoch_factor
    return name if factor == usual else f"{name}_{factor:g}x"


def _variants(iterations: int) -> dict[str, dict[str, Any]]:
    """What each cell changes; `iterations` are those of the default multigrid schedule."""
    coarse = {"baseline.time_divisor": 4, "baseline.area_divisor": 2}
    variants = {
        BASELINE: _NO_CYCLES,
        COARSE: {**_NO_CYCLES, **coarse},
        SHORT: {"multigrid.long_cycle": False},
        LONG: {"multigrid.short_cycle": False},
        MULTIGRID: {},
    }
    lengths = {
        timed(name, factor): {
            **variants[name],
            f"{'baseline' if name in (BASELINE, COARSE) else 'multigrid'}.epoch_factor": factor,
        }
        for name, factors in FACTORS.items()
        for factor in factors
    }
    # In the paper's Table 1 all variants run as many iterations as the default.
    as_long = {
        "table1_1_shape": variants[SHORT],
        "table1_2_shapes": {"multigrid.shapes": _SHAPES[-2:]},
        "table1_3_shapes": {"multigrid.shapes": _SHAPES[-3:]},
        "table1_1_short_shape": variants[LONG],
        "table1_2_short_shapes": {"multigrid.short_shapes": 2},
        "no_fine_tuning": {"multigrid.fine_tuning": False},
        "fine_tuning_half": {"multigrid.fine_tuning_share": 0.5},
        "fine_tuning_longer": {"multigrid.fine_tuning_share": 1.5},
        "space_only": {"multigrid.shapes": ((1, 2), (1, 1))},
        "time_only": {"multigrid.shapes": ((4, 1), (2, 1), (1, 1))},
        "two_stages": {"multigrid.shapes": ((4, 1), (1, 1))},
    }
    cosine, single = {"schedule.cosine": True}, {"multigrid.single_cycle": True}
    augmented = {"augment.rand_layers": 2, "augment.rand_magnitude": 5}
    return {
        **variants,  # first, at their usual lengths
        **lengths,
        **{name: {**it, "multigrid.iterations": iterations} for name, it in as_long.items()},
        "single_cycle": single,
        "baseline_cosine": {**_NO_CYCLES, **cosine},
        "cosine_single_cycle": {**single, **cosine},
        "cosine": cosine,
        "short_cycle_rate": {"multigrid.short_cycle_rate": True},
        "baseline_augmented": {**_NO_CYCLES, **augmented},
        "augmented": augmented,
        "augmented_by_grid": {**augmented, "augment.coarse": 0.3},
        "whole_batch_bn": {"sub_batch": 0},
        "baseline_whole_batch_bn": {**_NO_CYCLES, "sub_batch": 0},
    }


def _iterations(config, changed: dict[str, Any]) -> int:
    return _schedule(config, {**_DEFAULTS, **changed}).iterations


def _schedule(config, settings: dict[str, Any]) -> Schedule:
    """Of a cell without a warm-up, which does not change grids and iterations."""
    settings = {**settings, "schedule.warmup_iterations": 0}
    return schedule_from_config(cell_config(config, settings, config.seed))


def _with_warmup(config, settings: dict[str, Any]) -> dict[str, Any]:
    recipe = recipe_from_config(config)
    epochs = _schedule(config, settings).clips / (recipe.iterations * recipe.base.batch)
    warmup = config.schedule.warmup_iterations
    # Rounding to whole iterations makes epochs a little fewer than the factor.
    if epochs > 0.99 or not warmup:
        return settings
    return {**settings, "schedule.warmup_iterations": round(epochs * warmup)}
