"""Settings become the schedule they say, and those that cannot work are refused at the start."""

import json
import pathlib
import re
import subprocess
import sys

import pytest

from configs import base, demo, kinetics_i3d, kinetics_slowfast
from mg_jax.errors import UserError
from mg_jax.grid import SHORT_CYCLE_AREAS
from mg_jax.recipe import check_devices, recipe_from_config, schedule_from_config
from mg_jax.schedule import Multigrid
from mg_jax.tools.plan import format_plan, plan_dict, write_plan
from mg_jax.tools.plan_plot import plan_figure
from tests.runs import config_of

ROOT = pathlib.Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "golden" / "kinetics_slowfast_schedule.json"


def config_with(recipe=kinetics_slowfast, variant="", **changes):
    return config_of(recipe, variant, **changes)


BAD = [
    ({"schedule.steps": (72_000, 44_000)}, "schedule.steps=(72000, 44000) must ascend and lie"),
    ({"schedule.steps": (44_000, 112_000)}, "strictly between 0 and schedule.iterations=112000"),
    ({"schedule.steps": (0, 44_000)}, "schedule.steps=(0, 44000) must ascend"),
    ({"schedule.steps": ()}, "fine-tuning takes the place of the last learning-rate stage"),
    ({"frames": 36}, "frames=36 does not fit: the coarsest grid has 1/4 of them"),
    (
        {"frames": 36},
        "model.alpha=4 must divide those of every clip; use 32 or 48, or other time divisors",
    ),
    ({"frames": 8}, "model.alpha=4 must divide those of every clip; use 16, or other time"),
    ({"batch": 36}, "sub_batch=8 does not divide batch=36; use a batch of 32 or 40"),
    ({"batch": 512 * 80_000}, "batch=40960000: a learning-rate stage is left without iterations"),
    ({"eval.clips": 0}, "eval.clips=0 must be positive"),
    ({"data.sampling": "random"}, "data.sampling='random' is not known; use stride or segments"),
    ({"data.std": (0.2, 0.0, 0.2)}, "data.std=(0.2, 0.0, 0.2) must be three numbers, for red"),
    ({"data.mean": (0.45,)}, "data.mean=(0.45,) must be three numbers"),
    ({"data.max_damaged": 2.0}, "data.max_damaged=2.0 is a share and lies in 0 ... 1"),
    ({"eval.crops": 2}, "eval.crops=2 must be 1 (centre) or 3"),
    ({"eval.size": 300}, "eval.size=300 must lie in 1 ... eval.short_side=256"),
    ({"eval.precise_bn_batches": 0}, "eval.precise_bn_batches=0 must be positive"),
    ({"run.log_every": 0}, "run.log_every=0 must be positive"),
    ({"run.readers": -1}, "run.readers=-1 must be positive, or 0 for all cores"),
    ({"run.compile_ahead": "False"}, "run.compile_ahead=False must be one of auto, background, fi"),
    ({"seed": -1}, "seed=-1 must not be negative"),
    ({"seed": 1 << 63}, "seed=9223372036854775808 must be at most 9223372036854775806"),
    ({"data.std": ("a", "b", "c")}, "data.std=('a', 'b', 'c') must be three numbers"),
    ({"data.short_sides": ("a", "b")}, "data.short_sides=('a', 'b') must be the smallest and the"),
    ({"schedule.decay": -1.0}, "schedule.decay=-1.0 must be positive"),
    ({"schedule.warmup_iterations": -5}, "schedule.warmup_iterations=-5 must be positive, or 0"),
    ({"schedule.warmup_learning_rate": -1.0}, "warmup_learning_rate=-1.0 must be positive, or 0"),
    ({"model.beta": float("nan")}, "model.beta=nan of model.width=64 leaves the fast pathway"),
    ({"data.short_sides": (256.0,)}, "data.short_sides=(256.0,) must be the smallest and the"),
    ({"sub_batch": -8}, "sub_batch=-8 must be positive, or 0 for whole batches"),
    ({"multigrid.short_shapes": 0}, "multigrid.short_shapes=0 must lie in 1 ... 3"),
    ({"multigrid.epoch_factor": 0.0}, "multigrid.epoch_factor=0.0 must be positive"),
    ({"baseline.time_divisor": 4}, "fix one grid and exclude the cycles"),
    ({"baseline.epoch_factor": 0.3}, "is the baseline's; with a cycle on, set multigrid.epoch_fac"),
    (
        {"multigrid.single_cycle": True, "multigrid.long_cycle": False},
        "multigrid.single_cycle=True needs multigrid.long_cycle=True",
    ),
    (
        {"multigrid.short_cycle_rate": True, "multigrid.short_cycle": False},
        "multigrid.short_cycle_rate=True needs multigrid.short_cycle=True",
    ),
    ({"schedule.warmup_iterations": 200_000}, "warm-up of schedule.warmup_iterations=200000"),
    ({"data.short_sides": (200.0, 340.0)}, "must ascend from at least size=224"),
    ({"data.short_sides": (340.0, 256.0)}, "must ascend from at least size=224"),
]


