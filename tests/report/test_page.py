"""The report's page as a browser shows it."""

import pytest

from mg_jax.report.groups import read_groups
from mg_jax.report.page import format_page
from mg_jax.report.write import write_report
from tests import browser, runs
from tests.reports import LONG, STRANGE, change, copied, unfinished

PAGES = ["seeds", "while_running", "strange_report"]


@pytest.mark.parametrize("size", browser.SIZES)
@pytest.mark.parametrize("name", PAGES)
def test_the_page_fits_its_window_and_asks_for_nothing(reported, name, size):
    path = reported / name / "report.html"
    with browser.shown(path, *browser.SIZES[size]) as (page, asked):
        assert asked == [path.as_uri()]
        width = page.evaluate("document.documentElement.scrollWidth")
        assert width <= page.evaluate("innerWidth") == browser.SIZES[size][0]
        pictures = page.evaluate(
            "[...document.querySelectorAll('figure:not(.clip) img')]"
            ".map(i => [i.complete, i.naturalWidth, i.clientWidth, i.alt])"
        )
        assert len(pictures) == len(list(path.parent.glob("*.png")))
        for complete, natural, shown, alt in pictures:
            assert complete
            assert alt
            assert natural >= 2 * shown  # sharp on dense screens
            assert 12 * shown / (4.8 * 72) >= 12  # pixels of a letter of 12 points
        sizes = page.evaluate(
            "[...document.querySelectorAll('body *')].filter(e => e.innerText)"
            ".map(e => parseFloat(getComputedStyle(e).fontSize))"
        )
        assert min(sizes) >= 13
        # Tables that are wider than the window can be scrolled in their own boxes.
        assert page.evaluate(
            "[...document.querySelectorAll('table')].every(t => t.clientWidth <= "
            "t.parentElement.scrollWidth && t.parentElement.clientWidth <= innerWidth)"
        )


def test_fifteen_configs_can_be_told_apart(reported, tmp_path):
    folders = []
    for number in range(15):
        folders.append(copied(reported / "baseline_seed0", tmp_path / f"cell{number}"))
        change(folders[-1] / "config.json", schedule__learning_rate=(number + 1) / 1e5)
    path = write_report(read_groups(folders), tmp_path / "out")
    with browser.shown(path, *browser.SIZES["phone"]) as (page, _):
        assert page.evaluate("document.documentElement.scrollWidth") <= page.evaluate("innerWidth")
        marks = "[...document.querySelectorAll('.overview tbody .chip')].map(e => e.outerHTML)"
        assert len(set(page.evaluate(marks))) == 15
        sizes = "[...document.querySelectorAll('.chip')].map(e => e.getBoundingClientRect().width)"
        assert min(page.evaluate(sizes)) >= 8


def table(page, number=0):
    """Cells by the first of their row."""
    rows = page.locator("table").nth(number).locator("tr")
    texts = [row.locator("th, td").all_inner_texts() for row in rows.all()]
    return {row[0]: [text.replace("\xa0", " ") for text in row[1:]] for row in texts}


def test_seeds_become_mean_and_standard_deviation(reported, compared_seeds):
    groups = compared_seeds.groups
    flops = [group.flops(group.schedule.iterations) for group in groups]
    with browser.shown(reported / "seeds" / "report.html", 1366, 768) as (page, _):
        cells = table(page)
        assert page.locator("h1").inner_text().replace("\xa0", " ") == (
            "multigrid against baseline: 1.77× faster by the clock, in training alone "
            "2.00× faster; top-1 70.0 ± 17.3 % against 60.0 ± 10.0 %"
        )
        assert table(page, 1)["seed"] == ["0, 1, 2", "0, 1, 2"]
        assert table(page, 1)["multigrid.long_cycle"] == ["false", "true"]
        assert "data.name" not in table(page, 1)
        assert page.locator(".caveats").count() == 0
    iterations = [group.schedule.iterations for group in groups]
    assert cells[""] == ["baseline", "multigrid"]
    assert cells["state"] == ["finished", "finished"]
    assert cells["top-1, %"] == ["60.0 ± 10.0", "70.0 ± 17.3"]
    assert cells["training, s"] == ["40.0 ± 10.0", "20.0 ± 10.0"]
    assert cells["wall clock, s"] == ["46.0 ± 10.0", "26.0 ± 10.0"]
    assert cells["speed-up: training time"] == ["1.00×", "2.00×"]
    assert cells["speed-up: wall clock"] == ["1.00×", f"{46 / 26:.2f}×"]
    assert cells["fewer iterations"] == ["1.00×", f"{iterations[0] / iterations[1]:.2f}×"]
    assert cells["fewer FLOPs"] == ["1.00×", f"{flops[0] / flops[1]:.2f}×"]
    assert cells["top-1, difference"] == ["+0.0 points", "+10.0 points"]
    assert cells["iterations"] == [f"{n:,}" for n in iterations]
    assert cells["epochs"] == [f"{group.schedule.clips / 48:.1f}" for group in groups]


