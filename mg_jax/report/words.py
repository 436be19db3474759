"""The report's sentences: what came out, and what to keep in mind about it."""

import collections

from mg_jax.metrics import NAMES
from mg_jax.report.runs import CLOCKS
from mg_jax.report.table import Compared, differing_settings, gain, number, points
from mg_jax.report.units import signed

# Settings of evaluation that change what an accuracy means.
_EVALUATION = ("eval.clips", "eval.crops", "eval.size", "eval.short_side")


def headline(groups: list[Compared]) -> str:
    """What came out, in one sentence."""
    first, *others = groups
    if not others:
        return f"{first.group.name}: {_standing(first)}"
    if len(others) > 1:
        return f"{len(others)} configs against {first.group.name}"
    found = sentence(first, others[0])
    if gain(first, others[0], "train_s") is None:
        found += f"; {first.group.name}: {_standing(first)}"
    return found


def sentence(first: Compared, other: Compared) -> str:
    """How another group compares with the first or, where one is unfinished, how it stands."""
    name, reference = other.group.name, first.group.name
    faster = gain(first, other, "train_s")
    if faster is None:
        return f"{name}: {_standing(other)}"
    metric = first.group.metric
    ours, theirs = (number(group.values[metric], 1, 100) for group in (other, first))
    clock = _times(gain(first, other, "wall_clock_s"))
    return (
        f"{name} trains {_speed(faster)} {reference}, {clock} by the clock; {NAMES[metric]} {ours} "
        f"% against {theirs} %"
    )


def details(first: Compared, other: Compared) -> str:
    """What stands behind the sentence on two finished groups; empty where one is not."""
    found = points(first, other)
    if found is None:
        return ""
    iterations = first.group.schedule.iterations / other.group.schedule.iterations
    return (
        f"{NAMES[first.group.metric]} {signed(found)} points, {_fewer(iterations)} iterations, "
        f"{_fewer(first.flops / other.flops)} FLOPs; the clock counts compilation and evaluation "
        "too"
    )


def _standing(group: Compared) -> str:
    if not group.values:
        running = any(run.diverged is None for run in group.group.runs)
        return f"{group.state}, not evaluated yet" if running else group.state
    if not group.group.finished:
        return f"{group.state}, {group.accuracy} so far"
    return group.accuracy if group.state == "finished" else f"{group.accuracy} ({group.state})"


def _speed(ratio: float) -> str:
    return "as fast as" if f"{ratio:.2f}" == "1.00" else f"{_times(ratio)} than"


def _times(ratio: float) -> str:
    if f"{ratio:.2f}" == "1.00":
        return "as fast"
    return f"{ratio:.2f}× faster" if ratio > 1 else f"{1 / ratio:.2f}× slower"


def _fewer(ratio: float) -> str:
    if f"{ratio:.2f}" == "1.00":
        return "as many"
    return f"{ratio:.2f}× fewer" if ratio > 1 else f"{1 / ratio:.2f}× more"


def caveats(groups: list[Compared]) -> list[str]:
    """What a reader has to know before believing the numbers."""
    found = [text for group in groups for text in _caveats_of(group)]
    alone = [g.group.name for g in groups if len(g.group.finished) == 1]
    if alone:
        whose = "each config" if len(alone) == len(groups) else ", ".join(alone)
        found.append(
            f"There is one finished run of {whose}, so no spread. Small differences may be chance; "
            "further seeds (--config.seed) would tell."
        )
    timeless = [g.group.name for g in groups if not _tells_time(g)]
    if timeless:
        found.append(
            f"Logs that do not tell when evaluations were: {', '.join(timeless)}. Against wall "
            "clock there is only what they reached in the end."
        )
    devices = _devices(groups)
    if len({name for _, name in devices}) > 1:
        names = "; ".join(f"{group} on {name}" for group, name in devices)
        found.append(f"Trained on different devices, so that times do not compare: {names}.")
    if unlike := [text for g in groups if (text := _compilation(g))]:
        found.append(
            "Runs find what others have compiled, so that seeds differ in compilation: "
            f"{', '.join(unlike)}. Their wall clocks are means of unlike runs; training time is "
            "without compilation."
        )
    rows = differing_settings([g.group for g in groups])
    differing = [row.label for row in rows if row.label in _EVALUATION]
    if differing:
        found.append(
            f"Not evaluated alike: {', '.join(differing)} differ, so accuracies are not quite of "
            "the same kind."
        )
    return found