def test_a_baseline_without_a_stage_is_refused_where_the_iterations_are_given():
    given = {"schedule.scale": 1e-6, "multigrid.iterations": 100}
    with pytest.raises(UserError, match=r"schedule\.scale=1e-06.*stage is left without iterations"):
        schedule_from_config(config_with(**given))


@pytest.mark.parametrize(("changes", "message"), BAD, ids=str)
def test_settings_that_cannot_work_say_what_would(changes, message):
    with pytest.raises(UserError, match=re.escape(message)):
        schedule_from_config(config_with(**changes))


def test_devices_that_do_not_divide_the_batch_name_sizes_that_do():
    schedule = schedule_from_config(config_with(batch=64))
    check_devices(schedule, 8)
    message = "batch=64 cannot be split evenly over 6 devices; use a batch of 48 or 72, or another"
    with pytest.raises(UserError, match=f"{message} number of devices: 1, 2, 4, 8"):
        check_devices(schedule, 6)


def test_the_kinetics_plan_equals_the_golden_file(tmp_path):
    table = write_plan(config_with(), tmp_path)
    assert json.loads((tmp_path / "plan.json").read_text()) == json.loads(GOLDEN.read_text())
    assert "32,686 iterations against the baseline's 112,000: 3.43x fewer" in table
    assert (tmp_path / "plan.png").read_bytes().startswith(b"\x89PNG")
    assert {path.name for path in tmp_path.iterdir()} == {"plan.json", "plan.png"}
    rows = [line for line in table.splitlines() if re.match(r"\s+\d+ +\d", line)]
    assert len(rows) == 14
    assert "8192 x  8 x 112^2" in rows[0]
    shares = [float(row.split()[-1].rstrip("%")) for row in rows]
    assert sum(shares) == pytest.approx(100, abs=0.5)


def test_a_plan_refuses_parts_that_fit_on_no_number_of_devices(tmp_path):
    config = config_with()
    config.run.accumulate = 3
    with pytest.raises(UserError, match=r"run\.accumulate=3 does not divide"):
        write_plan(config, tmp_path / "plan")
    assert not (tmp_path / "plan").exists()


def test_the_plans_picture_shows_every_phase_of_the_schedule():
    schedule = schedule_from_config(config_with())
    batch, frames, size, rate = plan_figure(schedule, "kinetics").axes
    for axes, name in ((batch, "batch"), (frames, "frames"), (size, "size")):
        expected = set()
        for phase in schedule.phases:
            for value in {getattr(grid, name) for grid in phase.grids}:
                expected.add((phase.start, phase.end, value))
        boxes = [(b.get_x(), b.get_x() + b.get_width(), b.get_height()) for b in axes.patches]
        assert set(boxes) == expected
        assert len(boxes) == len(expected)
        # In each phase the boxes lie in one another, the smallest in front.
        order = {box: number for number, box in enumerate(boxes)}
        assert all(order[a] < order[b] for a in boxes for b in boxes if a[:2] == b[:2] and a > b)
    (line,) = rate.lines
    for step, value in zip(*line.get_data(), strict=True):
        assert value == schedule.learning_rate(int(step))


