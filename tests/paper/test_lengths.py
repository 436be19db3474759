"""Lengths that fit the number of videos: one flag scales them, plans and runs say epochs."""

import ast
import json
import re

import pytest

from configs import charades_slowfast, demo, kinetics_slowfast, ssv2_slowfast, video_folder
from mg_jax.errors import UserError
from mg_jax.lengths import describe_epochs
from mg_jax.recipe import least_scale, recipe_from_config, schedule_from_config
from mg_jax.schedule import TooShort
from mg_jax.tools.plan import write_plan
from tests import runs
from tests.runs import config_of


def test_one_flag_scales_iterations_steps_and_warm_up_and_not_the_rate():
    recipe = recipe_from_config(config_of(video_folder, **{"schedule.scale": 0.032}))
    assert recipe.iterations == 192  # of 6,000
    assert recipe.boundaries == (128, 160)  # of 4,000 and 5,000
    assert recipe.warmup_iterations == 16  # of 500
    assert recipe.learning_rate == 0.01
    # With half the batch twice the iterations, as always.
    halved = config_of(video_folder, **{"schedule.scale": 0.032, "batch": 8})
    assert recipe_from_config(halved).boundaries == (256, 320)


@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan"), float("inf")])
def test_scales_that_are_none_are_refused(scale):
    with pytest.raises(UserError, match=r"schedule.scale=.* must be positive"):
        schedule_from_config(config_of(video_folder, **{"schedule.scale": scale}))


@pytest.mark.parametrize("variant", ["multigrid", "baseline"])
@pytest.mark.parametrize("recipe", [video_folder, kinetics_slowfast, demo])
def test_too_small_a_scale_names_the_smallest_that_does(recipe, variant):
    config = config_of(recipe, variant, **{"schedule.scale": 1e-7})
    with pytest.raises(TooShort, match=r"schedule\.scale=1e-07 of schedule\.iterations=") as error:
        schedule_from_config(config)
    least = float(re.search(r"--config\.schedule\.scale=(\S+) is", str(error.value))[1])
    assert least == least_scale(config)
    config.schedule.scale = least
    schedule = schedule_from_config(config)
    stages = len(config.schedule.steps) + 1
    assert {phase.stage for phase in schedule.phases} == set(range(stages))
    digits, exponent = f"{least:.1e}".split("e")
    config.schedule.scale = float(f"{float(digits) - 0.1:.1f}e{exponent}")
    with pytest.raises(TooShort, match=f"={least:g} is the next valid"):
        schedule_from_config(config)


@pytest.mark.parametrize(
    ("recipe", "videos", "epochs"),
    # Paper and PySlowFast: 239 epochs of Kinetics, 57 of Charades; 22 of Something-Something V2.
    [
        (kinetics_slowfast, 240_000, "239"),
        (charades_slowfast, 7_985, "56.1"),
        (ssv2_slowfast, 168_913, "21.8"),
        (video_folder, 5_000, "19.2"),
        (demo, 1_024, "32.5"),
    ],
)
def test_recipes_state_how_many_videos_they_are_for(recipe, videos, epochs):
    config = recipe.get_config("baseline")
    assert config.schedule.videos == videos
    said = describe_epochs(config, schedule_from_config(config), videos)
    assert said == f"{epochs} epochs of {videos:,} videos"


def described(videos, **changes):
    config = config_of(video_folder, **changes)
    return describe_epochs(config, schedule_from_config(config), videos)


def test_few_videos_are_warned_of_with_the_flag_that_fits():
    said = described(160)
    # 144,192 clips of multigrid and 6,000 x 16 of the baseline, over 160 videos.
    assert said.startswith("901 epochs of 160 videos, the baseline 600\nwarning: that is 31.2 time")
    scale = float(re.search(r"--config\.schedule\.scale=(\S+) fits", said)[1])
    assert scale == 0.032
    # Which heeded does not warn of it; 19.2 epochs are the recipe's.
    epochs, *warnings = described(160, **{"schedule.scale": scale}).splitlines()
    assert epochs.endswith("160 videos, the baseline 19.2")
    assert not any("schedule.scale" in warning for warning in warnings)


def test_batches_of_more_clips_than_videos_are_warned_of_with_shapes_that_fit():
    # The largest of 16 clips on 8 times coarser shapes, which the short cycle makes 16 times.
    assert "warning" not in described(5_000, **{"schedule.videos": 5_000})
    assert "256 x 8 x 112^2" not in described(256, **{"schedule.videos": 256})
    said = described(255, **{"schedule.videos": 255}).splitlines()[-1]
    assert "a batch on 256 x 8 x 112^2 has more clips than there are videos, 255" in said
    shapes = ast.literal_eval(re.search(r"--config\.multigrid\.shapes=(\S+)\"", said)[1])
    assert shapes == ((2, 2), (2, 1), (1, 1))
    heeded = described(255, **{"schedule.videos": 255, "multigrid.shapes": shapes})
    assert "more clips" not in heeded
    short_cycle = {"schedule.videos": 60, "multigrid.long_cycle": False}
    assert "--config.batch=N makes batches smaller" in described(60, **short_cycle)
    assert "multigrid.shapes" not in described(60, **short_cycle)


