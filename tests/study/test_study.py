import json
import shutil
import signal

import pytest

from configs.study import get_config as get_study
from mg_jax.machine.cores import usable_cores
from mg_jax.recipe import schedule_from_config
from mg_jax.study.cells import cell_config, cells
from mg_jax.study.questions import QUESTIONS, SETS
from tests import runs
from tests.tiny import get_config as get_tiny
from tests.xla_flags import xla_flags

CORES = usable_cores()
AT_ONCE = min(2, CORES)
CELLS = ("--cells=baseline,baseline_coarse", "--seeds=1")
COARSE = "baseline on T/4 × (H/√2)²"


def start(workdir, *arguments, config="tests/tiny.py"):
    command = ("-m", "mg_jax.study", f"--config={config}", f"--workdir={workdir}")
    return runs.launch(*command, *arguments, XLA_FLAGS=xla_flags())  # runs have one device each


@pytest.mark.parametrize("base", [get_study(), get_tiny(), get_study("baseline")])
def test_cells_are_what_they_are_called_whatever_the_config_says(base):
    variants = cells(base)
    plans, pixels = {}, {}
    for name, settings in variants.items():
        schedule = schedule_from_config(cell_config(base, settings, seed=1))
        steps = range(schedule.iterations)
        plans[name] = tuple((schedule.grid(i), schedule.learning_rate(i)) for i in steps)
        pixels[name] = tuple(item for item in settings.items() if item[0].startswith("augment."))
    assert len({(plans[name], pixels[name]) for name in plans}) == len(plans)
    for cut, whole in (("1x", "multigrid_1x"), ("1.5x", "multigrid"), ("2x", "multigrid_2x")):
        assert len(plans[f"baseline_cut_{cut}"]) == len(plans[whole])
    for name in variants.keys() & {a.cell for q in SETS["table1"] for a in q.answers}:
        assert name == "baseline" or len(plans[name]) == len(plans["multigrid"])
    assert 8 * len(plans["baseline_coarse"]) == len(plans["baseline"])
    assert len({grid.frames for grid, _ in plans["multigrid"]}) == 3
    named = {answer.cell for question in QUESTIONS for answer in question.answers}
    left_out = {"baseline_whole_batch_bn"}
    if len(plans["baseline"]) == 72:
        left_out |= {"baseline_coarse_0.25x"}  # 2 iterations for 3 stages
    assert set(variants) == named - left_out


def test_batch_norm_of_the_baseline_is_a_cell_where_sub_batches_are_smaller():
    config = get_study()
    config.batch = config.schedule.batch = 16
    assert cells(config)["baseline_whole_batch_bn"]["sub_batch"] == 0


@pytest.fixture(scope="module")
def stopped(once, flags):
    """A study that was killed, then interrupted, then ran to its end; and what it said then."""
    # With a checkpoint at every other step runs take their time.
    arguments = [*CELLS, *flags, f"--at_once={AT_ONCE}", "--config.run.checkpoint_every=2"]

    def make(folder):
        workdir = folder / "study"
        for step, number in ((10, signal.SIGKILL), (30, signal.SIGINT)):
            study = start(workdir, *arguments)
            runs.wait_for(workdir / "baseline_seed0", step, [study])
            study.send_signal(number)
            status, output = runs.ended(study)
            assert status == (130 if number == signal.SIGINT else -signal.SIGKILL), output
            assert ("interrupted; the same command goes on" in output) == (number == signal.SIGINT)
            ended_runs = any(workdir.glob("*/summary.json"))
            assert (f"so far see {workdir}/study.md" in output) == (
                number == signal.SIGINT and ended_runs
            )
        # Of the one that was killed runs may still have been writing a checkpoint.
        status, output = runs.ended(start(workdir, *arguments))
        assert status == 0, output
        (folder / "output").write_text(output)

    folder = once("stopped", make)
    return folder / "study", arguments, (folder / "output").read_text()


def row(workdir, label):
    """The first row of `study.md` with a label, its cells by the heads of their columns."""
    lines = (workdir / "study.md").read_text().splitlines()
    number = next(n for n, line in enumerate(lines) if line.startswith(f"| {label} |"))
    head = max(n for n, line in enumerate(lines[:number]) if line.startswith("|---")) - 1
    heads, cells = (
        [cell.strip() for cell in lines[n].strip("|").split("|")] for n in (head, number)
    )
    return dict(zip(heads, cells, strict=True))


def test_a_study_that_is_stopped_goes_on_with_what_is_there(stopped):
    workdir, _, output = stopped
    baseline, coarse = (workdir / f"{cell}_seed0" for cell in ("baseline", "baseline_coarse"))
    said = (baseline / "output.txt").read_text()
    assert said.count("stopped by SIGTERM") == said.count("continuing") == 2
    steps = [line["step"] for line in runs.log(baseline) if line["kind"] == "train"]
    assert steps == list(range(1, 73))
    assert runs.summary(coarse)["iterations"] == 9
    pages = ", ".join(f"{workdir}/{name}" for name in ("report.html", "study.md", "study.json"))
    assert output.splitlines()[-1] == f"see {pages}; a larger --seeds goes on with more"
    assert "baseline_coarse" in (workdir / "report.html").read_text()
    for label, folder in (("baseline", baseline), (COARSE, coarse)):
        summary, cells = runs.summary(folder), row(workdir, label)
        assert cells["iterations"] == f"{summary['iterations']:,}"
        assert cells["top-1, %"] == f"{100 * summary['metrics']['top1']:.1f}"


