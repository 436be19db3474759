"""Published networks by name in the place of a recipe's."""

import importlib

import pytest

from configs.base import as_variant, get_base
from mg_jax.errors import UserError
from mg_jax.published import PUBLISHED, differences
from mg_jax.recipe import schedule_from_config


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_name_sets_up_a_network_that_multigrid_can_train(name):
    config = as_variant(get_base(), name)
    assert differences(config, name) == {}
    slow = config.frames // (config.model.alpha if config.model.name == "slowfast" else 1)
    stride = config.data.stride * config.frames // slow
    assert f"{slow}x{stride}" in name
    assert schedule_from_config(config).iterations < 112_000


@pytest.mark.parametrize("recipe", ["kinetics_slowfast_16f", "kinetics_i3d_nl", "demo"])
def test_it_replaces_all_of_a_recipes_network(recipe):
    get_config = importlib.import_module(f"configs.{recipe}").get_config
    plain, config = get_config(), get_config("baseline,slowfast_8x8_r50")
    assert differences(config, "slowfast_8x8_r50") == {}
    assert (config.frames, config.data.stride) == (32, 2)
    assert not config.multigrid.long_cycle
    assert config.model.num_classes == plain.model.num_classes
    assert config.schedule == plain.schedule


def test_another_word_behind_the_colon_is_refused_with_those_that_exist():
    message = r"'slowfast' is not known. Did you mean 'slowfast_4x16.* baseline.* slow_8x8_r50"
    with pytest.raises(UserError, match=message):
        as_variant(get_base(), "baseline,slowfast")
