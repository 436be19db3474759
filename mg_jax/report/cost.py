"""Floating-point operations of training, from the compiler's count of inference."""

import dataclasses
import json

from mg_jax.machine.progress import shown
from mg_jax.report.groups import Group
from mg_jax.tools.complexity import multiply_adds

# A multiply-add is two operations; the backward pass computes the gradients of both factors and
# takes as much as two forward passes.
_FLOPS_OF_MULTIPLY_ADD = 3 * 2
# Counted before, by model, frames and size: a study reports again after every run.
_counted: dict[tuple[str, int, int], float] = {}


def with_flops(groups: list[Group]) -> list[Group]:
    """The groups with their `clip_flops` counted.

    Takes a second or more for each model and shape of a clip, under a progress bar.
    """
    wanted = {}
    for group in groups:
        for grid in group.schedule.grid_counts():
            wanted.setdefault((_model(group), grid.frames, grid.size), group.config)
    new = {key: config for key, config in wanted.items() if key not in _counted}
    for key, config in shown(new.items(), "counting operations", "clip", len(new)):
        _counted[key] = _FLOPS_OF_MULTIPLY_ADD * multiply_adds(config, *key[1:])
    return [
        dataclasses.replace(
            group,
            clip_flops={key[1:]: _counted[key] for key in wanted if key[0] == _model(group)},
        )
        for group in groups
    ]


def _model(group: Group) -> str:
    return json.dumps(group.config.model.to_dict(), sort_keys=True)
