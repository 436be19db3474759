"""A study's tables, of work directories as runs leave them."""

import collections
import dataclasses
import io
import json
import re

import numpy as np
import pytest
from PIL import Image

from mg_jax.recipe import schedule_from_config
from mg_jax.report.formatting import NOTHING
from mg_jax.study.cells import cell_config, cells
from mg_jax.study.charts import draw_chart
from mg_jax.study.differences import Difference
from mg_jax.study.figure3 import draw_figure_3
from mg_jax.study.questions import SETS
from mg_jax.study.results import ended_cells, format_results, write_results
from mg_jax.study.trials import Trial
from mg_jax.workdir.config import write_config
from tests.tiny import get_config as get_tiny

SPLIT = {"split": "s", "fingerprints": {"ids": "a", "frame counts": "b", "labels": "c"}}
VIDEOS = [
    {
        "from_step": 0,
        "data": "moving_shapes",
        "train": {**SPLIT, "videos": 48},
        "evaluation": {**SPLIT, "videos": 11},
    }
]


@pytest.fixture
def trial(tmp_path):
    """Makes the trial of a cell and a seed and what its run has left."""

    def made(cell, seed, ending=None, **result):
        base = get_tiny()
        config = cell_config(base, cells(base)[cell], seed)
        iterations = schedule_from_config(config).iterations
        folder = tmp_path / f"{cell}_seed{seed}"
        write_config(folder, config, ["left", "right"])
        (folder / "data.json").write_text(json.dumps(VIDEOS))
        (folder / "log.jsonl").write_text('{"step": 1, "kind": "train", "loss": 1.0}\n')
        if ending is not None:
            (folder / ending).write_text(json.dumps(result))
        return Trial(cell, seed, config, (), folder, iterations)

    return made


def finished(top1, train_s):
    clocks = {"train_s": train_s, "compile_s": 5, "eval_s": 1, "wall_clock_s": train_s + 6}
    programs = {"programs": 4, "programs_from_cache": 0}
    metrics = {"top1": top1, "top5": 1.0, "loss": 0.0}
    return {
        "ending": "summary.json",
        "metrics": metrics,
        "devices": "1 x cpu",
        **programs,
        **clocks,
    }


DIVERGED = {"ending": "diverged.json", "step": 2, "reason": "the loss is nan"}


def counted(trials):
    """The cells of trials; an operation for each clip stands for those that are counted."""
    one = collections.defaultdict(lambda: 1)
    return [dataclasses.replace(group, clip_flops=one) for group in ended_cells(trials)]


def rows(page):
    """The cells of a page's table rows, by label."""
    lines = [line.strip("|").split("|") for line in page.splitlines() if line.startswith("| ")]
    return {cells[0].strip(): [cell.strip() for cell in cells[1:]] for cells in lines}


def titles(page):
    return [line for line in page.splitlines() if line.startswith("## ")]


def test_tables_hold_means_deviations_and_ratios(trial):
    trials = [
        trial("baseline", 0, **finished(0.9, 30)),
        trial("multigrid", 0, **finished(0.93, 10)),
        trial("short_cycle_rate", 0, **DIVERGED),
        trial("baseline", 1, **finished(0.92, 50)),
        trial("multigrid", 1, **DIVERGED),
    ]
    command = "--config=configs/demo.py --config.batch=16"
    page = format_results("demo", command, counted(trials), at_once=2)
    assert page.startswith("# demo\n")
    assert f"`{command}`" in page
    assert "2 runs at a time shared the machine" in page
    # The standard deviation of 90 and 92 is the square root of 2.
    found = rows(page)
    own = ["72", "1.00×", "12.0", "1.00×", "40", "1.00×", "91.0 ± 1.4", "", "0.000", "2"]
    assert found["baseline"] == [*own, NOTHING, "75.6"]
    schedule = schedule_from_config(trials[1].config)
    fewer, epochs = 72 / schedule.iterations, schedule.clips / 48
    flops = 72 * 8 / schedule.clips
    ratios = [f"{schedule.iterations}", f"{fewer:.2f}×", f"{epochs:.1f}", f"{flops:.2f}×"]
    # Seed 0 has 93 against 90; seed 1 diverged.
    rest = ["10", "4.00×", "93.0", "+3.0", "0.000", "1 of 2, 1 diverged"]
    assert found["multigrid: both"] == [*ratios, *rest, "4.5×", "76.4"]
    assert found["by both"] == [*[""] * 9, "0 of 1, 1 diverged", NOTHING, NOTHING]
    # Batch norm's two cells stand in the first table.
    assert titles(page) == [
        "## Multigrid against the baseline",
        "## The learning rate and the short cycle",
    ]


def test_a_cell_that_is_alone_is_shown_once_and_compared_with_nothing(trial):
    groups = counted([trial("multigrid", 0, **finished(0.9, 9))])
    page = format_results("demo", "", groups, at_once=1)
    assert titles(page) == ["## Multigrid against the baseline"]
    iterations, fewer, _, flops, _, faster, top1, difference, *_ = rows(page)["multigrid: both"]
    assert (fewer, flops, faster, difference) == ("", "", "", "")
    assert (iterations, top1) == (f"{groups[0].schedule.iterations}", "90.0")