def test_a_running_run_is_told_from_a_finished_one(reported, undisturbed):
    summary = runs.summary(undisturbed[0])
    with browser.shown(reported / "while_running" / "report.html", 390, 844) as (page, _):
        cells = table(page)
        title = page.locator("h1").inner_text()
        notes = page.locator(".caveats").inner_text()
    step = cells["state"][1]
    assert step.endswith(" of 72")
    assert f"real: {step}, top-1" in title
    assert "faster" not in title
    assert f"real is not finished ({step})" in notes
    assert "There is one finished run of run, so no standard deviation." in notes
    at = cells["top-1, %"][1].rpartition(", ")[2]
    evaluations = [line for line in runs.log(reported / "real") if line["kind"] == "eval"]
    (line,) = (line for line in evaluations if f"step {line['step']}" == at)
    assert cells["top-1, %"] == [
        f"{100 * summary['metrics']['top1']:.1f}",
        f"{100 * line['top1']:.1f}\ncentre view, {at}",
    ]
    (times,) = (row for label, row in cells.items() if label.startswith("training, "))
    assert times[1].endswith(f"\nuntil {at}")
    assert cells["speed-up: training time"] == ["1.00×", "\N{EN DASH}"]
    assert cells["top-1, difference"] == ["+0.0 points", "\N{EN DASH}"]
    iterations = 72 / summary["iterations"]
    assert cells["fewer iterations"] == ["1.00×", f"{1 / iterations:.2f}×"]


def test_names_are_shown_as_they_are_and_several_configs_have_an_overview(reported):
    with browser.shown(reported / "strange_report" / "report.html", 1366, 768) as (page, _):
        overview, cells = table(page), table(page, 1)
        assert page.locator("i").count() == 0
    assert cells[""] == [STRANGE, "cut", LONG]
    assert list(overview) == ["", STRANGE, "cut", LONG]
    columns = ["speed-up: wall clock", "top-1, %", "top-1, difference", "speed-up: training time"]
    for place, name in enumerate(cells[""]):
        assert overview[name] == [cells[row][place] for row in [*columns, "fewer iterations"]]
    assert cells["state"] == ["finished", "step 40 of 72", "finished"]
    assert (reported / "strange_report" / "training_i_R_D_a_1.png").exists()
    assert cells["epochs"][1] == f"{72 * 8 / 48:.1f}"


def test_a_run_that_has_just_begun_has_a_page_of_its_own(reported, tmp_path):
    begun = unfinished(reported / "real", tmp_path / "begun", 3)
    path = write_report(read_groups([begun]), tmp_path / "out")
    assert path == tmp_path / "out" / "report.html"
    with browser.shown(path, 390, 844) as (page, _):
        assert page.locator("h1").inner_text() == "begun: step 3 of 72, not evaluated yet"
        notes = page.locator(".caveats").inner_text()
        assert page.locator("img").count() == 1
        assert table(page)["epochs"] == [f"{72 * 8 / 48:.1f}"]
    assert "begun is not finished and not evaluated yet (step 3 of 72)." in notes


def test_the_page_is_written_from_any_folder(compared_seeds, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page = format_page(compared_seeds, [], [], [], "today")
    assert page.startswith("<!doctype html>")
    assert "tbody tr + tr > *" in page  # of the style sheet