def test_the_plans_boxes_are_the_paler_the_coarser():
    schedule = schedule_from_config(config_with())
    batch, _, size, _ = plan_figure(schedule, "kinetics").axes
    phase = schedule.phases[-1]
    for axes, name in ((batch, "batch"), (size, "size")):
        of_phase = [b for b in axes.patches if b.get_x() == phase.start]
        paleness = {b.get_height(): sum(b.get_facecolor()[:3]) for b in of_phase}
        finest_first = [getattr(grid, name) for grid in reversed(phase.grids)]
        assert sorted(finest_first, key=paleness.get) == finest_first
        assert len(set(paleness.values())) == 3


def test_rates_that_follow_the_short_cycle_are_three_lines():
    schedule = schedule_from_config(config_with(**{"multigrid.short_cycle_rate": True}))
    lines = plan_figure(schedule, "kinetics").axes[-1].lines
    assert len(lines) == 3
    for place, line in enumerate(lines):
        steps = line.get_xdata()
        assert set(steps % 3) == {place}
        assert list(line.get_ydata()) == [schedule.learning_rate(int(step)) for step in steps]


def test_i3d_plan_has_the_papers_iterations():
    schedule = schedule_from_config(config_with(kinetics_i3d))
    assert schedule.iterations == 30_638


def test_another_batch_scales_rate_and_iterations():
    recipe = recipe_from_config(config_with(batch=64))
    assert recipe.learning_rate == pytest.approx(0.1)
    assert recipe.boundaries == (352_000, 576_000, 736_000)
    assert recipe.iterations == 896_000
    assert recipe.warmup_iterations == 128_000
    assert recipe.warmup_learning_rate == pytest.approx(0.00025)


@pytest.mark.parametrize(
    ("changes", "iterations"),
    [
        ({}, 112_000),
        ({"baseline.epoch_factor": 1 / 3.4}, 32_941),
        ({"baseline.time_divisor": 4}, 28_000),
        ({"baseline.area_divisor": 2}, 56_000),
        ({"baseline.time_divisor": 4, "baseline.area_divisor": 4}, 7_000),
        ({"schedule.cosine": True}, 112_000),
    ],
)
def test_baseline_variants_are_flags(changes, iterations):
    schedule = schedule_from_config(config_with(variant="baseline", **changes))
    assert schedule.iterations == iterations


@pytest.mark.parametrize(
    ("changes", "iterations"),
    [
        ({"multigrid.long_cycle": False}, 72_000),
        ({"multigrid.short_cycle": False}, 51_551),
        ({"multigrid.single_cycle": True}, 29_217),
        ({"multigrid.fine_tuning": False}, 29_217),
        ({"multigrid.epoch_factor": 1.0}, 21_790),
    ],
)
def test_multigrid_variants_are_flags(changes, iterations):
    assert schedule_from_config(config_with(**changes)).iterations == iterations


def test_the_table_shows_the_rates_of_warmup_and_cosine():
    config = config_with(**{"schedule.cosine": True, "multigrid.single_cycle": True})
    schedule = schedule_from_config(config)
    table = format_plan(schedule, 112_000, "multigrid")
    assert "0.002 to" in table
    assert plan_dict(schedule, 112_000)["phases"][-1]["lr_multiplier"] == 1


def test_the_table_shows_the_rate_of_each_grid_where_it_follows_the_short_cycle():
    schedule = schedule_from_config(config_with(**{"multigrid.short_cycle_rate": True}))
    *_, coarse, middle, fine = format_plan(schedule, 112_000, "multigrid").splitlines()[:-3]
    assert coarse.split()[-4:] == ["32", "0.0032", "3,487,232", "4.1%"]
    assert middle.split()[-2:] == ["16", "0.0016"]
    assert fine.split()[-2:] == ["8", "0.0008"]


def test_variants_of_a_recipe_are_multigrid_and_baseline():
    assert demo.get_config("multigrid").multigrid.long_cycle
    assert not demo.get_config("baseline").multigrid.short_cycle
    with pytest.raises(UserError, match="config variant 'coarse' is not known"):
        base.as_variant(base.get_base(), "coarse")


