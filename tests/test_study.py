import signal
import subprocess
import sys

import pytest

from configs.study import get_config as get_study
from mg_jax.recipe import schedule_from_config
from mg_jax.study.cells import QUESTIONS, cell_config, cells
from mg_jax.study.results import format_results
from tests import runs
from tests.tiny import get_config as get_tiny


def start(workdir, *arguments, config="tests/tiny.py"):
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "mg_jax.study", f"--config={config}", f"--workdir={workdir}"),
            *arguments,
        ],
        cwd=runs.ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    runs.STARTED.append(process)
    return process


def ended(process):
    output, _ = process.communicate(timeout=600)
    return process.returncode, output


@pytest.mark.parametrize("base", [get_study(), get_tiny(), get_study("baseline")])
def test_cells_are_what_they_are_called_whatever_the_config_says(base):
    variants = cells(base)
    plans = {}
    for name, settings in variants.items():
        schedule = schedule_from_config(cell_config(base, settings, seed=1))
        steps = range(schedule.iterations)
        plans[name] = tuple((schedule.grid(i), schedule.learning_rate(i)) for i in steps)
    assert len(set(plans.values())) == len(plans)
    assert len(plans["baseline_shortened"]) == len(plans["multigrid"])
    assert 8 * len(plans["baseline_coarse"]) == len(plans["baseline"])
    assert len({grid.frames for grid, _ in plans["multigrid"]}) == 3
    named = {row.cell for question in QUESTIONS for row in question.rows}
    assert set(variants) == named - {"baseline_whole_batch_bn"}


def test_batch_norm_of_the_baseline_is_a_cell_where_sub_batches_are_smaller():
    config = get_study()
    config.batch = config.schedule.batch = 16
    assert cells(config)["baseline_whole_batch_bn"]["sub_batch"] == 0


def test_a_study_that_is_stopped_goes_on_with_what_is_there(tmp_path, flags):
    workdir = tmp_path / "study"
    baseline, coarse = (workdir / f"{cell}_seed0" for cell in ("baseline", "baseline_coarse"))
    arguments = ["--cells=baseline,baseline_coarse", "--seeds=1", "--at_once=2", *flags]
    for step, number in ((10, signal.SIGKILL), (40, signal.SIGINT)):
        study = start(workdir, *arguments)
        runs.wait_for(baseline, step, [study])
        study.send_signal(number)
        output, _ = study.communicate()
        assert ("interrupted; the same command goes on" in output) == (number == signal.SIGINT)
    # Of the one that was killed runs may still have been writing a checkpoint.
    status, output = ended(start(workdir, *arguments))
    assert status == 0, output
    said = (baseline / "output.txt").read_text()
    assert said.count("stopped by SIGTERM") == said.count("continuing") == 2
    steps = [line["step"] for line in runs.log(baseline) if line["kind"] == "train"]
    assert steps == list(range(1, 73))
    assert runs.summary(coarse)["iterations"] == 9
    assert f"see {workdir}/study.md and {workdir}/study.json" in output
    assert "baseline_coarse" in (workdir / "report.html").read_text()
    page = (workdir / "study.md").read_text()
    for label, folder in (("| baseline |", baseline), ("baseline on T/4", coarse)):
        summary = runs.summary(folder)
        (line, *_) = (line for line in page.splitlines() if label in line)
        assert f"| {summary['iterations']:,} |" in line
        assert f"| {100 * summary['metrics']['top1']:.1f} |" in line

    for change, message in (
        ("--config.schedule.learning_rate=0.1", "schedule.learning_rate is 1e-05 there and 0.1"),
        ("--config.eval.clips=3", "eval.clips is 2 there and 3 here"),
        ("--at_once=1", "began with --at_once=2; with 1 times would not compare"),
    ):
        status, output = ended(start(workdir, *arguments, change))
        assert status == 1
        assert message in output


def test_a_run_that_cannot_train_ends_the_study_and_says_why(tmp_path):
    study = start(tmp_path, f"--config.data.dir={tmp_path}", "--cells=multigrid,baseline")
    status, output = ended(study)
    assert status == 1
    assert f"error: a run ended before it trained: {tmp_path}/baseline_seed0: error: no" in output
    assert not (tmp_path / "multigrid_seed0").exists()


def test_a_run_that_diverges_is_a_result(tmp_path, flags):
    arguments = ["--cells=baseline_coarse", "--seeds=1", "--config.schedule.learning_rate=1e30"]
    arguments += ["--config.schedule.warmup_iterations=0", *flags]
    status, output = ended(start(tmp_path, *arguments))
    assert status == 0, output
    assert "error: diverged: " in output
    assert "no report, since all runs diverged: baseline_coarse_seed0" in output
    assert "0, 1 diverged |" in (tmp_path / "study.md").read_text()
    # Of other settings it says nothing.
    status, output = ended(start(tmp_path, *arguments, "--config.schedule.learning_rate=1e29"))
    assert status == 1
    assert "schedule.learning_rate is 1e+30 there and 1e+29 here" in output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--cells=baseline,fine"],
            "--cells: fine will not do; there are baseline, base",
        ),
        (
            ["--cells="],
            "--cells: an empty list will not do; there are base",
        ),
        (
            ["--config.sub_batch=0"],
            "a study compares sub-batches with whole batches",
        ),
        (["--at_once=1000"], "--at_once=1000 is more than the"),
    ],
)
def test_settings_that_cannot_work_are_refused(tmp_path, arguments, message):
    status, output = ended(start(tmp_path / "study", *arguments))
    assert status == 1
    assert message in output
    assert not (tmp_path / "study").exists()


def test_tables_hold_means_deviations_and_ratios():
    def run(iterations, seconds, top1):
        metrics = {"top1": top1, "loss": 0.0}
        return {"iterations": iterations, "epochs": 2.0, "train_s": seconds, "metrics": metrics}

    page = format_results(
        {
            "baseline": {"runs": {"0": run(80, 30, 0.9), "1": run(80, 50, 0.92)}, "diverged": {}},
            "multigrid": {"runs": {"0": run(20, 10, 0.93)}, "diverged": {"1": "error: ..."}},
            "short_cycle_rate": {"runs": {}, "diverged": {"0": "error: ..."}},
        },
        {"config": "demo", "seeds": 2, "at_once": 1},
    )
    assert page.startswith("# demo: 2 seeds, 1 runs at a time\n")
    # The standard deviation of 90 and 92 is the square root of 2.
    assert "| baseline | 80 | 1.00x | 2.0 | 40 | 1.00x | 91.0 ± 1.4 | +0.0 | 0.000 | 2 |" in page
    expected = (
        "| multigrid: both | 20 | 4.00x | 2.0 | 10 | 4.00x | 93.0 | +2.0 | 0.000 | 1, 1 diverged |"
    )
    assert expected in page
    assert "| by both |  |  |  |  |  |  |  |  | 0, 1 diverged |" in page
