"""The comparison in sentences: what came out, and what to keep in mind about it."""

import collections
from collections.abc import Sequence

from mg_jax.metrics import NAMES
from mg_jax.report.comparison import Comparison, Quantity
from mg_jax.report.formatting import in_words, percent, signed
from mg_jax.report.groups import Group
from mg_jax.report.runs import RunRecord

# Settings of evaluation that change what an accuracy means.
_EVALUATION = ("eval.clips", "eval.crops", "eval.size", "eval.short_side")
_FEWER = ("fewer", "as many", "more")
_FASTER = ("faster", "as fast", "slower")
_SAVED = {
    "wall_clock_s": ("by the clock", _FASTER),
    "iterations": ("iterations", _FEWER),
    "flops": ("FLOPs", _FEWER),
    "train_s": ("training time without compilation", ("less", "as much", "more")),
}


def headline(comparison: Comparison) -> str:
    """What came out, in one sentence."""
    reference, others = comparison.reference, comparison.others
    if not others:
        return f"{reference.name}: {_standing(reference)}"
    if len(others) > 1:
        return f"{len(others)} configs against {reference.name}"
    found = _sentence(comparison, others[0])
    if comparison.ratio(others[0], "train_s") is None:
        found += f"; {reference.name}: {_standing(reference)}"
    return found


def _sentence(comparison: Comparison, group: Group) -> str:
    """How a group compares with the reference or, where one is unfinished, how it stands."""
    faster = comparison.ratio(group, "train_s")
    if faster is None:
        return f"{group.name}: {_standing(group)}"
    clock = saved(comparison, group, "wall_clock_s")
    reference = comparison.reference
    theirs = percent(reference.values[reference.metric])
    return (
        f"{group.name} against {reference.name}: {clock}, in training alone "
        f"{in_words(faster, *_FASTER)}; {_accuracy(group)} against {theirs} %"
    )


def details(comparison: Comparison, group: Group) -> str:
    """What stands behind the sentence on two finished groups; empty where one is not."""
    if comparison.points(group) is None:
        return ""
    parts = [difference(comparison, group)]
    parts += [saved(comparison, group, quantity) for quantity in ("iterations", "flops")]
    return f"{', '.join(parts)}; the clock counts compilation and evaluation too"


def saved(comparison: Comparison, group: Group, quantity: Quantity) -> str:
    """How much less of a quantity a group takes than the reference, such as 3.43× fewer iterations.

    Of the wall clock: how much faster the group is by it.
    """
    name, directions = _SAVED[quantity]
    return f"{in_words(comparison.ratio(group, quantity), *directions)} {name}"


def difference(comparison: Comparison, group: Group) -> str:
    """By how much a finished group is more accurate than the reference: top-1 +0.8 points."""
    return f"{NAMES[group.metric]} {signed(comparison.points(group))} points"


def _accuracy(group: Group) -> str:
    """The metric by which runs are judged; of unfinished runs the newest evaluation's."""
    return f"{NAMES[group.metric]} {percent(group.values[group.metric])} %"


def state(runs: Sequence[RunRecord]) -> str:
    """How far runs of one config are."""
    unfinished = [run for run in runs if run.summary is None]
    done = len(runs) - len(unfinished)
    if not unfinished:
        return "finished"
    running = [f"{run.step:,}" for run in unfinished if run.diverged is None]
    diverged = [f"{run.step:,}" for run in unfinished if run.diverged is not None]
    parts = [
        f"{done} of {len(runs)} runs finished" if done else "",
        f"diverged at step {' and '.join(diverged)}" if diverged else "",
        f"step {' and '.join(running)} of {runs[0].schedule.iterations:,}" if running else "",
    ]
    return ", ".join(filter(None, parts))


def _standing(group: Group) -> str:
    """State and accuracy of a group that is compared with no other."""
    reached = state(group.runs)
    if not group.values:
        all_diverged = len(group.diverged) == len(group.runs)
        return reached if all_diverged else f"{reached}, not evaluated yet"
    if not group.finished:
        return f"{reached}, {_accuracy(group)} so far"
    return _accuracy(group) if reached == "finished" else f"{_accuracy(group)} ({reached})"


def caveats(comparison: Comparison) -> list[str]:
    """What a reader has to know before believing the numbers."""
    groups = comparison.groups
    found = [text for group in groups for text in _caveats_of(group)]
    alone = [group.name for group in groups if len(group.finished) == 1]
    if alone:
        whose = "each config" if len(alone) == len(groups) else ", ".join(alone)
        found.append(
            f"There is one finished run of {whose}, so no standard deviation. Small differences "
            "may be chance; further seeds (--config.seed) would tell."
        )
    devices = _devices(groups)
    if len({name for _, name in devices}) > 1:
        names = "; ".join(f"{group} on {name}" for group, name in devices)
        found.append(f"Trained on different devices, so their times cannot be compared: {names}.")
    if unlike := [text for group in groups if (text := _compilation(group))]:
        found.append(
            "Later runs reuse programs that earlier ones have compiled, so that seeds differ in "
            f"compilation: {', '.join(unlike)}. Mean wall clocks average such unlike runs; "
            "training times are without compilation."
        )
    differing = [name for name in comparison.differing_settings() if name in _EVALUATION]
    if differing:
        found.append(
            f"Not evaluated alike: {', '.join(differing)} differ, so accuracies are not quite of "
            "the same kind."
        )
    return found


def _compilation(group: Group) -> str:
    """The group and how long its seeds waited for the compiler, if that affects wall clocks."""
    ended = [run.summary for run in group.finished]
    waits = sorted(summary["compile_s"] for summary in ended)
    if not waits or waits[-1] - waits[0] < 0.1 * min(s["wall_clock_s"] for s in ended):
        return ""
    return f"{group.name} ({waits[0]:.0f} to {waits[-1]:.0f} s)"


def _devices(groups: Sequence[Group]) -> list[tuple[str, str]]:
    """Groups and the devices on which their runs finished, each pair once."""
    pairs = ((group.name, run.summary["devices"]) for group in groups for run in group.finished)
    return list(dict.fromkeys(pairs))


def _caveats_of(group: Group) -> list[str]:
    found = [*_of_diverged_runs(group), *_of_unfinished_runs(group)]
    seeds = collections.Counter(run.config.seed for run in group.runs)
    twice = [str(seed) for seed, count in seeds.items() if count > 1]
    if twice:
        found.append(
            f"{group.name} has several runs with seed {', '.join(twice)}; those are no independent "
            "samples, and the deviation is too small."
        )
    return found


def _of_diverged_runs(group: Group) -> list[str]:
    means = ""
    if len(group.diverged) < len(group.runs):
        means = " It is in no mean: numbers and mean curves are of the runs that did not diverge."
    return [
        f"{run.name} (seed {run.config.seed}) diverged: {run.diverged['reason']}.{means}"
        for run in group.diverged
    ]


def _of_unfinished_runs(group: Group) -> list[str]:
    finished, whole = len(group.finished), len(group.runs) - len(group.diverged)
    if finished == whole:
        return []
    reached = state(group.runs)
    if finished:
        return [f"{group.name}: {reached}. The table holds the finished runs, the curves hold all."]
    if not group.values:
        return [f"{group.name} is not finished and not evaluated yet ({reached})."]
    found = [
        f"{group.name} is not finished ({reached}). Its numbers are those of the newest evaluation "
        "on one centre view; the final one takes all views."
    ]
    if waiting := whole - len(group.averaged):
        found.append(f"{group.name}, {waiting} of its runs: not evaluated yet, so in no mean.")
    return found
