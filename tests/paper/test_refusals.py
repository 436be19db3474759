"""What a plan accepts, and what its refusals recommend, the network takes."""

import re

import jax
import jax.numpy as jnp
import pytest

from configs import base, kinetics_slowfast, study
from mg_jax.architectures import smallest_side
from mg_jax.errors import UserError
from mg_jax.grid import FULL
from mg_jax.models import create_model
from mg_jax.recipe import as_baseline, schedule_from_config, schedules_of
from mg_jax.workdir.config import stored_config
from tests.runs import config_of


def refusal(config):
    with pytest.raises(UserError) as refused:
        schedule_from_config(config)
    return str(refused.value)


def has_features(model, frames, side):
    """Whether a small network of these settings traces on a clip and no array in it is empty."""
    model = model.copy_and_resolve_references()
    model.update(depth=14, width=8, beta=1 / 2)
    model.non_local.positions = tuple((0,) if stage else () for stage in model.non_local.positions)
    network = create_model(model, train=False)
    clips = jax.ShapeDtypeStruct((1, frames, side, side, 3), jnp.float32)
    try:
        traced = jax.eval_shape(
            lambda x: network.init_with_output(jax.random.key(0), x, capture_intermediates=True),
            clips,
        )
    except (TypeError, ValueError, ZeroDivisionError):
        return False
    return all(array.size for array in jax.tree.leaves(traced))


COARSE_ONLY = {"multigrid.shapes": ((3, 2), (3, 1)), "multigrid.fine_tuning": False}
WRONG_FRAMES = [
    (kinetics_slowfast, "baseline", {"baseline.time_divisor": 3}),
    (kinetics_slowfast, "baseline", {"baseline.time_divisor": 3, "frames": 25}),
    (study, "baseline", {"baseline.time_divisor": 3, "frames": 7}),
    (kinetics_slowfast, "", {**COARSE_ONLY, "frames": 25}),
    (kinetics_slowfast, "", {"frames": 36}),
]


@pytest.mark.parametrize(("recipe", "variant", "changes"), WRONG_FRAMES, ids=str)
def test_advised_frames_fit_training_and_evaluation(recipe, variant, changes):
    config = config_of(recipe, variant, **changes)
    advised = re.search(r"use (\d+)(?: or (\d+))?", refusal(config)).groups()
    for frames in map(int, filter(None, advised)):
        config.frames = frames
        base_grid = schedule_from_config(config).recipe.base
        taken = {grid.frames for grid in schedule_from_config(config).grids_from(0)}
        for t in {*taken, base_grid.frames_at(FULL)}:
            assert has_features(config.model, t, 32), (frames, t)


NETWORKS = ("mmaction_c2d_8x8_r50", "i3d_nln_8x8_r50", "slowfast_8x8_r50")


@pytest.mark.parametrize("padded", [True, False], ids=["padded", "unpadded"])
@pytest.mark.parametrize("name", NETWORKS)
def test_the_smallest_side_is_the_least_that_leaves_features(name, padded):
    model = base.as_variant(base.get_base(), name).model
    model.pad_stem_pool = padded
    found = [side for side in range(1, 9) if has_features(model, 8, side)]
    assert found == list(range(smallest_side(model), 9))


def c2d(**changes):
    config = config_of(kinetics_slowfast, "mmaction_c2d_8x8_r50", **changes)
    config.multigrid.shapes = changes.get("multigrid.shapes", ((1, 2), (1, 1)))
    return config


def test_an_area_divisor_that_leaves_no_features_names_the_largest_that_does():
    config = c2d(**{"multigrid.shapes": ((1, 4000), (1, 1))})
    message = refusal(config)
    assert "the shape (1, 4000) leaves 4 of size=224 pixels" in message
    assert "clips of at least 5 x 5 pixels" in message
    largest = float(re.search(r"at most ([\d.]+)$", message)[1])
    config.multigrid.shapes = ((1, largest), (1, 1))
    assert min(grid.size for grid in schedule_from_config(config).grids_from(0)) == 5


