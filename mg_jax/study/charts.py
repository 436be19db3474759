"""A chart for each question of a study: what each answer scored, beside the paper's."""

import re

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mg_jax.metrics import NAMES
from mg_jax.report.figures import PAGE_STYLE, colour, png
from mg_jax.report.groups import Group
from mg_jax.study.questions import Answer, Question

_ROW = 0.42  # inches for an answer


def chart_name(question: Question) -> str:
    """The file that holds a question's chart."""
    return re.sub(r"[^a-z0-9]+", "_", question.title.lower()).strip("_") + ".png"


def draw_chart(question: Question, answers: list[Answer], groups: dict[str, Group]) -> bytes:
    """A PNG with a row for each answer: a dot for each seed, the mean as a line.

    A dashed line through all rows is the reference's mean. Answers that the paper gives as well
    have its score in a second panel, on a scale of its own.

    Args:
      question: that is answered.
      answers: those of its answers whose cells are there.
      groups: cells by name; those that have not finished leave their row empty.
    """
    published = any(answer.published for answer in answers)
    with matplotlib.rc_context(PAGE_STYLE):
        size = (9, 1.4 + _ROW * len(answers))
        figure = Figure(figsize=size, layout="constrained")
        panels = figure.subplots(1, 1 + published, sharey=True, squeeze=False)[0]
        panels[0].set_yticks(range(len(answers)), [answer.label for answer in answers])
        panels[0].set_ylim(len(answers) - 0.5, -0.5)
        _draw_ours(panels[0], question, answers, groups)
        if published:
            _draw_published(panels[1], answers)
        return png(figure)


def _draw_ours(
    axes: Axes, question: Question, answers: list[Answer], groups: dict[str, Group]
) -> None:
    for row, answer in enumerate(answers):
        group = groups[answer.cell]
        if not group.finished:
            continue
        mean = 100 * group.values[group.metric].mean
        scores = [100 * run.summary["metrics"][group.metric] for run in group.finished]
        axes.plot(scores, [row] * len(scores), "o", color=colour(0), alpha=0.5)
        axes.plot([mean, mean], [row - 0.3, row + 0.3], color=colour(0), linewidth=2.5)
        axes.set_xlabel(f"{NAMES[group.metric]}, %; a dot for each seed")
    reference = groups.get(question.reference)
    if reference is not None and reference.finished:
        mean = 100 * reference.values[reference.metric].mean
        axes.axvline(mean, color="#777777", linestyle="--", linewidth=1, zorder=0)


def _draw_published(axes: Axes, answers: list[Answer]) -> None:
    rows = [(row, a.published) for row, a in enumerate(answers) if a.published is not None]
    axes.errorbar(
        [published.score for _, published in rows],
        [row for row, _ in rows],
        xerr=[published.deviation or 0 for _, published in rows],
        fmt="s",
        capsize=3,
        color=colour(1),
    )
    axes.set_xlabel("the paper's, %")
    axes.margins(x=0.2)
