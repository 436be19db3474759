"""The comparison of a study's cells as Markdown and JSON: `study.md` and `study.json`."""

import json
import pathlib
from typing import Any

from mg_jax.errors import UserError
from mg_jax.machine.atomic_file import write_json, write_text
from mg_jax.metrics import NAMES
from mg_jax.report.comparison import Comparison
from mg_jax.report.formatting import percent, signed, times
from mg_jax.report.groups import Group
from mg_jax.report.runs import read_runs
from mg_jax.study.cells import BASELINE, QUESTIONS, Answer, Question
from mg_jax.study.trials import Trial


def check_at_once(at_once: int, trials: list[Trial], workdir: pathlib.Path) -> None:
    """Makes sure that as many runs share the machine as before, so that times are comparable.

    Raises:
      UserError: for another number, or a `study.json` that cannot be read.
    """
    path = workdir / "study.json"
    if not path.exists() or not any(trial.steps or trial.ended for trial in trials):
        return
    try:
        began = json.loads(path.read_text())["at_once"]
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(f"{path} is damaged; delete it, which keeps the runs") from error
    if began != at_once:
        raise UserError(
            f"{workdir} began with --at_once={began}; times measured with {at_once} could not be "
            "compared. Go on with the same, or choose another --workdir"
        )


def write_results(
    title: str, command: str, trials: list[Trial], at_once: int, workdir: pathlib.Path
) -> None:
    """Writes `study.md` and `study.json` of all trials that have ended.

    Args:
      title: the config's name.
      command: the flags that name it.
      trials: all of the study.
      at_once: how many of them share the machine.
      workdir: of the study.

    Raises:
      UserError: for a trial whose work directory cannot be read.
    """
    comparison = compare_cells([trial for trial in trials if trial.ended])
    cells = {group.name: _outcomes(group) for group in comparison.groups}
    workdir.mkdir(parents=True, exist_ok=True)
    write_json(workdir / "study.json", {"config": title, "at_once": at_once, "cells": cells})
    write_text(workdir / "study.md", format_results(title, command, comparison, at_once))


def compare_cells(ended: list[Trial]) -> Comparison:
    """Compares the cells of trials that have finished or diverged with the baseline."""
    cells = {}
    for trial in ended:
        cells.setdefault(trial.cell, []).append(trial.folder)
    groups = {cell: Group(cell, tuple(read_runs(folders))) for cell, folders in cells.items()}
    return Comparison(tuple(groups.values()), reference=groups.get(BASELINE))


def _outcomes(group: Group) -> dict[str, dict[str, Any]]:
    """The summaries by seed, and by seed the reasons of runs that diverged."""
    return {
        "runs": {str(run.config.seed): run.summary for run in group.finished},
        "diverged": {str(run.config.seed): run.diverged["reason"] for run in group.diverged},
    }


def format_results(title: str, command: str, comparison: Comparison, at_once: int) -> str:
    """A page of Markdown: a table for each question that a cell helps to answer.

    Args:
      title: of the page.
      command: the flags that name the config.
      comparison: of cells, named so, whose runs have finished or diverged.
      at_once: how many runs shared the machine.
    """
    shared = f" {at_once} runs at a time shared the machine." if at_once > 1 else ""
    lines = [f"# {title}", "", f"`{command}`", "", _LEGEND + shared]
    for question, answers in _answered({group.name for group in comparison.groups}):
        lines += ["", *_table(question, answers, comparison)]
    return "\n".join(lines) + "\n"


def _answered(cells: set[str]) -> list[tuple[Question, list[Answer]]]:
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
    "Difference, in percentage points, and the factors fewer and faster are against the baseline's "
    "mean: fewer iterations, and less time of training, without compilation and evaluation."
)


def _table(question: Question, answers: list[Answer], comparison: Comparison) -> list[str]:
    groups = {group.name: group for group in comparison.groups}
    score = f"{NAMES[comparison.groups[0].metric]}, %"
    heads = ("", "iterations", "fewer", "epochs", "training, s", "faster", score, "difference")
    heads += ("loss", "seeds")
    rows = [(answer.label, *_row(comparison, groups[answer.cell])) for answer in answers]
    return [
        f"## {question.title}",
        "",
        f"The paper: {question.paper}",
        "",
        _line(heads),
        "|---" * len(heads) + "|",
        *map(_line, rows),
    ]


def _line(cells: tuple[str, ...]) -> str:
    return f"| {' | '.join(cells)} |"


def _row(comparison: Comparison, group: Group) -> tuple[str, ...]:
    seeds = str(len(group.finished))
    if group.diverged:
        seeds += f" of {len(group.runs)}, {len(group.diverged)} diverged"
    if not group.finished:
        return (*[""] * 8, seeds)
    fewer, faster = (comparison.ratio(group, name) for name in ("iterations", "train_s"))
    points = comparison.points(group)
    return (
        f"{group.schedule.iterations:,}",
        "" if fewer is None else times(fewer),
        f"{group.epochs:.1f}",
        f"{group.values['train_s'].mean:.0f}",
        "" if faster is None else times(faster),
        percent(group.values[group.metric]),
        "" if points is None else signed(points),
        f"{group.values['loss'].mean:.3f}",
        seeds,
    )