def _compilation(compared: Compared) -> str:
    """The group and how long its seeds waited for the compiler, if it matters to the clock."""
    ended = [run.summary for run in compared.group.finished]
    waits = sorted(summary["compile_s"] for summary in ended)
    if not waits or waits[-1] - waits[0] < 0.1 * min(s["wall_clock_s"] for s in ended):
        return ""
    return f"{compared.group.name} ({waits[0]:.0f} to {waits[-1]:.0f} s)"


def _devices(groups: list[Compared]) -> list[tuple[str, str]]:
    """Groups and the devices on which their runs ended, where known, each pair once."""
    pairs = [(g.group.name, run.summary.get("devices")) for g in groups for run in g.group.finished]
    return [(group, name) for group, name in dict.fromkeys(pairs) if name is not None]


def _caveats_of(compared: Compared) -> list[str]:
    group = compared.group
    found = [*_of_diverged_runs(compared), *_of_unfinished_runs(compared)]
    seeds = collections.Counter(run.config.seed for run in group.runs)
    twice = [str(seed) for seed, count in seeds.items() if count > 1]
    if twice:
        found.append(
            f"{group.name} has several runs with seed {', '.join(twice)}; those are no independent "
            "samples, and the deviation is too small."
        )
    if group.epochs is None:
        found.append(
            f"{group.name}: nothing logged yet tells the number of training videos, so there are "
            "no epochs."
        )
    return found


def _of_diverged_runs(compared: Compared) -> list[str]:
    runs = compared.group.runs
    diverged = [run for run in runs if run.diverged is not None]
    sound = len(diverged) < len(runs)
    means = " It is in no mean: numbers and mean curves are of the runs that did not diverge."
    return [
        f"{run.name} (seed {run.config.seed}) diverged: {run.diverged['reason']}."
        f"{means if sound else ''}"
        for run in diverged
    ]


def _of_unfinished_runs(compared: Compared) -> list[str]:
    group = compared.group
    finished, whole = len(group.finished), sum(run.diverged is None for run in group.runs)
    if finished == whole:
        return []
    if finished:
        return [
            f"{group.name}: {compared.state}. The table holds the finished runs, the curves all."
        ]
    if not compared.values:
        return [f"{group.name} is not finished and not evaluated yet ({compared.state})."]
    found = [
        f"{group.name} is not finished ({compared.state}). What is shown of it comes from the "
        "newest evaluation on one centre view; the final one takes all views."
    ]
    if waiting := whole - len(group.averaged):
        found.append(f"{group.name}: not evaluated yet, and in no mean, {waiting} of its runs.")
    return found


def _tells_time(compared: Compared) -> bool:
    lines = [line for run in compared.group.runs for line in run.evaluations.values()]
    return all(clock in line for line in lines for clock in CLOCKS)


COUNTED = {
    "Accuracy": "Curves are evaluations on one centre view along the way. A star, and the table, "
    "is the evaluation of a finished run on all views of its config.",
    "Several seeds": "Runs whose configs differ in the seed alone are one column and one curve: "
    "their mean ± sample standard deviation, single runs faint. Ratios are those of the means. A "
    "training curve's mean is of the runs that have got that far.",
    "Training time": "Iterations with their waiting for input and writing of checkpoints, without "
    "compilation and evaluation, over all restarts of a run; what a kill undid is not counted.",
    "Wall clock": "Training, waiting for the compiler and evaluation with its precise batch norm, "
    "over all restarts, from the first batch on. Programs that an earlier run has left in the "
    "compilation cache cost a later one little.",
    "FLOPs": "Two for each multiply-add of a forward pass by the compiler's count, times three for "
    "forward and backward pass, times the clips of all iterations. Evaluation is not counted.",
    "Bands": "Behind training curves: the long cycle's shape, from coarse (blue) to the base grid "
    "(red), by its clips × frames × size². The short cycle changes size and clips from iteration "
    "to iteration.",
}
