"""Every recipe loads, schedules, says what to type, and states the paper's numbers."""

import importlib
import pathlib
import shlex

import pytest
from absl import flags
from ml_collections import config_flags

from configs import (
    charades_slowfast,
    kinetics_i3d_one_gpu,
    kinetics_slowfast,
    kinetics_slowfast_16f,
    kinetics_slowfast_64f,
    kinetics_slowfast_320,
    kinetics_slowfast_r101,
    ssv2_slowfast,
)
from configs.base import get_base
from mg_jax.recipe import recipe_from_config, schedule_from_config

ROOT = pathlib.Path(__file__).parents[2]
SHARED = ("__init__", "base")
NAMES = sorted(path.stem for path in ROOT.glob("configs/*.py") if path.stem not in SHARED)
RECIPES = {name: importlib.import_module(f"configs.{name}") for name in NAMES}


def commands(name):
    """The command lines of a recipe's docstring."""
    lines = RECIPES[name].__doc__.replace("\\\n", " ").splitlines()
    return [shlex.split(line) for line in lines if line.startswith("    python main.py ")]


def config_of(arguments):
    """The config that main.py would make of a command line."""
    values = flags.FlagValues()
    flags.DEFINE_string("workdir", None, "", flag_values=values)
    flags.DEFINE_string("mode", "train", "", flag_values=values)
    config = config_flags.DEFINE_config_file(
        "config", None, "", flag_values=values, sys_argv=arguments
    )
    values(arguments)
    return config.value


@pytest.mark.parametrize("variant", ["multigrid", "baseline"])
@pytest.mark.parametrize("name", NAMES)
def test_every_recipe_has_a_schedule(name, variant):
    config = RECIPES[name].get_config(variant)
    schedule = schedule_from_config(config)
    assert config.multigrid.long_cycle == config.multigrid.short_cycle == (variant == "multigrid")
    assert schedule.phases[0].grids[-1].batch == config.batch * (8 if variant == "multigrid" else 1)


@pytest.mark.parametrize("name", NAMES)
def test_multigrid_is_what_a_recipe_is_without_a_variant(name):
    recipe = RECIPES[name]
    assert recipe.get_config() == recipe.get_config("multigrid") != recipe.get_config("baseline")


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_sets_only_what_the_base_has(name):
    def types(config):
        return {key: type(value) for key, value in config.items() if not hasattr(value, "items")}

    base, config = get_base(), RECIPES[name].get_config()
    assert types(config) == types(base)
    assert config.keys() == base.keys()
    for section in (key for key, value in base.items() if hasattr(value, "items")):
        assert types(config[section]) == types(base[section])
        assert config[section].keys() == base[section].keys()


# ml_collections loads files as Python 3.11 still allows.
@pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")
@pytest.mark.parametrize("name", NAMES)
def test_the_docstring_has_the_commands_and_they_work(name, monkeypatch):
    monkeypatch.chdir(ROOT)
    own = f"--config=configs/{name}.py"
    arguments = [command[1:] for command in commands(name)]
    assert any(own in command for command in arguments)
    for command in arguments:
        assert command[1].removesuffix(":baseline").removesuffix(":multigrid") == own
        schedule_from_config(config_of(command))


# The demo's are in the README, with times that were measured.
@pytest.mark.parametrize("name", sorted({*NAMES} - {"demo"}))
def test_the_docstring_has_the_schedules_iterations(name):
    recipe = RECIPES[name]
    assert f"{schedule_from_config(recipe.get_config()).iterations:,}" in recipe.__doc__


def test_the_readme_has_the_demos_iterations():
    recipe = RECIPES["demo"]
    schedules = [schedule_from_config(recipe.get_config(v)) for v in ("baseline", "multigrid")]
    baseline, multigrid = (schedule.iterations for schedule in schedules)
    row = f"| {baseline:,} | {multigrid:,} | {baseline / multigrid:.2f}× |\n"
    assert row in (ROOT / "README.md").read_text()