def test_a_run_that_fails_keeps_no_other_from_running(stopped, tmp_path):
    finished, arguments, _ = stopped
    workdir = shutil.copytree(finished, tmp_path / "study")
    (workdir / "baseline_coarse_seed1").mkdir()
    (workdir / "baseline_coarse_seed1" / "checkpoints").touch()  # no folder
    study = start(workdir, *arguments, "--cells=baseline_coarse", "--seeds=3")
    status, output = runs.ended(study)
    assert status == 1
    last = output.splitlines()[-1]
    assert f"did not finish, the same command goes on: {workdir}/baseline_coarse_seed1: " in last
    assert f"Of the others see {workdir}/report.html" in last
    assert runs.summary(workdir / "baseline_coarse_seed2")["iterations"] == 9
    # What was there stays in the tables.
    assert row(workdir, COARSE)["seeds"] == "2"
    assert row(workdir, "baseline")["seeds"] == "1"
    assert row(workdir, COARSE)["fewer"] == "8.00×"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("--config.schedule.learning_rate=0.1", "schedule.learning_rate is 1e-05 there and 0.1"),
        ("--config.eval.clips=3", "eval.clips is 2 there and 3 here"),
        (
            f"--at_once={3 - AT_ONCE}",
            f"began with --at_once={AT_ONCE}; times measured with {3 - AT_ONCE}",
        ),
    ],
)
def test_a_study_goes_on_only_as_it_began(stopped, change, message):
    workdir, arguments, _ = stopped
    status, output = runs.ended(start(workdir, *arguments, change))
    assert status == 1
    assert message in output


def test_a_run_that_cannot_train_ends_the_study_and_says_why(tmp_path, flags):
    missing = f"--config.init_from={tmp_path / 'weights.pth'}"
    study = start(tmp_path, *flags, missing, "--cells=multigrid,baseline")
    status, output = runs.ended(study)
    assert status == 1
    assert f"error: a run ended before it trained: {tmp_path}/baseline_seed0: {missing}" in output
    assert not (tmp_path / "multigrid_seed0").exists()


def test_a_study_loads_what_takes_seconds_only_once_it_trains():
    program = (
        "import mg_jax.study.__main__, sys\n"
        "assert not {'jax', 'matplotlib', 'tensorflow'} & sys.modules.keys(), sys.modules.keys()"
    )
    status, output = runs.ended(runs.launch("-c", program))
    assert status == 0, output


def test_a_study_without_data_ends_before_anything_is_made(tmp_path):
    study = start(tmp_path / "study", f"--config.data.dir={tmp_path}", "--cells=baseline")
    status, output = runs.ended(study)
    assert status == 1
    assert "error: no prepared data set in" in output and "--mode=prepare" in output
    assert not (tmp_path / "study").exists()


def test_a_run_that_diverges_is_a_result(tmp_path, flags):
    arguments = ["--cells=baseline_coarse", "--seeds=1", "--config.schedule.learning_rate=1e30"]
    arguments += ["--config.schedule.warmup_iterations=0", *flags]
    status, output = runs.ended(start(tmp_path, *arguments))
    assert status == 0, output
    assert "error: diverged: " in output
    assert row(tmp_path, COARSE)["seeds"] == "0 of 1, 1 diverged"
    step = json.loads((tmp_path / "baseline_coarse_seed0" / "diverged.json").read_text())["step"]
    page = (tmp_path / "report.html").read_text()
    assert f"<h1>baseline_coarse_seed0: diverged at step {step}</h1>" in page
    # There is nothing to go on with.
    status, again = runs.ended(start(tmp_path, *arguments))
    assert status == 0, again
    assert "diverged: " not in again
    # Of other settings it says nothing.
    status, output = runs.ended(start(tmp_path, *arguments, "--config.schedule.learning_rate=1e29"))
    assert status == 1
    assert "schedule.learning_rate is 1e+30 there and 1e+29 here" in output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--cells=baseline,fine"],
            "--cells: no cell is called fine; there are base",
        ),
        (
            ["--cells="],
            "--cells: no cell is given; there are base",
        ),
        (["--set=figure9"], "--set: no set is called figure9; there are overview, figure3"),
        (["--set=table1", "--cells=baseline"], "give --set or --cells, not both"),
        (
            ["--config.sub_batch=0"],
            "a study compares sub-batches with whole batches",
        ),
        ([f"--at_once={CORES + 1}"], f"--at_once={CORES + 1} is more than the {CORES} cores"),
        (
            ["--config.multigrid.epoch_factor=2.0"],
            "--config.multigrid.epoch_factor is what the cells of a study differ in",
        ),
    ],
)
def test_settings_that_cannot_work_are_refused(tmp_path, arguments, message):
    status, output = runs.ended(start(tmp_path / "study", *arguments))
    assert status == 1
    assert message in output
    assert not (tmp_path / "study").exists()
