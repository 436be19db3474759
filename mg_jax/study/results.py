"""The tables of a study: means and standard deviations over seeds, cell against baseline."""

import json
import pathlib
from typing import Any

from mg_jax.atomic_file import write_json, write_text
from mg_jax.metrics import NAMES, headline_metric
from mg_jax.report.groups import spread
from mg_jax.report.table import signed
from mg_jax.study.cells import BASELINE, QUESTIONS, Question, Row
from mg_jax.study.runs import CellRun


def check_way(way: dict[str, Any], workdir: pathlib.Path) -> None:
    """Makes sure that a study goes on as it began, so that its times compare.

    Args:
      way: `config`, its name; `seeds`, how many; `at_once`, how many runs share the machine.
      workdir: of the study.

    Raises:
      ValueError: for another number of runs at once.
    """
    path = workdir / "study.json"
    if not path.exists():
        return
    began = json.loads(path.read_text())["at_once"]
    if began != way["at_once"]:
        raise ValueError(
            f"{workdir} began with --at_once={began}; with {way['at_once']} times would not "
            "compare. Go on with the same, or choose another --workdir"
        )


def write_results(runs: list[CellRun], way: dict[str, Any], workdir: pathlib.Path) -> None:
    """Writes `study.md` and `study.json` of all runs that have ended."""
    ended = _ended(runs)
    workdir.mkdir(parents=True, exist_ok=True)
    write_json(workdir / "study.json", {**way, "cells": ended})
    write_text(workdir / "study.md", format_results(ended, way))


def _ended(runs: list[CellRun]) -> dict[str, dict[str, Any]]:
    """By the cell's name: summaries by seed, and what runs said that diverged."""
    ended = {}
    for run in runs:
        cell = ended.setdefault(run.cell, {"runs": {}, "diverged": {}})
        if (summary := run.summary) is not None:
            cell["runs"][str(run.seed)] = summary
        elif (reason := run.diverged) is not None:
            cell["diverged"][str(run.seed)] = reason
    return ended


def format_results(ended: dict[str, dict[str, Any]], way: dict[str, Any]) -> str:
    """A page of Markdown: a table for each question that some ended run helps to answer.

    Args:
      ended: by the cell's name `runs`, the summaries by seed, and `diverged`, messages by seed.
      way: as of `check_way`.
    """
    title = f"# {way['config']}: {way['seeds']} seeds, {way['at_once']} runs at a time"
    lines = [title, "", _LEGEND]
    for question in QUESTIONS:
        rows = [row for row in question.rows if row.cell in ended]
        if any(ended[row.cell]["runs"] or ended[row.cell]["diverged"] for row in rows):
            lines += ["", *_table(question, rows, ended)]
    return "\n".join(lines) + "\n"


_LEGEND = (
    "Accuracy is that of the test at the end, the mean over seeds ± their standard deviation. "
    "Difference and faster are against the baseline's mean; faster is by the time of training "
    "without compilation and evaluation, fewer by iterations."
)


def _table(question: Question, rows: list[Row], ended: dict[str, Any]) -> list[str]:
    baseline = ended.get(BASELINE, {"runs": {}})["runs"].values()
    summaries = [s for row in rows for s in ended[row.cell]["runs"].values()]
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
    for row in rows:
        cells = _row(ended[row.cell], list(baseline), metric)
        lines.append(f"| {' | '.join((row.label, *cells))} |")
    return lines


def _row(cell: dict[str, Any], baseline: list[dict[str, Any]], metric: str) -> tuple[str, ...]:
    runs, diverged = list(cell["runs"].values()), len(cell["diverged"])
    seeds = f"{len(runs)}" + (f", {diverged} diverged" if diverged else "")
    if not runs:
        return (*[""] * 8, seeds)
    score = spread([100 * run["metrics"][metric] for run in runs])
    deviation = "" if score.deviation is None else f" ± {score.deviation:.1f}"
    seconds = _mean(runs, "train_s")
    fewer = faster = difference = ""
    if baseline:
        fewer = f"{_mean(baseline, 'iterations') / _mean(runs, 'iterations'):.2f}x"
        faster = f"{_mean(baseline, 'train_s') / seconds:.2f}x"
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
        f"{spread([run['metrics']['loss'] for run in runs]).mean:.3f}",
        seeds,
    )


def _mean(runs: list[dict[str, Any]], name: str) -> float:
    return spread([run[name] for run in runs]).mean
