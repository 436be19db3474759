"""The report as one HTML page that needs nothing else: no script, no request, pictures inside."""

import base64
import dataclasses
import html
import re

from mg_jax.report import words
from mg_jax.report.figures import line_style
from mg_jax.report.runs import LoggedRun
from mg_jax.report.table import (
    SPACE,
    Compared,
    Row,
    differing_settings,
    main_table,
    overview,
)

_CSS = """
:root { color-scheme: light; }
* { box-sizing: border-box; }
body { margin: 0; background: #fff; color: #1c1c1c;
  font: 1rem/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
main { max-width: 66rem; margin: 0 auto; padding: 1.25rem 1rem 3rem; }
h1 { font-size: clamp(1.35rem, 4.2vw, 2rem); line-height: 1.25; margin: 0 0 .5rem; }
h2 { font-size: 1.25rem; margin: 2.25rem 0 .5rem; }
h1, h2, p, li, dd, th { overflow-wrap: anywhere; }
p, ul, dl { margin: .5rem 0; max-width: 46rem; }
.quiet { color: #555; }
.caveats { padding: .6rem 1rem .6rem 2rem; background: #fff6dc; border-left: .3rem solid #d99a00; }
.scroll { overflow-x: auto; border: 1px solid #d8d8d8; border-radius: .3rem; max-width: 100%;
  width: fit-content; /* a shade on the right as long as there is more */
  background: linear-gradient(to left, #fff 40%, #fff0) right / 3rem 100% no-repeat local,
    linear-gradient(to left, #0004, #0000) right / 1rem 100% no-repeat; }
table { border-collapse: collapse; font-size: .9375rem; }
th, td { padding: .3rem .6rem; text-align: right; vertical-align: top; min-width: 6.6rem;
  max-width: 17rem; font-variant-numeric: tabular-nums; }
thead th { border-bottom: 2px solid #444; vertical-align: bottom; }
tbody th { font-weight: 400; text-align: left; position: sticky; left: 0; background: #fff;
  min-width: 7.5rem; max-width: min(18rem, 40vw); border-right: 1px solid #e4e4e4; }
.overview td, .overview th + th { min-width: 4.4rem; overflow-wrap: normal; }
.overview td { white-space: nowrap; }
.overview small { white-space: normal; }
thead th.words, td.words { text-align: left; min-width: 4rem; }
thead th:first-child { position: sticky; left: 0; background: #fff; text-align: left; }
tbody tr + tr > * { border-top: 1px solid #eee; }
tr.section th { background: #f3f3f3; font-weight: 600; border-right: 0; position: static;
  max-width: none; }
tr.section span { position: sticky; left: .6rem; }
small { display: block; font-size: .8125rem; color: #555; }
.chip { width: .8em; height: .8em; margin-right: .35em; }
.figures { display: grid; gap: 1.25rem 2rem; align-items: start;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 24rem), 1fr)); }
figure { margin: 0; max-width: 32rem; }
img { display: block; max-width: 100%; height: auto; }
@media (max-width: 30rem) {
  table { font-size: .875rem; }
  th, td { padding: .3rem .35rem; }
}
dt { font-weight: 600; margin-top: .5rem; }
dd { margin: 0; }
"""
# The figures' markers as SVG paths.
_SHAPES = {
    "o": "M0 5a5 5 0 1 0 10 0a5 5 0 1 0 -10 0z",
    "s": "M1 1h8v8h-8z",
    "^": "M5 0 10 9H0z",
    "v": "M5 10 0 1h10z",
    "<": "M0 5 9 0v10z",
    ">": "M10 5 1 0v10z",
    "D": "M5 0 10 5 5 10 0 5z",
}
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


@dataclasses.dataclass(frozen=True)
class Picture:
    """A PNG with what it shows, in words.

    Attributes:
      name: of its file.
      png: its bytes.
      shows: a sentence for those who cannot see it.
    """

    name: str
    png: bytes
    shows: str


def format_page(
    groups: list[Compared], accuracy: list[Picture], training: list[Picture], written: str
) -> str:
    """The page.

    Args:
      groups: what is compared, the reference first.
      accuracy: pictures of accuracy against costs.
      training: pictures of training curves.
      written: when, for people.
    """
    title = words.headline(groups).replace(" %", SPACE + "%")
    runs = [run for group in groups for run in group.group.runs]
    parts = [
        f"<h1>{html.escape(title)}</h1>",
        _lead(groups, runs, written),
        _caveats(words.caveats(groups)),
        _section("Comparison", _main_table(groups)),
        _section("Accuracy and what it costs", _figures(accuracy)),
        _section("Training", _figures(training)),
        _section("Settings that differ", _settings(groups)),
        _section("Runs", _runs(groups)),
        _section("How it was counted", _counted()),
    ]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        f'<link rel="icon" href="data:,">\n<title>{html.escape(title)}</title>\n'
        f"<style>{_CSS}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(filter(None, parts))
        + "\n</main>\n</body>\n</html>\n"
    )


