"""Groups of seeds: runs of one config as one, with mean and standard deviation of their metrics."""

import dataclasses
import functools
import json
import pathlib
import re
import statistics

from mg_jax.errors import UserError
from mg_jax.metrics import NAMES
from mg_jax.recipe import variant
from mg_jax.report.runs import RunRecord, read_runs
from mg_jax.workdir.config import result_settings
from mg_jax.workdir.finished import CLOCKS


@dataclasses.dataclass(frozen=True)
class Spread:
    """A mean and, of two values or more, their sample standard deviation."""

    mean: float
    deviation: float | None


def spread(values: list[float]) -> Spread:
    """Of at least one value."""
    deviation = statistics.stdev(values) if len(values) > 1 else None
    return Spread(statistics.fmean(values), deviation)


@dataclasses.dataclass(frozen=True)
class Group:
    """Runs of one config, which differ in their seeds.

    Attributes:
      name: what the names of its runs have in common.
      runs: at least one.
      clip_flops: floating-point operations of training on one clip, by its frames and size; None
        where they were not counted.
    """

    name: str
    runs: tuple[RunRecord, ...]
    clip_flops: dict[tuple[int, int], float] | None = None

    @property
    def config(self):
        return self.runs[0].config

    @property
    def schedule(self):
        return self.runs[0].schedule

    @property
    def method(self) -> str:
        return variant(self.config)

    @property
    def metric(self) -> str:
        """The metric by which runs are judged: top1 or map."""
        return "map" if self.config.data.multi_label else "top1"

    @property
    def finished(self) -> list[RunRecord]:
        return [run for run in self.runs if run.summary is not None]

    @property
    def diverged(self) -> list[RunRecord]:
        return [run for run in self.runs if run.diverged is not None]

    @property
    def averaged(self) -> list[RunRecord]:
        """The runs over which evaluations during training are averaged.

        They have been evaluated and did not diverge.
        """
        return [run for run in self.runs if run.evaluations and run.diverged is None]

    @property
    def evaluated(self) -> list[int]:
        """The steps after which each of `averaged` was evaluated during training, ascending."""
        steps = [set(run.evaluations) for run in self.averaged]
        return sorted(set.intersection(*steps)) if steps else []

    @property
    def epochs(self) -> float:
        """Of the whole schedule."""
        return self.runs[0].epochs(self.schedule.iterations)

    @functools.cached_property
    def values(self) -> dict[str, Spread]:
        """Metrics as shares of one, loss, and seconds (`CLOCKS` and `wall_clock_s`), by name.

        Of the finished runs. Before there is one, of the newest evaluation that all of `averaged`
        have; empty where there is none either.
        """
        if self.finished:
            rows = [{**run.summary, **run.summary["metrics"]} for run in self.finished]
        elif self.evaluated:
            rows = [run.evaluations[self.evaluated[-1]] for run in self.averaged]
        else:
            return {}
        names = [*NAMES, "loss", *CLOCKS, "wall_clock_s"]
        return {
            name: spread([row[name] for row in rows])
            for name in names
            if all(name in row for row in rows)
        }

    def flops(self, step: int) -> float:
        """Floating-point operations of the first `step` iterations, without evaluation."""
        return sum(
            count * grid.batch * self.clip_flops[grid.frames, grid.size]
            for grid, count in self.schedule.grid_counts(step).items()
        )


def read_groups(folders: list[pathlib.Path]) -> list[Group]:
    """Reads the work directories of runs, finished or not, and groups them by config.

    Raises:
      UserError: for runs that cannot be read or compared.
    """
    return group_runs(read_runs(folders))


def group_runs(runs: list[RunRecord]) -> list[Group]:
    """Puts runs together that differ in their seeds alone.

    Settings on which results do not depend, such as where the data lie, may differ too.

    Raises:
      UserError: for runs whose accuracies cannot be compared, naming two.
    """
    check_comparable(runs)
    members: dict[str, list[RunRecord]] = {}
    for run in runs:
        kept = result_settings(run.settings)
        del kept["seed"]
        members.setdefault(json.dumps(kept, sort_keys=True), []).append(run)
    groups = list(members.values())
    names = [_common_name([run.name for run in group]) for group in groups]
    return [
        Group(name if name and names.count(name) == 1 else _first_name(group), tuple(group))
        for name, group in zip(names, groups, strict=True)
    ]


def _common_name(names: list[str]) -> str:
    """The words that all names have in the same places, if any."""
    # Words at even places, separators at odd ones.
    words = [re.split(r"([/_\- ]+)", name) for name in names]
    if len(names) == 1:
        return names[0]
    if len({len(row) for row in words}) > 1:
        return ""
    columns = list(zip(*words, strict=True))
    common = [
        (columns[i - 1][0] if i else "") + columns[i][0]
        for i in range(0, len(columns), 2)
        if len(set(columns[i])) == 1
    ]
    return "".join(common).strip("/_- ")


def _first_name(group: list[RunRecord]) -> str:
    more = f" and {len(group) - 1} more" if len(group) > 1 else ""
    return group[0].name + more


def check_comparable(runs: list[RunRecord]) -> None:
    """Makes sure that runs were evaluated on the same videos with the same classes and metric.

    Raises:
      UserError: naming two runs for which this does not hold, and what differs.
    """
    first, *others = runs
    for other in others:
        if difference := _difference(first, other):
            raise UserError(
                f"{first.folder} and {other.folder} cannot be compared: {difference}. Make a "
                "report of each"
            )


def _difference(first: RunRecord, other: RunRecord) -> str:
    """What keeps the accuracies of two runs from being compared; empty where nothing does."""
    for name in ("data.multi_label", "data.name", "data.eval_split"):
        here, there = first.settings[name], other.settings[name]
        if here != there:
            return f"{name} is {here} in one and {there} in the other"
    if first.classes != other.classes:
        return (
            f"their classes differ ({len(first.classes)} and {len(other.classes)}); see "
            "classes.json in both"
        )
    here, there = (run.trained_on.stretches[-1].evaluation for run in (first, other))
    if any(here.fingerprints[part] != there.fingerprints[part] for part in ("ids", "labels")):
        return (
            f"they were evaluated on other videos ({here.videos:,} and {there.videos:,}); see "
            "data.json in both"
        )
    return ""