@pytest.mark.parametrize(
    ("name", "factor", "iterations", "reduction"),
    [
        ("kinetics_slowfast", 1.5, 32_686, 3.43),
        ("kinetics_i3d", 1.5, 30_638, 3.26),
        ("kinetics_i3d_nl", 1.5, 30_638, 3.26),
        ("ssv2_slowfast", 1.0, None, 5.16),
        ("ssv2_slowfast", 1.5, 66_915, 3.44),
        ("ssv2_slowfast", 2.0, None, 2.58),
        ("charades_slowfast", 1.0, None, 5.26),
        ("charades_slowfast", 1.5, 7_982, 3.51),
        ("charades_slowfast", 2.0, None, 2.63),
    ],
)
def test_recipes_take_the_papers_iterations(name, factor, iterations, reduction):
    config = RECIPES[name].get_config()
    config.multigrid.epoch_factor = factor
    schedule = schedule_from_config(config)
    baseline = schedule_from_config(RECIPES[name].get_config("baseline"))
    assert iterations in (None, schedule.iterations)
    assert round(baseline.iterations / schedule.iterations, 2) == reduction


@pytest.mark.parametrize(
    ("recipe", "frames", "size", "coarsest"),
    [
        (kinetics_slowfast_r101, 32, 224, (8, 112)),
        (kinetics_slowfast_16f, 16, 224, (4, 112)),
        (kinetics_slowfast_64f, 64, 224, (16, 112)),
        (kinetics_slowfast_320, 32, 320, (8, 160)),
    ],
)
def test_kinetics_recipes_of_other_sizes_keep_the_schedule(recipe, frames, size, coarsest):
    ours = schedule_from_config(recipe.get_config())
    r50 = schedule_from_config(kinetics_slowfast.get_config())
    assert (ours.recipe.base.frames, ours.recipe.base.size) == (frames, size)
    first = ours.grid(0)
    assert (first.frames, first.size) == coarsest
    for step in (0, 1, 1_000, 20_000, 32_685):
        assert ours.learning_rate(step) == r50.learning_rate(step)
        assert ours.grid(step).batch == r50.grid(step).batch
    assert ours.iterations == r50.iterations


def test_sixteen_frames_leave_the_slow_pathways_frames_as_they_are():
    def slow(config):
        alpha = config.model.alpha
        return config.frames // alpha, config.data.stride * alpha

    assert (
        slow(kinetics_slowfast_16f.get_config()) == slow(kinetics_slowfast.get_config()) == (8, 8)
    )


def test_larger_crops_see_as_much_of_the_picture():
    large, usual = kinetics_slowfast_320.get_config(), kinetics_slowfast.get_config()
    for ours, theirs in zip(large.data.short_sides, usual.data.short_sides, strict=True):
        assert ours / large.size == pytest.approx(theirs / usual.size, rel=2e-3)
    assert large.eval.size / large.eval.short_side == pytest.approx(224 / 256, rel=2e-3)
    assert large.prepare.short_side == large.data.short_sides[0]
    assert large.data.dir != usual.data.dir


def test_one_gpu_has_the_papers_numbers():
    config = kinetics_i3d_one_gpu.get_config("baseline")
    recipe = recipe_from_config(config)
    assert recipe.learning_rate == 0.00125
    assert recipe.boundaries == (600_000, 1_000_000)
    assert recipe.iterations == 1_200_000
    assert recipe.warmup_iterations == 0
    base = recipe.base
    assert (base.batch, base.frames, base.size, base.stride) == (8, 8, 224, 8)
    assert base.short_sides == (256, 256)
    assert (config.model.name, config.model.dropout) == ("i3d", 0)


def test_ssv2_never_flips_and_samples_segments():
    config = ssv2_slowfast.get_config()
    assert not config.data.flip
    assert config.data.sampling == "segments"
    assert config.data.inverse_uniform
    assert config.model.num_classes == 174
    assert config.optimizer.weight_decay == 1e-6
    recipe = recipe_from_config(config)
    assert recipe.learning_rate == 0.03
    assert (recipe.warmup_iterations, recipe.warmup_learning_rate) == (2_000, 1e-4)
    # A clip of segments is the whole video: there is no second one.
    assert (config.eval.clips, config.eval.crops) == (1, 1)


def test_charades_is_multi_label():
    config = charades_slowfast.get_config()
    assert config.data.multi_label
    assert config.data.inverse_uniform
    assert (config.data.train_split, config.data.eval_split) == ("train", "test")
    assert config.model.num_classes == 157
    assert recipe_from_config(config).learning_rate == 0.0375
    assert (config.eval.clips, config.eval.crops) == (10, 3)


def test_only_charades_is_multi_label_and_only_ssv2_has_segments():
    configs = {name: recipe.get_config() for name, recipe in RECIPES.items()}
    multi_label = [name for name, config in configs.items() if config.data.multi_label]
    segments = [name for name, config in configs.items() if config.data.sampling != "stride"]
    assert (multi_label, segments) == (["charades_slowfast"], ["ssv2_slowfast"])