def test_lengths_that_were_set_by_hand_are_kept_with_the_other_flag():
    # 10 epochs of 160 videos, in batches of 16.
    own = {
        "schedule.iterations": 100,
        "schedule.steps": (60, 80),
        "schedule.warmup_iterations": 10,
    }
    assert "lengths are meant, say --config.schedule.videos=160" in described(160, **own)
    said = described(160, **own, **{"schedule.videos": 160})
    assert said.splitlines()[0].endswith("epochs of 160 videos, the baseline 10")
    assert "schedule.videos" not in said


def test_no_number_of_videos_is_advised_that_the_recipe_has_already():
    said = described(5_000, **{"schedule.scale": 0.05})
    assert "--config.schedule.scale=1 fits" in said
    assert "lengths are meant" not in said


def test_many_videos_are_warned_of_too_and_similar_numbers_are_not():
    assert "1/4 of the recipe's" in described(20_000)
    assert "--config.schedule.scale=4 fits" in described(20_000)
    assert "warning" not in described(2_600) + described(9_900)


def test_where_no_scale_fits_the_flag_is_the_smallest_and_then_no_more():
    least = least_scale(video_folder.get_config())
    assert f"--config.schedule.scale={least:g} fits" in described(3)
    assert "no smaller --config.schedule.scale" in described(3, **{"schedule.scale": least})


@pytest.mark.parametrize("videos", [*range(2, 40), 160, 231])
def test_whatever_the_number_of_videos_a_longer_fine_tuning_gets_a_scale_that_it_can_have(videos):
    longer = {"multigrid.fine_tuning_share": 1.5, "schedule.warmup_iterations": 0}
    scale = float(re.search(r"schedule\.scale=(\S+) fits", described(videos, **longer))[1])
    schedule_from_config(config_of(video_folder, **longer, **{"schedule.scale": scale}))


def test_a_fine_tuning_that_rounding_leaves_no_stage_before_it_is_told_a_longer_schedule():
    settings = {"multigrid.fine_tuning_share": 1.5, "schedule.warmup_iterations": 0}
    with pytest.raises(UserError, match=r"without iterations|leaves none") as refused:
        schedule_from_config(config_of(video_folder, **settings, **{"schedule.scale": 0.0005}))
    scale = float(re.search(r"schedule\.scale=(\S+) is the next", str(refused.value))[1])
    assert schedule_from_config(config_of(video_folder, **settings, **{"schedule.scale": scale}))


@pytest.mark.parametrize("iterations", [0, 4, 50])
@pytest.mark.parametrize("share", [1.2, 1.5, 1.95])
@pytest.mark.parametrize("scale", [0.0013, 0.01, 0.1])
def test_what_a_longer_fine_tuning_is_told_can_be_had(scale, share, iterations):
    settings = {"multigrid.fine_tuning_share": share, "multigrid.iterations": iterations}
    settings |= {"schedule.warmup_iterations": 0, "schedule.scale": scale}
    try:
        schedule_from_config(config_of(demo, **settings))
    except TooShort as refused:
        found = re.search(r"scale=(\S+) is the next|use at least (\d+)", str(refused))
        if found[1]:
            settings |= {"schedule.scale": float(found[1]), "multigrid.iterations": 0}
        else:
            settings["multigrid.iterations"] = int(found[2])
        schedule_from_config(config_of(demo, **settings))


def test_the_plan_says_epochs_for_a_number_of_videos(tmp_path):
    said = write_plan(video_folder.get_config(), tmp_path, 160)
    assert "901 epochs of 160 videos, the baseline 600" in said
    plan = json.loads((tmp_path / "plan.json").read_text())
    assert plan["videos"] == 160
    assert plan["epochs"] == 144_192 / 160
    assert plan["baseline_epochs"] == 600
    rows = [line for line in said.splitlines() if re.match(r"\s+\d+ +\d", line)]
    assert len(rows) == len(plan["phases"])
    assert sum(float(row.split()[-1]) for row in rows) == pytest.approx(144_192 / 160, rel=0.01)
    config = video_folder.get_config()
    config.data.dir = str(tmp_path / "none")
    assert "meant for 5,000 videos (19.2 epochs of the baseline)" in write_plan(config, tmp_path)
    assert "videos" not in json.loads((tmp_path / "plan.json").read_text())


def test_the_plan_counts_the_prepared_data_sets_videos(tmp_path, flags):
    arguments = [*flags, "--config.schedule.scale=0.05"]
    said = runs.run(tmp_path, *arguments, config="configs/demo.py", mode="plan")
    # 208 iterations of 8 clips over 48 videos, where the recipe has 4,160 over 1,024.
    assert "of 48 videos, the baseline 34.7\n" in said
    assert "the recipe's epochs" not in said
    assert "more clips than there are videos, 48;" in said
    said = runs.run(tmp_path, "--videos=3", config="configs/demo.py", mode="train", expect=1)
    assert "--videos=3 goes with --mode=plan" in said


def test_a_run_says_its_epochs_when_it_begins(undisturbed):
    schedule_clips = json.loads((undisturbed[0] / "summary.json").read_text())["clips"]
    said = re.search(r"training in .*: \d+ iterations, (\S+) epochs of 48 videos", undisturbed[1])
    assert float(said[1]) == pytest.approx(schedule_clips / 48, abs=0.05)
