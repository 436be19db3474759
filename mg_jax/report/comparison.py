"""The comparison of groups of seeds that every rendering shows: terminal, page and study."""

import dataclasses
import json
from collections.abc import Iterable
from typing import Any, Literal

from mg_jax.report.groups import Group

Quantity = Literal["iterations", "flops", "train_s", "wall_clock_s"]


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Groups of seeds, compared with one of them.

    Attributes:
      groups: all, in the order in which they are shown.
      reference: the group that the others are compared with; None where it has no run yet.
    """

    groups: tuple[Group, ...]
    reference: Group | None

    @property
    def others(self) -> list[Group]:
        """The groups besides the reference."""
        return [group for group in self.groups if group is not self.reference]

    def ratio(self, group: Group, quantity: Quantity) -> float | None:
        """The reference's quantity over a group's, so above 1 where the group needs less.

        Iterations and floating-point operations are those of the whole schedules. Seconds are
        means over seeds; None unless both groups have a finished run.
        """
        if self.reference is None:
            return None
        theirs, ours = (_total(each, quantity) for each in (self.reference, group))
        return None if theirs is None or ours is None else theirs / ours

    def points(self, group: Group) -> float | None:
        """By how many percentage points a group's mean accuracy is above the reference's.

        None unless both have a finished run.
        """
        if self.reference is None or not (self.reference.finished and group.finished):
            return None
        ours, theirs = (each.values[each.metric].mean for each in (group, self.reference))
        return 100 * (ours - theirs)

    def differing_settings(self) -> dict[str, list[list[Any]]]:
        """By name the settings in which any two runs differ: for each group its runs' values.

        A value that several runs of a group share is listed once.
        """
        found = {}
        for name in self.groups[0].runs[0].settings:
            values = [_distinct(run.settings[name] for run in group.runs) for group in self.groups]
            if len(_distinct(value for of_group in values for value in of_group)) > 1:
                found[name] = values
        return found


def compared_with_first(groups: list[Group]) -> Comparison:
    """A comparison of at least one group whose reference is the first."""
    return Comparison(tuple(groups), groups[0])


def _total(group: Group, quantity: Quantity) -> float | None:
    if quantity == "iterations":
        return group.schedule.iterations
    if quantity == "flops":
        return group.flops(group.schedule.iterations)
    return group.values[quantity].mean if group.finished else None


def _distinct(values: Iterable[Any]) -> list[Any]:
    """Each value of JSON once, in the order in which they come first."""
    return list({json.dumps(value): value for value in values}.values())
