"""The tables of a study: means and standard deviations over seeds, cell against baseline."""

import json
import pathlib
from statistics import fmean
from typing import Any

from mg_jax.errors import UserError
from mg_jax.machine.atomic_file import write_json, write_text
from mg_jax.metrics import NAMES, headline_metric
from mg_jax.report.groups import spread
from mg_jax.report.units import signed
from mg_jax.study.cells import BASELINE, QUESTIONS, Answer, Question
from mg_jax.study.runs import CellRun


def check_at_once(at_once: int, runs: list[CellRun], workdir: pathlib.Path) -> None:
    """Makes sure that as many runs share the machine as before, so that times compare.

    Raises:
      UserError: for another number, or a `study.json` that cannot be read.
    """
    path = workdir / "study.json"
    if not path.exists() or not any(run.steps or run.ended for run in runs):
        return
    try:
        began = json.loads(path.read_text())["at_once"]
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(f"{path} is damaged; delete it, its runs stay") from error
    if began != at_once:
        raise UserError(
            f"{workdir} began with --at_once={began}; with {at_once} times would not compare. Go "
            "on with the same, or choose another --workdir"
        )


def write_results(
    title: str, command: str, runs: list[CellRun], at_once: int, workdir: pathlib.Path
) -> None:
    """Writes `study.md` and `study.json` of all runs that have ended.

    Args:
      title: the config's name.
      command: the flags that name it.
      runs: of the study.
      at_once: how many of them share the machine.
      workdir: of the study.
    """
    ended = _ended(runs)
    workdir.mkdir(parents=True, exist_ok=True)
    write_json(workdir / "study.json", {"config": title, "at_once": at_once, "cells": ended})
    write_text(workdir / "study.md", format_results(title, command, ended, at_once))


def _ended(runs: list[CellRun]) -> dict[str, dict[str, Any]]:
    """By the cell's name, where a run of it has ended: summaries by seed, why runs diverged."""
    ended = {}
    for run in runs:
        summary, diverged = run.summary, run.diverged
        if summary is None and diverged is None:
            continue
        cell = ended.setdefault(run.cell, {"runs": {}, "diverged": {}})
        if summary is not None:
            cell["runs"][str(run.seed)] = summary
        else:
            cell["diverged"][str(run.seed)] = diverged["reason"]
    return ended


def format_results(title: str, command: str, ended: dict[str, dict[str, Any]], at_once: int) -> str:
    """A page of Markdown: a table for each question that some ended run helps to answer.

    Args:
      title: of the page.
      command: the flags that name the config.
      ended: by the cell's name `runs`, the summaries by seed, and `diverged`, reasons by seed.
      at_once: how many runs shared the machine.
    """
    shared = f" {at_once} runs at a time shared the machine." if at_once > 1 else ""
    lines = [f"# {title}", "", f"`{command}`", "", _LEGEND + shared]
    for question, answers in _answered(ended):
        lines += ["", *_table(question, answers, ended)]
    return "\n".join(lines) + "\n"


def _answered(ended: dict[str, Any]) -> list[tuple[Question, list[Answer]]]:
    """The questions of which an answer has ended that no question before has shown."""
    found, shown = [], set()
    for question in QUESTIONS:
        answers = [answer for answer in question.answers if answer.cell in ended]
        cells = {answer.cell for answer in answers}
        if cells - shown:
            found.append((question, answers))
            shown |= cells
    return found


_LEGEND = (
    "Accuracy is that of the test at the end, the mean over seeds ± their standard deviation. "
    "Difference and faster are against the baseline's mean; faster is by the time of training "
    "without compilation and evaluation, fewer by iterations."
)


def _table(question: Question, answers: list[Answer], ended: dict[str, Any]) -> list[str]:
    baseline = ended.get(BASELINE, {"runs": {}})["runs"].values()
    summaries = [s for answer in answers for s in ended[answer.cell]["runs"].values()]
    metric = headline_metric(summaries[0]["metrics"]) if summaries else "top1"
    header = ("", "iterations", "fewer", "epochs", "training, s", "faster")
    score = f"{NAMES[metric]}, %"
    lines = [
        f"## {question.title}",
        "",
        f"The paper: {question.paper}",
        "",
        f"| {' | '.join((*header, score, 'difference', 'loss', 'seeds'))} |",
        "|---" * (len(header) + 4) + "|",
    ]
    for answer in answers:
        cells = _row(ended[answer.cell], list(baseline), metric)
        lines.append(f"| {' | '.join((answer.label, *cells))} |")
    return lines


def _row(cell: dict[str, Any], baseline: list[dict[str, Any]], metric: str) -> tuple[str, ...]:
    runs, diverged = list(cell["runs"].values()), len(cell["diverged"])
    seeds = str(len(runs))
    if diverged:
        seeds += f" of {len(runs) + diverged}, {diverged} diverged"
    if not runs:
        return (*[""] * 8, seeds)
    score = spread([100 * run["metrics"][metric] for run in runs])
    deviation = "" if score.deviation is None else f" ± {score.deviation:.1f}"
    seconds = _mean(runs, "train_s")
    fewer = faster = difference = ""
    if baseline:
        fewer = f"{_mean(baseline, 'iterations') / _mean(runs, 'iterations'):.2f}×"
        faster = f"{_mean(baseline, 'train_s') / seconds:.2f}×"
        reference = spread([100 * run["metrics"][metric] for run in baseline])
        difference = signed(score.mean - reference.mean)
    return (
        f"{runs[0]['iterations']:,}",
        fewer,
        f"{runs[0]['epochs']:.1f}",
        f"{seconds:.0f}",
        faster,
        f"{score.mean:.1f}{deviation}",
        difference,
        f"{fmean(run['metrics']['loss'] for run in runs):.3f}",
        seeds,
    )


def _mean(runs: list[dict[str, Any]], name: str) -> float:
    return fmean(run[name] for run in runs)
