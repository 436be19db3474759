import pytest

from configs import charades_slowfast, demo, kinetics_slowfast
from mg_jax.errors import UserError
from mg_jax.recipe import schedule_from_config
from mg_jax.training_settings import changes_pixels, check_parts
from tests import runs


@pytest.mark.parametrize(
    ("setting", "value", "words"),
    [
        ("optimizer.name", "adam", ["'adam'", "sgd", "adamw"]),
        ("optimizer.betas", (0.9, 1.0), ["(0.9, 1.0)", "(0.9, 0.999)"]),
        ("optimizer.betas", ("a", "b"), ["('a', 'b')", "(0.9, 0.999)"]),
        ("optimizer.momentum", 5.0, ["5.0", "below 1"]),
        ("optimizer.weight_decay", -0.1, ["-0.1"]),
        ("optimizer.weight_decay", float("nan"), ["nan"]),
        ("optimizer.layer_decay", 0.0, ["0.0", "above 0"]),
        ("optimizer.freeze", "res6", ["'res6'", "stem, res2"]),
        ("optimizer.clip_norm", -1.0, ["-1.0"]),
        ("optimizer.average", 1.0, ["1.0", "below 1"]),
        ("model.drop_path", 1.0, ["1.0", "below 1"]),
        ("loss.label_smoothing", -0.1, ["-0.1"]),
        ("data.class_exponent", 2.0, ["2.0", "0 ... 1"]),
        ("augment.rand_layers", -1, ["-1"]),
        ("augment.rand_magnitude", 30.0, ["30.0", "0 ... 10"]),
        ("augment.hue", 0.6, ["0.6", "0 ... 0.5"]),
        ("augment.erase", 1.5, ["1.5", "0 ... 1"]),
        ("augment.cutmix", -1.0, ["-1.0"]),
        ("augment.coarse", 1.5, ["1.5", "0 ... 1"]),
        ("run.accumulate", 0, ["0", "at least 1"]),
    ],
)
def test_a_setting_out_of_range_is_refused_by_name(setting, value, words):
    config = runs.config_of(kinetics_slowfast, **{setting: value})
    with pytest.raises(UserError) as error:
        schedule_from_config(config)
    assert all(word in str(error.value) for word in [setting, *words])


def test_a_stage_that_a_small_network_lacks_cannot_be_frozen():
    schedule_from_config(runs.config_of(demo, **{"optimizer.freeze": "res3"}))
    with pytest.raises(UserError, match=r"freeze='res4' is not a stage.*use stem, res2, res3, or"):
        schedule_from_config(runs.config_of(demo, **{"optimizer.freeze": "res4"}))


def test_clips_with_several_labels_are_not_mixed():
    config = runs.config_of(charades_slowfast, **{"augment.mixup": 0.8})
    with pytest.raises(UserError, match=r"augment\.mixup=0\.8.*data\.multi_label"):
        schedule_from_config(config)


def test_pairs_that_swap_need_mirrored_clips():
    config = runs.config_of(
        kinetics_slowfast, **{"data.flip": False, "data.flip_pairs": "pairs.csv"}
    )
    with pytest.raises(UserError, match=r"data\.flip_pairs='pairs\.csv'.*data\.flip=True"):
        schedule_from_config(config)


def parts_checked(devices, **changes):
    config = runs.config_of(kinetics_slowfast, batch=64, **changes)
    check_parts(config, schedule_from_config(config), devices)


def test_a_batch_divides_into_parts_of_whole_sub_batches():
    for devices, parts in ((1, 1), (1, 2), (1, 8), (2, 4), (8, 1), (64, 1)):
        parts_checked(devices, **{"run.accumulate": parts})
    # The short cycle's sub-batches grow with its batches, so the base grid decides.
    for devices, parts, valid in ((1, 3, "1 or 2 or 4 or 8"), (2, 8, "1 or 2 or 4"), (64, 2, "1")):
        with pytest.raises(UserError) as error:
            parts_checked(devices, **{"run.accumulate": parts})
        assert f"run.accumulate={parts} " in str(error.value)
        assert str(error.value).endswith(f"use {valid}")


def test_a_grid_that_alone_does_not_divide_is_named_with_what_all_do():
    """Coarse grids have 16 times the clips, and only the base grid too few."""
    with pytest.raises(UserError) as error:
        parts_checked(2, **{"run.accumulate": 8})
    said = str(error.value)
    assert "the 32 clips that each of 2 devices has of grid 64 x 32 x 224^2 " in said
    assert said.endswith("for all grids of the schedule use 1 or 2 or 4")


def test_parts_of_one_clip_cannot_be_mixed_where_fewer_parts_can():
    changes = {"sub_batch": 1, "augment.mixup": 1.0, "multigrid.long_cycle": False}
    parts_checked(8, **changes, **{"run.accumulate": 4})
    with pytest.raises(UserError, match=r"accumulate=8 .*augment\.mixup.* use 1 or 2 or 4$"):
        parts_checked(8, **changes, **{"run.accumulate": 8})


def test_an_odd_number_of_clips_to_mix_is_named_with_its_grid_whatever_the_parts():
    changes = {"sub_batch": 1, "augment.mixup": 1.0, "run.accumulate": 3}
    with pytest.raises(UserError, match=r"the 1 clips that each of 64 devices has of grid 64 x"):
        parts_checked(64, **changes)


def test_clips_are_mixed_where_each_device_has_an_even_number():
    parts_checked(32, **{"augment.cutmix": 1.0})
    with pytest.raises(UserError, match=r"augment\.mixup and augment\.cutmix .* 64 devices"):
        parts_checked(64, **{"augment.cutmix": 1.0, "multigrid.long_cycle": False})
    parts_checked(64, **{"augment.cutmix": 1.0, "augment.mix": 0.0})


def test_by_default_nothing_changes_pixels():
    assert not changes_pixels(kinetics_slowfast.get_config().augment)