def _section(title: str, content: str) -> str:
    return f"<section>\n<h2>{title}</h2>\n{content}\n</section>" if content else ""


def _lead(groups: list[Compared], runs: list[LoggedRun], written: str) -> str:
    """Under the headline: details of the one comparison or a table of several; what it is about."""
    first, *others = groups
    found = ""
    if len(others) > 1:
        heads, rows = overview(groups)
        found = _table("Overview", "", heads, {"": rows}, chips=True)
    elif others and (text := words.details(first, others[0])):
        found = f"<p>{html.escape(text)}.</p>"
    config = first.group.config
    plural = "run" if len(runs) == 1 else "runs"
    about = f"{config.data.name}, {config.data.eval_split}; {len(runs)} {plural}; {written}"
    return f'{found}\n<p class="quiet">{html.escape(about)}</p>'


def _caveats(texts: list[str]) -> str:
    items = "".join(f"<li>{html.escape(text)}</li>" for text in texts)
    return f'<ul class="caveats">{items}</ul>' if items else ""


def _main_table(groups: list[Compared]) -> str:
    return _table("Comparison", "", _heads(groups), main_table(groups))


def _settings(groups: list[Compared]) -> str:
    rows = differing_settings([group.group for group in groups])
    if not rows:
        return "<p>None.</p>"
    return _table("Settings that differ", "setting", _heads(groups), {"": rows}, words=True)


def _runs(groups: list[Compared]) -> str:
    rows = [
        Row(
            f"{run.name}\n{run.folder}",
            [
                group.group.name,
                str(run.config.seed),
                _state(run),
            ],
        )
        for group in groups
        for run in group.group.runs
    ]
    heads = ["column", "seed", "state"]
    return _table("Runs", "run", heads, {"": rows}, words=True)


def _state(run: LoggedRun) -> str:
    if run.summary is not None:
        return "finished"
    return f"{'diverged at ' if run.diverged is not None else ''}step {run.step:,}"


def _heads(groups: list[Compared]) -> list[str]:
    return [_chip(i) + _breakable(group.group.name) for i, group in enumerate(groups)]


def _chip(index: int) -> str:
    """A group's marker, in its colour."""
    style = line_style(index)
    shape = _SHAPES[style["marker"]]
    return (
        f'<svg class="chip" viewBox="0 0 10 10" fill="{style["color"]}" aria-hidden="true">'
        f'<path d="{shape}"/></svg>'
    )


def _table(
    label: str,
    corner: str,
    heads: list[str],
    sections: dict[str, list[Row]],
    words: bool = False,
    chips: bool = False,
) -> str:
    """A table in a box of its own that scrolls where the page is too narrow.

    Args:
      label: of the box.
      corner: head of the first column.
      heads: of the other columns, HTML.
      sections: rows by the section's title.
      words: whether cells hold words, not numbers.
      chips: whether each row is a group and gets its marker.
    """
    cell = '<td class="words">' if words else "<td>"
    columns = "".join(
        f'<th scope="col"{" class=words" if words else ""}>{head}</th>' for head in heads
    )
    bodies = []
    for title, rows in sections.items():
        lines = [
            f'<tr><th scope="row">{_chip(i) if chips else ""}{_cell(row.label)}</th>'
            + "".join(f"{cell}{_cell(text)}</td>" for text in row.cells)
            + "</tr>"
            for i, row in enumerate(rows)
        ]
        if title:
            lines.insert(
                0,
                f'<tr class="section"><th scope="rowgroup" colspan="{len(heads) + 1}">'
                f"<span>{_breakable(title)}</span></th></tr>",
            )
        bodies.append(f"<tbody>{''.join(lines)}</tbody>")
    return (
        f'<div class="scroll" role="region" tabindex="0" aria-label="{label}">'
        f"<table{' class=overview' if chips else ''}>"
        f'<thead><tr><th scope="col">{corner}</th>{columns}</tr></thead>'
        f"{''.join(bodies)}</table></div>"
    )


def _cell(text: str) -> str:
    number, _, remark = text.partition("\n")
    return _breakable(number) + (f"<small>{_breakable(remark)}</small>" if remark else "")


def _figures(pictures: list[Picture]) -> str:
    figures = []
    for picture in pictures:
        data = base64.b64encode(picture.png).decode()
        shows = html.escape(picture.shows)
        figures.append(f'<figure><img src="data:image/png;base64,{data}" alt="{shows}"></figure>')
    return f'<div class="figures">{"".join(figures)}</div>' if figures else ""


def _counted() -> str:
    items = "".join(
        f"<dt>{html.escape(term)}</dt><dd>{html.escape(text)}</dd>"
        for term, text in words.COUNTED.items()
    )
    return f"<dl>{items}</dl>"


def _breakable(text: str) -> str:
    """Escaped; long names break behind their joints, numbers nowhere."""
    return re.sub(r"(?<=\w)([_/]|[.-](?=[A-Za-z]))(?=\w)", r"\1<wbr>", html.escape(text))
