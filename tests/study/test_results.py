"""A study's tables, of work directories as runs leave them."""

import json

import pytest

from mg_jax.recipe import schedule_from_config
from mg_jax.study.cells import cell_config, cells
from mg_jax.study.results import compare_cells, format_results, write_results
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
    metrics = {"top1": top1, "top5": 1.0, "loss": 0.0}
    return {"ending": "summary.json", "metrics": metrics, "devices": "1 x cpu", **clocks}


DIVERGED = {"ending": "diverged.json", "step": 2, "reason": "the loss is nan"}


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
    page = format_results("demo", command, compare_cells(trials), at_once=2)
    assert page.startswith("# demo\n")
    assert f"`{command}`" in page
    assert "2 runs at a time shared the machine" in page
    # The standard deviation of 90 and 92 is the square root of 2.
    assert "| baseline | 72 | 1.00× | 12.0 | 40 | 1.00× | 91.0 ± 1.4 | +0.0 | 0.000 | 2 |" in page
    schedule = schedule_from_config(trials[1].config)
    fewer, epochs = 72 / schedule.iterations, schedule.clips / 48
    ratios = f"| {schedule.iterations} | {fewer:.2f}× | {epochs:.1f} | 10 | 4.00× |"
    row = f"| multigrid: both {ratios} 93.0 | +2.0 | 0.000 | 1 of 2, 1 diverged |"
    assert row in page
    assert "| by both |  |  |  |  |  |  |  |  | 0 of 1, 1 diverged |" in page
    # Batch norm's two cells stand in the first table.
    assert titles(page) == [
        "## Multigrid against the baseline",
        "## The learning rate and the short cycle",
    ]


def test_a_cell_that_is_alone_is_shown_once_and_compared_with_nothing(trial):
    comparison = compare_cells([trial("multigrid", 0, **finished(0.9, 9))])
    page = format_results("demo", "", comparison, at_once=1)
    assert titles(page) == ["## Multigrid against the baseline"]
    (row,) = (line for line in page.splitlines() if line.startswith("| multigrid: both"))
    iterations, fewer, _, _, faster, top1, difference, *_ = row.split(" | ")[1:]
    assert (fewer, faster, difference) == ("", "", "")
    assert (iterations, top1) == (f"{comparison.groups[0].schedule.iterations}", "90.0")


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
    assert cell["diverged"] == {"1": "the loss is nan"}
