"""Writes the report on runs: `report.html` and its pictures."""

import datetime
import pathlib
import re

import numpy as np

from mg_jax.machine.atomic_file import replaced, write_text
from mg_jax.machine.fonts import matplotlib_fonts, say_missing
from mg_jax.machine.progress import say
from mg_jax.metrics import NAMES
from mg_jax.report.cost import flops_by_clip
from mg_jax.report.curves import TrainingCurve, accuracy_curves, training_curve
from mg_jax.report.figures import accuracy_figure, training_figure
from mg_jax.report.groups import Group, group_runs
from mg_jax.report.page import Picture, format_page
from mg_jax.report.runs import read_runs
from mg_jax.report.table import compared

_SCALARS = ("loss", "top1")  # of training
# Share, in percent, of each config's mean loss that the axis has room for; spikes leave it.
_SHOWN = 99
_LONGEST = 100  # letters of a name that go into a file's


def write_report(folders: list[pathlib.Path], workdir: pathlib.Path) -> pathlib.Path:
    """Compares the runs of work directories, finished or not; returns the path of the page.

    Runs that differ in their seed alone are averaged; the first run's group is what the others are
    measured against. Needs neither data nor TensorFlow.

    Raises:
      UserError: for runs that cannot be read or compared; before anything is written.
    """
    groups = group_runs(read_runs(folders))
    by_clip = flops_by_clip(groups)
    names = [group.name for group in groups]
    with matplotlib_fonts(names):
        accuracy = _accuracy_pictures(groups, by_clip)
        training = _training_pictures(groups)
    if missing := say_missing(names):
        say(missing)
    written = datetime.datetime.now().strftime("%d %B %Y, %H:%M")
    page = format_page(compared(groups, by_clip), accuracy, training, written)
    path = workdir / "report.html"
    if path.exists():  # else they are somebody else's
        for earlier in [*workdir.glob("accuracy_*.png"), *workdir.glob("training_*.png")]:
            earlier.unlink()
    workdir.mkdir(parents=True, exist_ok=True)
    for picture in [*accuracy, *training]:
        with replaced(workdir / picture.name) as unfinished:
            unfinished.write_bytes(picture.png)
    write_text(path, page)
    return path


def _accuracy_pictures(
    groups: list[Group], by_clip: list[dict[tuple[int, int], float]]
) -> list[Picture]:
    names = ", ".join(group.name for group in groups)
    metric = NAMES[groups[0].metric]
    return [
        Picture(
            f"accuracy_{axis.name}.png",
            accuracy_figure(axis, groups, curves),
            f"{metric} in percent against {axis.title}: {names}",
        )
        for axis, curves in accuracy_curves(groups, by_clip).items()
    ]


def _training_pictures(groups: list[Group]) -> list[Picture]:
    """For each group with lines on training; named after the groups."""
    curves = [
        {name: curve for name in _SCALARS if (curve := training_curve(group, name)) is not None}
        for group in groups
    ]
    limits = {name: _limits(name, [c[name] for c in curves if name in c]) for name in _SCALARS}
    return [
        Picture(
            f"training_{file_name}.png",
            training_figure(group, found, limits),
            f"training of {group.name}: {' and '.join(found)} over the iterations, behind them the "
            "grid as a coloured band",
        )
        for group, file_name, found in zip(groups, _file_names(groups), curves, strict=True)
        if found
    ]


def _limits(name: str, curves: list[TrainingCurve]) -> tuple[float, float]:
    """Of an axis that all groups share."""
    if name in NAMES:
        return 0, 100
    highest = [np.nanpercentile(curve.mean_P, _SHOWN) for curve in curves]
    return 0, 1.05 * float(max(highest, default=1))


def _file_names(groups: list[Group]) -> list[str]:
    """The groups' names in letters that every file system takes, all different."""
    plain = [re.sub(r"[^A-Za-z0-9.-]+", "_", group.name).strip("_")[-_LONGEST:] for group in groups]
    if all(plain) and len(set(plain)) == len(plain):
        return plain
    return [f"{number}_{name}".strip("_") for number, name in enumerate(plain, 1)]
