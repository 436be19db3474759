"""What cannot work is refused before anything slow begins or anything is written."""

import pathlib

import pytest

from configs import demo
from mg_jax.errors import UserError
from mg_jax.input.prepared import prepared_classes
from mg_jax.tools.checks import check_features, check_prediction, check_preparation, check_preview
from mg_jax.tools.plan import write_plan
from mg_jax.workdir.config import write_config


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
        ("ssv2", "configz", r"prepare.source=configz is no folder; .*Did you mean 'configs'"),
        ("ssv2", "", r"prepare.source is not set; --config.prepare.source=DIR"),
        ("ssv2", "nowhere", r"prepare.source=nowhere is no folder; set --config.prepare.source="),
    ],
)
def test_a_wrong_name_or_source_says_what_would_do(recipe, name, source, message):
    recipe.data.name, recipe.prepare.source = name, source
    with pytest.raises(UserError, match=message):
        check_preparation(recipe)
    assert not pathlib.Path(recipe.data.dir).exists()


def test_a_preview_needs_prepared_data(recipe, tmp_path):
    with pytest.raises(UserError, match=r"no prepared data set in .*prepare it with --mode=prepa"):
        check_preview(recipe, tmp_path / "run")
    recipe.data.name = "moving_shaeps"
    with pytest.raises(UserError, match=r"'moving_shaeps' has no builder .*'moving_shapes'"):
        check_preview(recipe, tmp_path / "run")


def test_a_prediction_needs_weights_a_video_and_an_output_of_a_known_kind(recipe, tmp_path):
    def refused(message, workdir=tmp_path, output=None, videos=(tmp_path,)):
        with pytest.raises(UserError, match=message):
            check_prediction(recipe, videos, workdir, output)

    refused(r"holds no checkpoint; train there first: main.py --config=CONFIG --workdir=")
    refused(r"none is not there; train there first", tmp_path / "none")
    (tmp_path / "gestures").mkdir()
    refused(r"gesturs is not there; .* Did you mean '.*/gestures'\?", tmp_path / "gesturs")
    refused(r"give a --workdir with checkpoints, or .*--config.init_from=FILE", None)
    refused(r"--video=.*a.mp4 is not there$", videos=[tmp_path / "a.mp4"])
    (tmp_path / "jump_1.mp4").touch()
    refused(r"is not there. Did you mean '.*/jump_1.mp4'\?", videos=[tmp_path / "jmp_1.mp4"])
    refused(r"must be a file that ends in .csv or .json", output=tmp_path / "a.txt")
    refused(r"there is no folder .*none", output=tmp_path / "none" / "a.csv")
    recipe.init_from = "nothing.safetensors"
    refused(r"--config.init_from=nothing.safetensors is not there; it names a work dire", None)
    recipe.init_from = str(tmp_path)
    refused(r"init_from=.* is not a work directory with a checkpoint; it names", None)
    (tmp_path / "run" / "checkpoints" / "5").mkdir(parents=True)
    recipe.init_from = str(tmp_path / "run" / "checkpoints" / "5")
    refused(r"Did you mean '.*/run'\?", None)
    (tmp_path / "weights.pyth").touch()
    recipe.init_from = str(tmp_path / "weigths.pyth")
    refused(r"is not there; .* Did you mean '.*/weights.pyth'\?", None)


def test_views_that_memory_cannot_hold_are_refused(recipe, tmp_path):
    recipe.eval.clips, recipe.init_from = 1_000_000_000, "nothing.safetensors"
    # 8 frames of 40^2 pixels with 3 bytes each.
    message = r"take 38,400,000 MB, eval.clips=1000000000 x .* memory, enough for eval.clips="
    with pytest.raises(UserError, match=message):
        check_prediction(recipe, [tmp_path], None, tmp_path / "a.csv")
    with pytest.raises(UserError, match=message):
        check_features(recipe, [tmp_path], None, tmp_path / "a.npz")


def test_features_need_an_output_of_a_known_kind(recipe, tmp_path):
    with pytest.raises(UserError, match=r"must be a file that ends in .npz or .safetensors"):
        check_features(recipe, None, tmp_path, tmp_path / "a.csv")


def test_a_number_of_classes_that_is_left_open_is_the_work_directorys(recipe, tmp_path):
    recipe.model.num_classes = 2
    write_config(tmp_path, recipe, ["left", "right"])
    (tmp_path / "checkpoints" / "7").mkdir(parents=True)
    recipe.model.num_classes = 0
    check_prediction(recipe, [tmp_path], tmp_path, tmp_path / "a.csv")
    check_features(recipe, [tmp_path], tmp_path, tmp_path / "a.npz")
    recipe.model.num_classes = 3
    with pytest.raises(UserError, match=r"model.num_classes is 2 there and 3 here"):
        check_prediction(recipe, [tmp_path], tmp_path, tmp_path / "a.csv")


def test_a_plan_refuses_other_classes_than_the_prepared_data_have(data_dir, tmp_path):
    config = demo.get_config()
    config.data.dir = str(data_dir)
    classes = len(prepared_classes(config))
    for count in (0, classes):
        config.model.num_classes = count
        write_plan(config, tmp_path / f"of_{count}")
    config.model.num_classes = classes + 1
    said = rf"num_classes={classes + 1}, but .* has {classes} classes; set .*num_classes={classes},"
    with pytest.raises(UserError, match=said):
        write_plan(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    config.data.dir = str(tmp_path)  # where none are prepared
    write_plan(config, tmp_path / "run")