def test_the_short_cycle_and_evaluation_need_features_as_well():
    message = "leaves 4 of size=9 pixels, and the network takes clips of at least 5 x 5 pixels"
    assert message in refusal(c2d(size=9))
    assert schedule_from_config(c2d(size=10))
    assert schedule_from_config(c2d(size=9, **{"multigrid.short_cycle": False}))
    assert "size=4 is too small" in refusal(c2d(size=4))
    assert "eval.size=4 is too small" in refusal(c2d(**{"eval.size": 4}))
    assert schedule_from_config(c2d(**{"eval.size": 5}))


CYCLES = {
    "iterations": 100,
    "epoch_factor": 2.0,
    "shapes": ((2, 1), (1, 1)),
    "short_shapes": 2,
    "single_cycle": True,
    "fine_tuning": False,
    "fine_tuning_share": 0.5,
    "short_cycle_rate": True,
}


@pytest.mark.parametrize("name", CYCLES)
def test_the_baseline_takes_no_settings_of_the_cycles(name):
    given = {f"multigrid.{name}": CYCLES[name]}
    message = refusal(config_of(kinetics_slowfast, "baseline", **given))
    assert f"multigrid.{name}={CYCLES[name]} is multigrid's; with both cycles off" in message


def test_a_recipes_own_cycles_do_not_keep_its_baseline_from_training():
    recipe = config_of(kinetics_slowfast, **{"multigrid.iterations": 9_000})
    assert schedules_of(recipe)["baseline"].iterations == 112_000
    assert schedule_from_config(base.as_variant(recipe, "baseline")).iterations == 112_000


def test_a_stored_baseline_with_settings_of_the_cycles_is_the_baseline(tmp_path):
    config = config_of(kinetics_slowfast, "baseline", **{"multigrid.iterations": 9_000})
    (tmp_path / "config.json").write_text(config.to_json())
    stored = stored_config(tmp_path / "config.json")
    assert stored.multigrid == as_baseline(config).multigrid
    assert schedule_from_config(stored).iterations == 112_000


@pytest.mark.parametrize(
    ("recipe", "variant", "changes"),
    [
        (kinetics_slowfast, "", {"multigrid.iterations": 200}),
        (kinetics_slowfast, "", {"batch": 64, "schedule.warmup_iterations": 200_000}),
        (kinetics_slowfast, "baseline", {"baseline.iterations": 15_000}),
        (study, "", {"multigrid.iterations": 40}),
    ],
    ids=str,
)
def test_a_warmup_longer_than_the_run_names_what_fits(recipe, variant, changes):
    config = config_of(recipe, variant, **changes)
    message = refusal(config)
    section = variant or "multigrid"
    longest = int(re.search(r"at most schedule\.warmup_iterations=(\d+)", message)[1])
    least = int(re.search(rf"{section}\.iterations=(\d+) or more$", message)[1])
    shorter = config.copy_and_resolve_references()
    shorter.schedule.warmup_iterations = longest
    assert schedule_from_config(shorter)
    shorter.schedule.warmup_iterations = longest + 1
    assert "the warm-up of" in refusal(shorter)
    for iterations in range(least, least + 60):
        config[section].iterations = iterations
        assert schedule_from_config(config).iterations == iterations
    config[section].iterations = least - 1
    assert "the warm-up of" in refusal(config)


def test_a_warmup_too_long_for_the_baseline_beside_multigrid_is_told_of_that():
    """Multigrid has 1.5 times its clips."""
    config = config_of(kinetics_slowfast, **{"schedule.warmup_iterations": 120_000})
    assert schedule_from_config(config)
    with pytest.raises(UserError, match="the baseline that multigrid is compared with") as error:
        schedules_of(config)
    config.schedule.warmup_iterations = int(
        re.search(r"use at most schedule\.warmup_iterations=(\d+)$", str(error.value))[1]
    )
    assert schedules_of(config)


def test_iterations_advised_for_the_stages_hold_the_warmup():
    config = config_of(kinetics_slowfast, **{"multigrid.iterations": 2})
    # Of the run, not of those that are tried for the advice.
    config.run.profile_steps = (2, 4)
    message = refusal(config)
    config.multigrid.iterations = int(re.search(r"use at least (\d+) for the stages", message)[1])
    assert schedule_from_config(config)
