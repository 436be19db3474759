"""What cannot work is refused before anything slow begins or anything is written."""

import pathlib

import pytest

from configs import demo
from mg_jax.errors import UserError
from mg_jax.tools.checks import check_preparation


@pytest.fixture
def recipe(tmp_path):
    config = demo.get_config()
    config.data.dir = str(tmp_path / "data")
    return config


def test_a_data_dir_that_cannot_be_made_is_named_with_the_reason(recipe, tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("nowhere")
    for folder, reason in [
        ("/proc/nowhere/data", "No such file or directory"),
        (tmp_path / "file" / "data", "Not a directory"),
        (tmp_path / "link", "links to nothing"),
    ]:
        recipe.data.dir = str(folder)
        with pytest.raises(UserError, match=rf"--config.data.dir={folder} cannot .*{reason}.*choo"):
            check_preparation(recipe)
    recipe.data.dir = str(tmp_path / "new" / "data")
    check_preparation(recipe)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("name", "source", "message"),
    [
        ("moving_shaeps", "", r"no builder in data/; there are .*Did you mean 'moving_shapes'"),
        ("ssv2", "", r"prepare.source is not set; --config.prepare.source=DIR"),
        ("ssv2", "nowhere", r"prepare.source=nowhere is no folder; set --config.prepare.source="),
    ],
)
def test_a_wrong_name_or_source_says_what_would_do(recipe, name, source, message):
    recipe.data.name, recipe.prepare.source = name, source
    with pytest.raises(UserError, match=message):
        check_preparation(recipe)
    assert not pathlib.Path(recipe.data.dir).exists()
