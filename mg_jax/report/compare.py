"""Prints finished runs side by side: `python -m mg_jax.report.compare DIR DIR ...`."""

import pathlib
import sys
from typing import Any

from mg_jax.metrics import NAMES, headline_metric
from mg_jax.report.groups import check_comparable
from mg_jax.report.runs import read_runs
from mg_jax.report.units import signed

ROWS = (
    ("iterations", lambda s: f"{s['iterations']:,}"),
    ("epochs", lambda s: f"{s['epochs']:.1f}"),
    ("examples", lambda s: f"{s['examples']:,}"),
    ("wall clock, s", lambda s: f"{s['wall_clock_s']:.1f}"),
    ("  compilation, s", lambda s: f"{s['compile_s']:.1f}"),
    ("  training, s", lambda s: f"{s['train_s']:.1f}"),
    ("  evaluation, s", lambda s: f"{s['eval_s']:.1f}"),
    ("top-1, %", lambda s: _percent(s["metrics"], "top1")),
    ("top-5, %", lambda s: _percent(s["metrics"], "top5")),
    ("mAP, %", lambda s: _percent(s["metrics"], "map")),
    ("loss", lambda s: f"{s['metrics']['loss']:.3f}"),
)


def _percent(metrics: dict[str, float], name: str) -> str:
    return f"{100 * metrics[name]:.1f}" if name in metrics else ""


def format_comparison(runs: dict[str, dict[str, Any]]) -> str:
    """A table with a column for each run; the first is what the others are measured against.

    Args:
      runs: summary by name, at least one.
    """
    columns = [["", *(label for label, _ in ROWS)]]
    columns += [[name, *(show(summary) for _, show in ROWS)] for name, summary in runs.items()]
    widths = [max(map(len, column)) for column in columns]
    lines = []
    for label, *cells in zip(*columns, strict=True):
        if not any(cells) and label:
            continue  # a metric that none of the runs has
        padded = (cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True))
        lines.append("  ".join([label.ljust(widths[0]), *padded]))
    lines.insert(1, "-" * len(lines[0]))
    (first, reference), *others = runs.items()
    lines += ["", *(_against(first, reference, name, summary) for name, summary in others)]
    return "\n".join(lines)


def _against(first: str, reference: dict[str, Any], name: str, summary: dict[str, Any]) -> str:
    iterations, seconds = (reference[key] / summary[key] for key in ("iterations", "train_s"))
    metric = headline_metric(summary["metrics"])
    points = 100 * (summary["metrics"][metric] - reference["metrics"][metric])
    return (
        f"{name} against {first}: {_ratio(iterations, 'fewer', 'as many')} iterations, "
        f"{_ratio(seconds, 'less', 'as much')} training time without compilation, "
        f"{NAMES[metric]} {signed(points)} points"
    )


def _ratio(ratio: float, smaller: str, equal: str) -> str:
    if f"{ratio:.2f}" == "1.00":
        return equal
    return f"{ratio:.2f}x {smaller}" if ratio >= 1 else f"{1 / ratio:.2f}x more"


def main(folders: list[str]) -> None:
    """Compares the runs of the work directories."""
    if not folders or any(folder.startswith("-") for folder in folders):
        sys.exit("usage: python -m mg_jax.report.compare DIR DIR ...")
    try:
        runs = read_runs([pathlib.Path(folder) for folder in folders])
        check_comparable(runs)
    except ValueError as error:
        sys.exit(f"error: {error}")
    for run in runs:
        if run.summary is None:
            sys.exit(
                f"error: {run.folder / 'summary.json'} is missing; the run of {run.folder} has not "
                "finished"
            )
    print(format_comparison({run.name: run.summary for run in runs}))


if __name__ == "__main__":
    main(sys.argv[1:])