def test_the_short_cycle_has_all_its_areas_by_default():
    config = kinetics_slowfast.get_config()
    shapes = len(SHORT_CYCLE_AREAS) + 1
    assert config.multigrid.short_shapes == Multigrid().short_shapes == shapes
    config.multigrid.short_shapes = shapes + 1
    with pytest.raises(UserError, match=rf"short_shapes={shapes + 1}"):
        schedule_from_config(config)


def run_main(*arguments):
    return subprocess.run(
        [sys.executable, "main.py", *arguments], cwd=ROOT, capture_output=True, text=True
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config.bach=3"], "error: no such setting in the config: 'bach'. Did you mean"),
        (["--config.model.dept=3"], 'Did you mean "depth"'),
        (["--config.batch=many"], "error: flag --config.batch=many must be a whole number"),
        (["--config.multigrid.shapes=((4,2)"], "shapes=((4,2) has 2 '(' and 1 ')'"),
        (
            ["--config.frames=12"],
            "error: frames=12 does not fit: the coarsest grid has 1/4 of them",
        ),
        (["--config.model.depth=18"], "error: model.depth=18 does not exist"),
        (["--config.schedule.steps=(1,a)"], "must be iterations, whole numbers"),
        (["--config=configs/nope.py"], "configs/nope.py is not there; recipes are configs/*.py"),
        (["--config=configs/kinetics_slowfst.py"], "Did you mean 'configs/kinetics_slowfast.py'?"),
        (["--config.data.name=kinetic/400"], "no builder in data/; there are kinetics, "),
        (["--config=configs/demo.py:coarse"], "config variant 'coarse' is not known; use"),
        (["--config=configs/demo.py:basline"], "Did you mean 'baseline'? Else use multigrid"),
        (["--mode=pln"], "export>. Did you mean 'plan'?"),
        (["--confg.seed=1"], "unknown flag --confg.seed. Did you mean --config.seed?\n"),
        (["--model.depth=50"], "--model.depth. Did you mean --config.model.depth?\n"),
        (["--seed=1"], "unknown flag --seed. Did you mean --config.seed?\n"),
        (["--noconfg.data.flip"], "unknown flag --noconfg.data.flip\n"),
        (["--wrkdir=here"], "unknown flag --wrkdir. Did you mean --workdir?\n"),
        (["--run=here"], "unknown flag --run. Did you mean --runs?\n"),
        (["plan"], "unexpected arguments ['plan']; write --mode=plan"),
        (["--mode=prepare"], "error: --mode=prepare takes no --workdir; it writes"),
    ],
)
def test_the_command_line_ends_with_a_message_not_a_traceback(tmp_path, arguments, message):
    config = ["--config=configs/kinetics_slowfast.py", f"--workdir={tmp_path}/run", "--mode=plan"]
    done = run_main(*config, *arguments)
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "run").exists()


def test_a_setting_without_a_recipe_asks_for_one():
    done = run_main("--mode=report", "--config.seed=1")
    assert done.returncode == 1
    assert "unknown flag --config.seed; settings go with --config=FILE" in done.stderr


def test_plan_needs_neither_jax_nor_tensorflow(tmp_path):
    code = (
        "import sys\n"
        "for name in ('jax', 'flax', 'tensorflow', 'tensorflow_datasets'):\n"
        "    sys.modules[name] = None\n"
        "import configs.kinetics_slowfast as recipe, pathlib\n"
        "from mg_jax.tools.plan import write_plan\n"
        f"print(write_plan(recipe.get_config(), pathlib.Path({str(tmp_path)!r})))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert "32,686 iterations" in done.stdout, done.stderr


def test_model_schedule_and_step_import_where_there_is_no_tensorflow():
    code = (
        "import sys\n"
        "for name in ('tensorflow', 'tensorflow_datasets', 'ml_collections', 'array_record'):\n"
        "    sys.modules[name] = None\n"
        "import mg_jax.schedule, mg_jax.models, mg_jax.input.sampling, mg_jax.training.programs\n"
        "print('imported')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "imported\n", done.stderr
