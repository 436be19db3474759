"""What a study compares: cells, each a variant of a config, and the questions they answer."""

import dataclasses
from collections.abc import Iterable
from typing import Any

from mg_jax.errors import UserError
from mg_jax.grid import LONG_CYCLE
from mg_jax.recipe import as_baseline, schedule_from_config
from mg_jax.schedule import Multigrid

BASELINE, MULTIGRID = "baseline", "multigrid"


@dataclasses.dataclass(frozen=True)
class Answer:
    """A row of a table.

    Attributes:
      label: what tells it from the other rows.
      cell: the cell's name; one cell may answer several questions.
    """

    label: str
    cell: str


@dataclasses.dataclass(frozen=True)
class Question:
    """A table of the study.

    Attributes:
      title: the question.
      paper: what the paper and its authors' models say about it, with the source.
      answers: the rows.
    """

    title: str
    paper: str
    answers: tuple[Answer, ...]


def cells(config, overrides: Iterable[str] = ()) -> dict[str, dict[str, Any]]:
    """For each cell, by name, the settings that make it of a config.

    They set everything that the paper varies, whatever the config itself says of it.

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
            "cells with --cells"
        )
    if not config.sub_batch:
        raise UserError("a study compares sub-batches with whole batches; set sub_batch, say to 8")
    multigrid = cell_config(config, _DEFAULTS, config.seed)
    iterations = schedule_from_config(multigrid).iterations
    shortened = iterations / schedule_from_config(as_baseline(multigrid)).iterations
    variants = _variants(shortened, config.schedule.warmup_iterations)
    if config.sub_batch == config.batch:
        del variants["baseline_whole_batch_bn"]
    return {name: {**_DEFAULTS, **changed} for name, changed in variants.items()}


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
}


def _variants(shortened: float, warmup_iterations: int) -> dict[str, dict[str, Any]]:
    """What each cell changes; `shortened` is multigrid's share of the baseline's iterations."""
    no_cycles = {"multigrid.long_cycle": False, "multigrid.short_cycle": False}
    return {
        BASELINE: no_cycles,
        "baseline_shortened": {
            **no_cycles,
            "baseline.epoch_factor": shortened,
            # The warm-up is shortened too, otherwise it may be longer than the run.
            "schedule.warmup_iterations": round(shortened * warmup_iterations),
        },
        "baseline_coarse": {
            **no_cycles,
            "baseline.time_divisor": 4,
            "baseline.area_divisor": 2,
        },
        MULTIGRID: {},
        "short_cycle_only": {"multigrid.long_cycle": False},
        "long_cycle_only": {"multigrid.short_cycle": False},
        "long_cycle_of_2": {"multigrid.shapes": _SHAPES[-2:]},
        "long_cycle_of_3": {"multigrid.shapes": _SHAPES[-3:]},
        "short_cycle_of_2": {"multigrid.short_shapes": 2},
        "no_fine_tuning": {"multigrid.fine_tuning": False},
        "short_cycle_rate": {"multigrid.short_cycle_rate": True},
        "epochs_1.0": {"multigrid.epoch_factor": 1.0},
        "epochs_2.0": {"multigrid.epoch_factor": 2.0},
        "single_cycle": {"multigrid.single_cycle": True},
        "whole_batch_bn": {"sub_batch": 0},
        "baseline_whole_batch_bn": {**no_cycles, "sub_batch": 0},
    }


def cell_config(config, settings: dict[str, Any], seed: int):
    """The config of a cell with a seed."""
    config = config.copy_and_resolve_references()
    config.update_from_flattened_dict({**settings, "seed": seed})
    return config


_ZOO = "PySlowFast's model zoo"

QUESTIONS = (
    Question(
        "Multigrid against the baseline",
        "4.5× faster by the clock in 3.4× fewer iterations, +0.8 points on Kinetics-400 (abstract, "
        f"Table 1). {_ZOO}: 76.6 against the baseline's 76.8 % on Kinetics-400, 63.5 against 63.0 "
        "% on Something-Something V2, 38.6 against 38.9 mAP on Charades.",
        (
            Answer("baseline", BASELINE),
            Answer("baseline, multigrid's iterations", "baseline_shortened"),
            Answer("baseline on T/4 × (H/√2)²", "baseline_coarse"),
            Answer("short cycle only", "short_cycle_only"),
            Answer("long cycle only", "long_cycle_only"),
            Answer("multigrid: both", MULTIGRID),
        ),
    ),
    Question(
        "Shapes of the long cycle",
        "its default is 4.",
        (
            Answer("S' = 1, the short cycle only", "short_cycle_only"),
            Answer("S' = 2", "long_cycle_of_2"),
            Answer("S' = 3", "long_cycle_of_3"),
            Answer("S' = 4", MULTIGRID),
        ),
    ),
    Question(
        "Shapes of the short cycle",
        "its default is 3.",
        (
            Answer("1, the long cycle only", "long_cycle_only"),
            Answer("2", "short_cycle_of_2"),
            Answer("3", MULTIGRID),
        ),
    ),
    Question(
        "Fine-tuning on the full shape",
        "its default is with it.",
        (Answer("with", MULTIGRID), Answer("without", "no_fine_tuning")),
    ),
    Question(
        "The learning rate and the short cycle",
        "scaling it by the short cycle's batch too is harmful.",
        (Answer("by the long cycle's batch", MULTIGRID), Answer("by both", "short_cycle_rate")),
    ),
    Question(
        "Epochs",
        "its default is 1.5×. Fewer iterations by 5.2, 3.4 and 2.6 times on Something-Something "
        "V2, 5.3, 3.5 and 2.6 on Charades.",
        (
            Answer("1.0× the baseline's", "epochs_1.0"),
            Answer("1.5×", MULTIGRID),
            Answer("2.0×", "epochs_2.0"),
        ),
    ),
    Question(
        "One long cycle over the run, or one per learning-rate stage",
        "its default is one per stage.",
        (Answer("per stage", MULTIGRID), Answer("single", "single_cycle")),
    ),
    Question(
        "Batch norm",
        "its default is sub-batches, of 8 clips.",
        (
            Answer("multigrid, sub-batches", MULTIGRID),
            Answer("multigrid, whole batches of all devices", "whole_batch_bn"),
            Answer("baseline, sub-batches", BASELINE),
            Answer("baseline, whole batches of all devices", "baseline_whole_batch_bn"),
        ),
    ),
)