def test_differences_are_paired_by_seed_and_bold_where_chance_does_not_make_them(trial):
    scores = {"multigrid": (0.80, 0.90, 0.70), "no_fine_tuning": (0.79, 0.891, 0.692)}
    scores["fine_tuning_half"] = (0.81, 0.85, 0.75)
    trials = [
        trial(cell, seed, **finished(score, 9))
        for cell, of_seeds in scores.items()
        for seed, score in enumerate(of_seeds)
    ]
    trials.append(trial("multigrid", 3, **finished(0.1, 9)))  # no other cell has this seed
    page = format_results("demo", "", counted(trials), at_once=1)
    (head,) = (line for line in page.splitlines() if "difference from with" in line)
    found = rows(page)
    # -1.0, -0.9 and -0.8 points: the mean, and the standard deviation over the root of 3.
    assert found["without"][7] == "**-0.9 ± 0.1**"
    assert found["half as long"][7] == "+0.3 ± 2.9"
    assert head.count("paper") == 2


@pytest.mark.parametrize(
    ("mean", "error", "seeds", "told"),
    [
        (4.2, 1, 3, False),
        (-4.4, 1, 3, True),
        (3, None, 1, False),
        (-1.02, 0, 2, False),
        (-1.02, 1e-15, 2, False),
        (2.1, 1, 11, False),
        (2.1, 1, 30, True),
    ],
)
def test_three_seeds_tell_apart_what_is_above_four_standard_errors(mean, error, seeds, told):
    assert Difference(mean, error, seeds).told_apart == told


def test_the_figure_draws_a_curve_for_each_variant_that_was_trained_for_several_lengths(trial):
    cells = ("baseline_0.5x", "baseline", "baseline_2x", "multigrid_1x", "multigrid")
    trials = [trial(c, 0, **finished(0.5 + n / 10, 10 * n + 9)) for n, c in enumerate(cells)]
    assert "figure3.png" not in format_results("demo", "", counted(trials[:1]), at_once=1)
    image = Image.open(io.BytesIO(draw_figure_3(counted(trials))))
    colours = {tuple(pixel) for pixel in np.asarray(image.convert("RGB")).reshape(-1, 3)}
    # The baseline's and multigrid's, of five variants, and not the short cycle's.
    assert {(0, 0x72, 0xB2), (0xD5, 0x5E, 0)} <= colours
    assert (0xCC, 0x79, 0xA7) not in colours
    page = format_results("demo", "", counted(trials), at_once=1)
    assert "![Accuracy against cost](figure3.png)" in page
    assert re.search(r"^\| multigrid: both, 1.5× epochs \|", page, re.M)


def test_a_chart_has_each_score_in_its_row_and_the_papers_where_there_is_one(trial):
    trials = [trial("multigrid", seed, **finished(0.8, 9)) for seed in (0, 1)]
    trials += [trial("no_fine_tuning", 0, **finished(0.5, 9)), trial("fine_tuning_half", 0)]
    trials += [trial("fine_tuning_half", 1, **DIVERGED)]
    (question,) = SETS["fine_tuning"]
    groups = {group.name: group for group in counted(trials)}
    answers = [answer for answer in question.answers if answer.cell in groups]
    assert len(answers) == 3
    image = Image.open(io.BytesIO(draw_chart(question, answers, groups))).convert("RGB")
    ours = np.argwhere((np.asarray(image) == (0, 0x72, 0xB2)).all(-1))  # the means' lines
    papers = np.argwhere((np.asarray(image) == (0xD5, 0x5E, 0)).all(-1))
    with_it, without = (np.unique(part[:, 1]) for part in halves(ours))
    assert without.max() < with_it.min()  # 50 left of 80 %
    assert papers[:, 1].min() > with_it.max()  # in a panel of their own
    paper_with, paper_without = (part[:, 1].mean() for part in halves(papers))
    assert paper_without < paper_with  # 76.0 and 76.4 %
    only = {"fine_tuning_longer": dataclasses.replace(groups["multigrid"])}
    alone = draw_chart(question, [question.answers[-1]], only)
    colours = set(
        map(tuple, np.asarray(Image.open(io.BytesIO(alone)).convert("RGB")).reshape(-1, 3))
    )
    assert (0xD5, 0x5E, 0) not in colours


def halves(places):
    """The (row, column) places above and below the middle of their rows."""
    middle = (places[:, 0].min() + places[:, 0].max()) / 2
    return places[places[:, 0] < middle], places[places[:, 0] > middle]


def test_the_page_shows_the_pictures_that_are_written(trial, tmp_path):
    trials = [trial(cell, 0, **finished(0.9, 30)) for cell in ("baseline", "no_fine_tuning")]
    write_results("demo", "", trials, 1, tmp_path)
    shown = re.findall(r"!\[.*?\]\((.+?)\)", (tmp_path / "study.md").read_text())
    assert len(shown) == len(set(shown)) > 1
    assert set(shown) == {path.name for path in tmp_path.glob("*.png")}


def test_results_are_kept_by_cell_and_seed(trial, tmp_path):
    trials = [
        trial("baseline", 0, **finished(0.9, 30)),
        trial("baseline", 1, **DIVERGED),
        trial("multigrid", 0),
    ]
    write_results("demo", "", trials, 1, tmp_path)
    written = json.loads((tmp_path / "study.json").read_text())
    assert (written["config"], written["at_once"]) == ("demo", 1)
    (name, cell), *others = written["cells"].items()
    assert (name, others) == ("baseline", [])
    assert cell["runs"]["0"]["metrics"]["top1"] == 0.9
    assert cell["runs"]["0"]["train_s"] == 30
    assert cell["iterations"] == 72
    assert cell["flops"] > 72 * 8 * 1e6  # of each clip
    assert cell["diverged"] == {"1": "the loss is nan"}
