"""Writes the report on runs: `report.html` and its pictures."""

import datetime
import pathlib
import re
from collections.abc import Sequence

import numpy as np

from mg_jax.machine.atomic_file import write_bytes, write_text
from mg_jax.machine.fonts import matplotlib_fonts, say_missing
from mg_jax.machine.progress import say
from mg_jax.metrics import NAMES
from mg_jax.report.class_sections import class_sections
from mg_jax.report.comparison import compared_with_first
from mg_jax.report.cost import with_flops
from mg_jax.report.curves import TrainingCurve, accuracy_curves, training_curve
from mg_jax.report.figures import accuracy_figure, training_figure
from mg_jax.report.groups import Group
from mg_jax.report.page import format_page
from mg_jax.report.picture import Picture

_SCALARS = ("loss", "top1")  # of training
# Percent of each config's mean losses that lie within the axis; the highest, of spikes, do not.
_SHOWN = 99
_KINDS = ("accuracy", "training", "confusion", "calibration")  # of pictures
_LONGEST = 100  # letters of a name that go into a file's


def write_report(groups: list[Group], workdir: pathlib.Path) -> pathlib.Path:
    """Compares groups of runs with the first; returns the path of the page.

    Needs neither data nor TensorFlow.

    Args:
      groups: at least one, of runs finished or not.
      workdir: for the page and its pictures.

    Raises:
      UserError: for a damaged file of scores; before anything is written.
    """
    comparison = compared_with_first(with_flops(groups))
    counted = comparison.groups
    # Names of classes stand in pictures too.
    names = [*(group.name for group in counted), *counted[0].runs[0].classes]
    with matplotlib_fonts(names):
        accuracy = _accuracy_pictures(counted)
        training = _training_pictures(counted)
        classes = class_sections(counted, _file_names(counted))
    if missing := say_missing(names):
        say(missing)
    written = datetime.datetime.now().strftime("%d %B %Y, %H:%M")
    page = format_page(comparison, accuracy, training, classes, written)
    path = workdir / "report.html"
    if path.exists():  # otherwise such pictures are not an earlier report's
        for kind in _KINDS:
            for earlier in workdir.glob(f"{kind}_*.png"):
                earlier.unlink()
    workdir.mkdir(parents=True, exist_ok=True)
    of_classes = [picture for section in classes for picture in section.pictures]
    for picture in [*accuracy, *training, *of_classes]:
        write_bytes(workdir / picture.name, picture.png)
    write_text(path, page)
    return path


def _accuracy_pictures(groups: Sequence[Group]) -> list[Picture]:
    names = ", ".join(group.name for group in groups)
    metric = NAMES[groups[0].metric]
    return [
        Picture(
            f"accuracy_{axis.name}.png",
            accuracy_figure(axis, groups, curves),
            f"{metric} in percent against {axis.title}: {names}",
        )
        for axis, curves in accuracy_curves(groups).items()
    ]


def _training_pictures(groups: Sequence[Group]) -> list[Picture]:
    """A picture for each group that has logged training, its file named after the group."""
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
    """The ends of a vertical axis that all groups share."""
    if name in NAMES:
        return 0, 100
    highest = [np.nanpercentile(curve.mean_P, _SHOWN) for curve in curves]
    return 0, 1.05 * float(max(highest, default=1))


def _file_names(groups: Sequence[Group]) -> list[str]:
    """The groups' names in letters that every file system takes, all different."""
    plain = [re.sub(r"[^A-Za-z0-9.-]+", "_", group.name).strip("_")[-_LONGEST:] for group in groups]
    if all(plain) and len(set(plain)) == len(plain):
        return plain
    return [f"{number}_{name}".strip("_") for number, name in enumerate(plain, 1)]
