"""The comparison of a study's cells as Markdown and JSON: `study.md` and `study.json`."""

import pathlib
from collections.abc import Container
from typing import Any

from mg_jax.machine.atomic_file import write_bytes, write_json, write_text
from mg_jax.metrics import NAMES
from mg_jax.report.comparison import Comparison
from mg_jax.report.cost import with_flops
from mg_jax.report.formatting import NOTHING, percent, signed, times
from mg_jax.report.groups import Group
from mg_jax.report.runs import read_runs
from mg_jax.study.at_once import RESULTS
from mg_jax.study.charts import chart_name, draw_chart
from mg_jax.study.differences import difference
from mg_jax.study.figure3 import draw_figure_3, has_figure_3
from mg_jax.study.paper import Published
from mg_jax.study.questions import FIGURE_3, QUESTIONS, Answer, Question
from mg_jax.study.trials import Trial

_FIGURE_3 = "figure3.png"


def write_results(
    title: str, command: str, trials: list[Trial], at_once: int, workdir: pathlib.Path
) -> None:
    """Writes `study.md`, its pictures and `study.json` of all trials that have ended.

    Args:
      title: the config's name.
      command: the flags that name it.
      trials: all of the study.
      at_once: how many of them share the machine.
      workdir: of the study.

    Raises:
      UserError: for a trial whose work directory cannot be read.
    """
    groups = with_flops(ended_cells(trials))
    cells = {group.name: _outcomes(group) for group in groups}
    workdir.mkdir(parents=True, exist_ok=True)
    write_json(workdir / RESULTS, {"config": title, "at_once": at_once, "cells": cells})
    if has_figure_3(groups):
        write_bytes(workdir / _FIGURE_3, draw_figure_3(groups))
    by_name = {group.name: group for group in groups}
    for question, answers in _answered(by_name):
        if question is not FIGURE_3 and _picture(question, groups):
            write_bytes(workdir / chart_name(question), draw_chart(question, answers, by_name))
    write_text(workdir / "study.md", format_results(title, command, groups, at_once))


def ended_cells(trials: list[Trial]) -> list[Group]:
    """The runs that have finished or diverged, by cell."""
    cells = {}
    for trial in trials:
        if trial.ended:
            cells.setdefault(trial.cell, []).append(trial.folder)
    return [Group(cell, tuple(read_runs(folders))) for cell, folders in cells.items()]


def _outcomes(group: Group) -> dict[str, Any]:
    """Lengths and operations, and by seed the summaries and the reasons of runs that diverged."""
    iterations = group.schedule.iterations
    return {
        "iterations": iterations,
        "epochs": group.epochs,
        "flops": group.flops(iterations),
        "runs": {str(run.config.seed): run.summary for run in group.finished},
        "diverged": {str(run.config.seed): run.diverged["reason"] for run in group.diverged},
    }


def format_results(title: str, command: str, groups: list[Group], at_once: int) -> str:
    """A page of Markdown: a table for each question that a cell helps to answer.

    Args:
      title: of the page.
      command: the flags that name the config.
      groups: cells, named so, whose runs have finished or diverged, with their operations counted.
      at_once: how many runs shared the machine.
    """
    shared = f" {at_once} runs at a time shared the machine." if at_once > 1 else ""
    lines = [f"# {title}", "", f"`{command}`", "", _LEGEND + shared]
    for question, answers in _answered({group.name for group in groups}):
        lines += ["", *_section(question, answers, groups)]
    return "\n".join(lines) + "\n"


def _answered(cells: Container[str]) -> list[tuple[Question, list[Answer]]]:
    """The questions with an answer among the cells that no question before has shown."""
    found, shown = [], set()
    for question in QUESTIONS:
        answers = [answer for answer in question.answers if answer.cell in cells]
        answering = {answer.cell for answer in answers}
        if answering - shown:
            found.append((question, answers))
            shown |= answering
    return found


_LEGEND = (
    "Accuracy is that of the test at the end, the mean over seeds ± their standard deviation. "
    "Training is the time without compilation and evaluation. The factors fewer, FLOPs and faster "
    "say how many times less the row's iterations, operations and time of training are. Difference "
    "is in percentage points, the mean over pairs of runs with the same seed ± its standard "
    "error; in bold where chance alone would show as much in fewer than 1 of 20 cases (Student's "
    "t-test). One of twenty such differences of nothing is in bold all the same."
)


def _section(question: Question, answers: list[Answer], groups: list[Group]) -> list[str]:
    by_name = {group.name: group for group in groups}
    reference = by_name.get(question.reference)
    comparison = Comparison(tuple(groups), reference)
    score = f"{NAMES[groups[0].metric]}, %"
    labels = {answer.cell: answer.label for answer in question.answers}
    against = labels.get(question.reference, question.reference)
    heads = ("", "iterations", "fewer", "epochs", "FLOPs", "training, s", "faster", score)
    heads += (f"difference from {against}", "loss", "seeds")
    published = any(answer.published for answer in question.answers)
    heads += ("paper: faster", "paper: %") if published else ()
    rows = [
        (
            answer.label,
            *_row(comparison, by_name[answer.cell]),
            *(_published(answer.published) if published else ()),
        )
        for answer in answers
    ]
    picture = _picture(question, groups)
    return [
        f"## {question.title}",
        "",
        f"The paper: {question.paper}",
        "",
        *([f"![{question.title}]({picture})", ""] if picture else []),
        _line(heads),
        "|---" * len(heads) + "|",
        *map(_line, rows),
    ]


def _picture(question: Question, groups: list[Group]) -> str | None:
    """The file of a question's picture, if there is one."""
    if question is not FIGURE_3:
        finished = {group.name for group in groups if group.finished}
        there = any(answer.cell in finished for answer in question.answers)
        return chart_name(question) if there else None
    return _FIGURE_3 if has_figure_3(groups) else None


def _line(cells: tuple[str, ...]) -> str:
    return f"| {' | '.join(cells)} |"


def _row(comparison: Comparison, group: Group) -> tuple[str, ...]:
    seeds = str(len(group.finished))
    if group.diverged:
        seeds += f" of {len(group.runs)}, {len(group.diverged)} diverged"
    if not group.finished:
        return (*[""] * 9, seeds)
    fewer, flops, faster = (
        comparison.ratio(group, name) for name in ("iterations", "flops", "train_s")
    )
    return (
        f"{group.schedule.iterations:,}",
        _times(fewer),
        f"{group.epochs:.1f}",
        _times(flops),
        f"{group.values['train_s'].mean:.0f}",
        _times(faster),
        percent(group.values[group.metric]),
        _difference(group, comparison.reference),
        f"{group.values['loss'].mean:.3f}",
        seeds,
    )


def _times(ratio: float | None) -> str:
    return "" if ratio is None else times(ratio)


def _difference(group: Group, reference: Group | None) -> str:
    if reference is None or group is reference:
        return ""
    points = difference(group, reference)
    if points is None:
        return ""
    text = signed(points.mean)
    if points.error is not None:
        text += f" ± {points.error:.1f}"
    return f"**{text}**" if points.told_apart else text


def _published(row: Published | None) -> tuple[str, str]:
    """The paper's speed-up and score."""
    if row is None:
        return NOTHING, NOTHING
    score = f"{row.score:.1f}" + (f" ± {row.deviation:.2f}" if row.deviation else "")
    return f"{row.speed_up:.1f}×" if row.speed_up else NOTHING, score
