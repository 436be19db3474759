"""Runs of one config under several seeds as one: what they measured, mean and spread."""

import dataclasses
import json
import re
import statistics

from mg_jax.errors import UserError
from mg_jax.metrics import NAMES
from mg_jax.recipe import is_baseline
from mg_jax.report.runs import CLOCKS, TRAINING_VIDEOS, LoggedRun
from mg_jax.workdir.config import result_settings


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
    """

    name: str
    runs: tuple[LoggedRun, ...]

    @property
    def config(self):
        return self.runs[0].config

    @property
    def schedule(self):
        return self.runs[0].schedule

    @property
    def method(self) -> str:
        return "baseline" if is_baseline(self.config) else "multigrid"

    @property
    def finished(self) -> list[LoggedRun]:
        return [run for run in self.runs if run.summary is not None]

    @property
    def averaged(self) -> list[LoggedRun]:
        """Those whose evaluations along the way are averaged: evaluated, and not diverged."""
        return [run for run in self.runs if run.evaluations and run.diverged is None]

    @property
    def metric(self) -> str:
        """The one that counts: top1 or map."""
        return "map" if self.config.data.multi_label else "top1"

    @property
    def epochs(self) -> float | None:
        """Of the whole schedule, or None where nothing tells."""
        of_runs = (run.epochs(self.schedule.iterations) for run in self.runs)
        return next((epochs for epochs in of_runs if epochs is not None), None)

    @property
    def evaluated(self) -> list[int]:
        """The steps along the way after which each of `averaged` was evaluated, ascending."""
        steps = [set(run.evaluations) for run in self.averaged]
        return sorted(set.intersection(*steps)) if steps else []


def measured(group: Group) -> dict[str, Spread]:
    """Metrics and seconds of the finished runs or, before there is one, of the newest evaluation.

    Of unfinished runs it is the newest that all of `averaged` have; what they did not log is left
    out.
    """
    if group.finished:
        rows = [{**run.summary, **run.summary["metrics"]} for run in group.finished]
    elif group.evaluated:
        rows = [with_wall_clock(run.evaluations[group.evaluated[-1]]) for run in group.averaged]
    else:
        return {}
    names = [*NAMES, "loss", *CLOCKS, "wall_clock_s"]
    return {
        name: spread([row[name] for row in rows])
        for name in names
        if all(name in row for row in rows)
    }


def with_wall_clock(line: dict[str, float]) -> dict[str, float]:
    """A line of an evaluation with the sum of its clocks, where it has them."""
    if not all(clock in line for clock in CLOCKS):
        return line
    return {**line, "wall_clock_s": sum(line[clock] for clock in CLOCKS)}


def group_runs(runs: list[LoggedRun]) -> list[Group]:
    """Puts runs together whose configs differ in nothing that matters but the seed.

    Nor in the videos they trained on, as far as they know them.

    Raises:
      UserError: for runs whose accuracies are not of the same kind, naming two.
    """
    check_comparable(runs)
    members: dict[str, list[LoggedRun]] = {}
    for run in runs:
        members.setdefault(_identity(run), []).append(run)
    groups = [group for alike in members.values() for group in _by_videos(alike)]
    names = [_common_name([run.name for run in group]) for group in groups]
    return [
        Group(name if name and names.count(name) == 1 else _first_name(group), tuple(group))
        for name, group in zip(names, groups, strict=True)
    ]


def _identity(run: LoggedRun) -> str:
    """What runs share that are to be averaged, beside their videos."""
    kept = result_settings(run.settings)
    for name in ("seed", TRAINING_VIDEOS):
        kept.pop(name, None)
    return json.dumps(kept, sort_keys=True)


def _by_videos(alike: list[LoggedRun]) -> list[list[LoggedRun]]:
    """Runs of one config apart where they trained on different videos.

    Those that do not know theirs pass for the others', where these have the same.
    """
    parts: dict[str | None, list[LoggedRun]] = {}
    for run in alike:
        parts.setdefault(run.settings.get(TRAINING_VIDEOS), []).append(run)
    return [alike] if len(parts.keys() - {None}) < 2 else list(parts.values())


def _common_name(names: list[str]) -> str:
    """The words that all names have in the same places, if any."""
    # Words at even places, what separates them at odd ones.
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


def _first_name(group: list[LoggedRun]) -> str:
    more = f" and {len(group) - 1} more" if len(group) > 1 else ""
    return group[0].name + more


def check_comparable(runs: list[LoggedRun]) -> None:
    """Makes sure that accuracies of runs are of the same kind.

    Raises:
      UserError: naming two runs where they are not, and what differs.
    """
    first, *others = runs
    for other in others:
        for name in ("data.multi_label", "data.name", "data.eval_split"):
            here, there = first.settings[name], other.settings[name]
            if here != there:
                raise UserError(
                    f"{first.folder} and {other.folder} cannot be compared: {name} is {here} in "
                    f"one and {there} in the other. Make a report of each"
                )
    named = [run for run in runs if run.classes is not None]
    for other in named[1:]:
        if other.classes != named[0].classes:
            raise UserError(
                f"{named[0].folder} and {other.folder} cannot be compared: their classes differ "
                f"({len(named[0].classes)} and {len(other.classes)}); see classes.json in both. "
                "Make a report of each"
            )
    evaluated = [run for run in runs if run.trained_on is not None]
    for other in evaluated[1:]:
        here, there = (run.trained_on.stretches[-1].evaluation for run in (evaluated[0], other))
        if any(here.fingerprints[part] != there.fingerprints[part] for part in ("ids", "labels")):
            raise UserError(
                f"{evaluated[0].folder} and {other.folder} cannot be compared: they were evaluated "
                f"on other videos ({here.videos:,} and {there.videos:,}); see data.json in both. "
                "Make a report of each"
            )
