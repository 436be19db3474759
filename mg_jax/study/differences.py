"""Differences of accuracy between two cells, paired by seed."""

import dataclasses
import math
import statistics

from scipy import special

from mg_jax.report.groups import Group

_WITHIN = 0.95  # of the differences that chance alone would show


@dataclasses.dataclass(frozen=True)
class Difference:
    """By how many percentage points a cell is above another, over the seeds that both have.

    Attributes:
      mean: over seeds.
      error: standard error of the mean; None with one seed.
      seeds: their number.
    """

    mean: float
    error: float | None
    seeds: int

    @property
    def told_apart(self) -> bool:
        """Whether chance alone would show such a difference in fewer than 1 of 20 cases.

        Not where all seeds differ by the same: accuracies come in steps of one video, so that few
        seeds do so by chance, and what chance does is then not known.
        """
        if self.error is None or math.isclose(self.error, 0, abs_tol=1e-9):
            return False
        # Quantile of Student's t-distribution, by degrees of freedom; two-sided.
        quantile = special.stdtrit(self.seeds - 1, (1 + _WITHIN) / 2)
        return bool(abs(self.mean) > quantile * self.error)


def difference(group: Group, reference: Group) -> Difference | None:
    """A cell's difference from a reference; None where they share no seed.

    A seed gives both the same clips and initial parameters, so pairs differ by less than seeds do.
    """
    ours, theirs = (_scores(each) for each in (group, reference))
    points = [100 * (ours[seed] - theirs[seed]) for seed in ours.keys() & theirs.keys()]
    if not points:
        return None
    count = len(points)
    error = statistics.stdev(points) / math.sqrt(count) if count > 1 else None
    return Difference(statistics.fmean(points), error, count)


def _scores(group: Group) -> dict[int, float]:
    return {run.config.seed: run.summary["metrics"][group.metric] for run in group.finished}
