"""`model.num_classes=0` is the data set's number; no network has 0 classes."""

import json
import pathlib
import shutil

import pytest

from configs import video_folder
from mg_jax.errors import UserError
from mg_jax.input.datasets import open_source
from mg_jax.input.prepared import count_videos, with_classes
from mg_jax.models import create_model
from mg_jax.runtime.stops import Stops
from mg_jax.tools.complexity import format_complexity
from mg_jax.tools.convert import convert
from mg_jax.tools.plan_memory import write_memory_plan
from mg_jax.tools.predict import predict
from mg_jax.training.session import open_session


@pytest.fixture
def config(config):
    config.model.num_classes = 0
    return config


@pytest.fixture
def nowhere(config, tmp_path):
    """Where the data set is not prepared."""
    config.data.dir = str(tmp_path / "none")
    return config


def test_runs_and_data_sets_open_with_the_data_sets_classes(config, undisturbed):
    assert len(open_source(config).classes) == 4
    session, state = open_session(config, undisturbed[0], Stops(), trains=False)
    session.close()
    assert session.config.model.num_classes == 4
    assert config.model.num_classes == 0
    assert state.params["head"]["projection"]["bias"].shape == (4,)


def test_a_number_that_is_given_stays(config):
    config.model.num_classes = 7
    assert with_classes(config).model.num_classes == 7


def test_without_data_a_work_directory_tells_and_else_it_is_refused(nowhere, undisturbed, tmp_path):
    nowhere.init_from = str(undisturbed[0])
    assert with_classes(nowhere).model.num_classes == 4
    nowhere.init_from = ""
    (tmp_path / "w.pkl").touch()
    for use in (
        format_complexity,
        lambda config: write_memory_plan(config, tmp_path, None),
        lambda config: convert(config, tmp_path / "w.pkl", tmp_path / "new" / "o.safetensors"),
    ):
        with pytest.raises(UserError, match=r"--config\.model\.num_classes, or prepare it with"):
            use(nowhere)
    assert not (tmp_path / "new").exists()
    with pytest.raises(UserError, match="give a --workdir with checkpoints, or a file"):
        predict(nowhere, pathlib.Path("video.mp4"), None)
    with pytest.raises(UserError, match=r"model\.num_classes=0 must be at least 1"):
        create_model(nowhere.model, train=False)


def test_weights_come_with_their_classes(nowhere, undisturbed, data_dir, tmp_path):
    workdir = shutil.copytree(undisturbed[0], tmp_path / "run")
    video = next((data_dir / "downloads" / "moving_shapes" / "validation").iterdir())
    assert predict(nowhere, video, workdir).count("%") == 4
    said = convert(nowhere, workdir, tmp_path / "weights.safetensors")
    assert "newly initialised" not in said


def test_the_recipe_for_anybodys_videos_leaves_the_number_open():
    assert video_folder.get_config().model.num_classes == 0
    config = video_folder.get_config()
    config.model.num_classes = -1
    with pytest.raises(UserError, match=r"model\.num_classes=-1 must be at least 1, or 0"):
        create_model(config.model, train=False)


def test_what_a_prepared_data_set_holds_is_read_without_tensorflow(config, tmp_path):
    assert count_videos(config, "train") == 48
    with pytest.raises(UserError, match=r"no split 'test'; there are train, validation$"):
        count_videos(config, "test")
    folder = tmp_path / "moving_shapes" / "2.0.0"
    folder.mkdir(parents=True)
    (folder / "dataset_info.json").write_text(json.dumps({"splits": "x"})[:-4])
    config.data.dir = str(tmp_path)
    with pytest.raises(UserError, match=r"dataset_info\.json is damaged"):
        count_videos(config, "train")
