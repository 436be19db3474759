"""Prints finished runs side by side: `python -m mg_jax.report.terminal_table DIR DIR ...`."""

import dataclasses
import pathlib
import sys
from collections.abc import Sequence

from mg_jax.errors import UserError
from mg_jax.report.comparison import Comparison, compared_with_first
from mg_jax.report.groups import Group, check_comparable
from mg_jax.report.runs import RunRecord, read_runs
from mg_jax.report.sentences import difference, saved
from mg_jax.report.table import Row, clocks, costs, results
from mg_jax.tools.command_line import errors_as_messages


def compare_finished(folders: list[pathlib.Path]) -> Comparison:
    """Compares the finished runs of work directories, each by itself, with the first.

    Raises:
      UserError: for runs that cannot be read or compared, or have not finished.
    """
    runs = read_runs(folders)
    check_comparable(runs)
    for run in runs:
        if run.summary is None:
            raise UserError(
                f"{run.folder / 'summary.json'} is missing; the run of {run.folder} has not "
                "finished"
            )
    return compared_with_first([Group(run.name, (run,)) for run in runs])


def format_comparison(comparison: Comparison) -> str:
    """A table with a column for each group, and a line for each that has a reference.

    Args:
      comparison: of groups with finished runs.
    """
    groups = comparison.groups
    wall_clock, *parts = clocks(groups, 1, "s")
    parts = [dataclasses.replace(part, label=f"  {part.label}") for part in parts]
    heads = Row("", [group.name for group in groups])
    rows = [heads, wall_clock, *parts, _programs(groups), *costs(groups), *results(groups)]
    columns = zip(*([row.label, *row.cells] for row in rows), strict=True)
    first, *widths = (max(map(len, column)) for column in columns)
    lines = [
        "  ".join([row.label.ljust(first), *map(str.rjust, row.cells, widths)]) for row in rows
    ]
    lines.insert(1, "-" * len(lines[0]))
    return "\n".join([*lines, "", *(_against(comparison, group) for group in comparison.others)])


def _programs(groups: Sequence[Group]) -> Row:
    """How many programs the groups' runs compiled; others were kept from earlier runs."""

    def compiled(run: RunRecord) -> int:
        return run.summary["programs"] - run.summary["programs_from_cache"]

    cells = [f"{sum(map(compiled, g.finished)) / len(g.finished):.3g}" for g in groups]
    return Row("  programs compiled", cells)


def _against(comparison: Comparison, group: Group) -> str:
    quantities = ("wall_clock_s", "iterations", "train_s")
    parts = [saved(comparison, group, quantity) for quantity in quantities]
    parts.append(difference(comparison, group))
    return f"{group.name} against {comparison.reference.name}: {', '.join(parts)}"


def main(folders: list[str]) -> None:
    """Compares the runs of the work directories."""
    if not folders or any(folder.startswith("-") for folder in folders):
        sys.exit("usage: python -m mg_jax.report.terminal_table DIR DIR ...")
    with errors_as_messages():
        print(format_comparison(compare_finished([pathlib.Path(folder) for folder in folders])))


if __name__ == "__main__":
    main(sys.argv[1:])
