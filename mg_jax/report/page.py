"""The report as one HTML page that needs nothing else: no script, no request, pictures inside."""

import pathlib
import re

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

from mg_jax.report import sentences
from mg_jax.report.class_sections import ClassSection
from mg_jax.report.comparison import Comparison
from mg_jax.report.figures import line_style
from mg_jax.report.picture import Picture
from mg_jax.report.table import main_table, overview, runs_table, settings_table

_FOLDER = pathlib.Path(__file__).parent


def format_page(
    comparison: Comparison,
    accuracy: list[Picture],
    training: list[Picture],
    classes: list[ClassSection],
    written: str,
) -> str:
    """The page.

    Args:
      comparison: of groups that know their FLOPs, the reference first.
      accuracy: pictures of accuracy against costs.
      training: pictures of training curves.
      classes: what groups get wrong, as `class_sections` returns it.
      written: when, for people.
    """
    groups, others = comparison.groups, comparison.others
    return _template().render(
        css=(_FOLDER / "page.css").read_text("utf-8"),
        headline=sentences.headline(comparison),
        overview=overview(comparison) if len(others) > 1 else None,
        details=sentences.details(comparison, others[0]) if len(others) == 1 else "",
        about=_about(comparison, written),
        caveats=sentences.caveats(comparison),
        names=[group.name for group in groups],
        styles=[line_style(index) for index in range(len(groups))],
        comparison=main_table(comparison),
        accuracy=accuracy,
        training=training,
        classes=classes,
        settings=settings_table(comparison),
        runs=runs_table(comparison),
    )


def _about(comparison: Comparison, written: str) -> str:
    data = comparison.groups[0].config.data
    count = sum(len(group.runs) for group in comparison.groups)
    return f"{data.name}, {data.eval_split}; {count} {'run' if count == 1 else 'runs'}; {written}"


def _template() -> Template:
    environment = Environment(
        loader=FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"unbroken": _unbroken, "parts": _parts}
    return environment.get_template("page.html.j2")


def _unbroken(text: str) -> str:
    """Text that keeps a number with its deviation and its percent sign on one line."""
    return re.sub(r"(?<=\d) (?=[±%])|(?<=±) (?=\d)", "\N{NO-BREAK SPACE}", text)


def _parts(text: str) -> list[str]:
    """The parts of a text between which a long name may be broken; never within a number."""
    return re.split(r"(?<=\w[_/])(?=\w)|(?<=\w[.-])(?=[A-Za-z])", text)
