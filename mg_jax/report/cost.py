"""Floating-point operations of training, from the compiler's count of inference."""

import json

from mg_jax.machine.progress import shown
from mg_jax.report.groups import Group
from mg_jax.schedule import Schedule
from mg_jax.tools.complexity import multiply_adds

# A multiply-add is two operations; the backward pass computes the gradients of both factors and
# takes as much as two forward passes.
_FLOPS_OF_MULTIPLY_ADD = 3 * 2


def flops_by_clip(groups: list[Group]) -> list[dict[tuple[int, int], float]]:
    """For each group the operations of training on one clip, by its frames and size.

    Takes a second or more for each model and clip; shows how far it is.
    """
    wanted = {}
    for group in groups:
        for grid in group.schedule.grid_counts():
            wanted.setdefault((_model(group), grid.frames, grid.size), group.config)
    counted = {
        key: _FLOPS_OF_MULTIPLY_ADD * multiply_adds(config, *key[1:])
        for key, config in shown(wanted.items(), "counting operations", "clip", len(wanted))
    }
    return [
        {key[1:]: flops for key, flops in counted.items() if key[0] == _model(group)}
        for group in groups
    ]


def _model(group: Group) -> str:
    return json.dumps(group.config.model.to_dict(), sort_keys=True)


def training_flops(schedule: Schedule, step: int, by_clip: dict[tuple[int, int], float]) -> float:
    """Operations of the iterations before `step`; evaluation is no part of them."""
    return sum(
        count * grid.batch * by_clip[grid.frames, grid.size]
        for grid, count in schedule.grid_counts(step).items()
    )
