"""What a study compares: cells, each a config, and the questions that rows of cells answer."""

import dataclasses
from typing import Any

from mg_jax.recipe import as_baseline, schedule_from_config
from mg_jax.schedule import Multigrid

BASELINE, MULTIGRID = "baseline", "multigrid"


@dataclasses.dataclass(frozen=True)
class Row:
    """A line of a table.

    Attributes:
      label: what differs from the other rows.
      cell: its name; one cell may answer several questions.
    """

    label: str
    cell: str


@dataclasses.dataclass(frozen=True)
class Question:
    """A table of the study.

    Attributes:
      title: the question.
      paper: what the paper and its authors' models say about it, with the source.
      rows: what answers it.
    """

    title: str
    paper: str
    rows: tuple[Row, ...]


def cells(config) -> dict[str, dict[str, Any]]:
    """The settings that make each cell of a config, by the cell's name.

    They say all that the paper varies, so what the config itself says of it does not matter.

    Raises:
      ValueError: if the config has no sub-batches, or no schedule.
    """
    if not config.sub_batch:
        raise ValueError("a study compares sub-batches with whole batches; set sub_batch, say to 8")
    multigrid = cell_config(config, _DEFAULTS, config.seed)
    iterations = schedule_from_config(multigrid).iterations
    shortened = iterations / schedule_from_config(as_baseline(multigrid)).iterations
    variants = _variants(shortened, config.schedule.warmup_iterations)
    if config.sub_batch == config.batch:
        del variants["baseline_whole_batch_bn"]
    return {name: {**_DEFAULTS, **changed} for name, changed in variants.items()}


# The method as the paper recommends it.
_DEFAULTS = {
    "multigrid.long_cycle": True,
    "multigrid.short_cycle": True,
    **{f"multigrid.{name}": value for name, value in dataclasses.asdict(Multigrid()).items()},
    "baseline.epoch_factor": 1.0,
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
            # Else it may be longer than the run.
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
        "long_cycle_of_2": {"multigrid.long_shapes": 2},
        "long_cycle_of_3": {"multigrid.long_shapes": 3},
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
    """The config of a cell's run."""
    config = config.copy_and_resolve_references()
    config.update_from_flattened_dict({**settings, "seed": seed})
    return config


_ZOO = "PySlowFast's model zoo"

QUESTIONS = (
    Question(
        "Multigrid against the baseline",
        "4.5x faster by the clock in 3.4x fewer iterations, +0.8 points on Kinetics-400 (abstract, "
        f"Table 1). {_ZOO}: 76.6 against the baseline's 76.8 % on Kinetics-400, 63.5 against 63.0 "
        "% on Something-Something V2, 38.6 against 38.9 mAP on Charades.",
        (
            Row("baseline", BASELINE),
            Row("baseline, multigrid's iterations", "baseline_shortened"),
            Row("baseline on T/4 x (H/sqrt 2)^2", "baseline_coarse"),
            Row("short cycle only", "short_cycle_only"),
            Row("long cycle only", "long_cycle_only"),
            Row("multigrid: both", MULTIGRID),
        ),
    ),
    Question(
        "Shapes of the long cycle",
        "4 is its default.",
        (
            Row("S' = 1, the short cycle only", "short_cycle_only"),
            Row("S' = 2", "long_cycle_of_2"),
            Row("S' = 3", "long_cycle_of_3"),
            Row("S' = 4", MULTIGRID),
        ),
    ),
    Question(
        "Shapes of the short cycle",
        "3 is its default.",
        (
            Row("1, the long cycle only", "long_cycle_only"),
            Row("2", "short_cycle_of_2"),
            Row("3", MULTIGRID),
        ),
    ),
    Question(
        "Fine-tuning on the full shape",
        "with it is its default.",
        (Row("with", MULTIGRID), Row("without", "no_fine_tuning")),
    ),
    Question(
        "The learning rate and the short cycle",
        "scaling it by the short cycle's batch too is harmful.",
        (Row("by the long cycle's batch", MULTIGRID), Row("by both", "short_cycle_rate")),
    ),
    Question(
        "Epochs",
        "1.5x is its default. Fewer iterations by 5.2, 3.4 and 2.6 times on Something-Something "
        "V2, 5.3, 3.5 and 2.6 on Charades.",
        (
            Row("1.0x the baseline's", "epochs_1.0"),
            Row("1.5x", MULTIGRID),
            Row("2.0x", "epochs_2.0"),
        ),
    ),
    Question(
        "One long cycle over the run, or one per learning-rate stage",
        "one per stage is its default.",
        (Row("per stage", MULTIGRID), Row("single", "single_cycle")),
    ),
    Question(
        "Batch norm",
        "sub-batches are its default.",
        (
            Row("multigrid, sub-batches", MULTIGRID),
            Row("multigrid, whole batches of all devices", "whole_batch_bn"),
            Row("baseline, sub-batches", BASELINE),
            Row("baseline, whole batches of all devices", "baseline_whole_batch_bn"),
        ),
    ),
)
