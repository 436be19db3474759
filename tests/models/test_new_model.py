"""A network of one's own: a file with `create`, and its entry among the architectures.

This one has no batch norm, so there are no statistics to train, to save or to measure.
"""

import shutil

import flax.linen as nn
import numpy as np
import pytest

from mg_jax import architectures
from mg_jax.errors import UserError
from mg_jax.models import create_model
from mg_jax.models.parts import ModuleDef
from mg_jax.models.resnet3d import Head
from mg_jax.recipe import as_baseline, schedule_from_config
from mg_jax.runtime.stops import Stops
from mg_jax.tools.convert import convert
from mg_jax.training.evaluate_checkpoint import evaluate_checkpoint
from mg_jax.training.loop import train
from mg_jax.workdir.checkpoint import read_best
from tests import runs


def create(config, parts):
    head = Head(config.num_classes, config.dropout, parts.train, parts.first_clip)
    return NormFree(config.tubelet, parts.conv, head)


class NormFree(nn.Module):
    """Averages neighbouring frames, then a convolution with a learnt gain, then the classifier."""

    tubelet: int
    conv: ModuleDef
    head: nn.Module

    @nn.compact
    def __call__(self, clips_BTHWC):
        window = (self.tubelet, 1, 1)
        x = nn.avg_pool(clips_BTHWC, window, window)
        x = self.conv(8, (1, 7, 7), (1, 2, 2), name="stem")(x)
        gain_C = self.param("gain", nn.initializers.ones, (8,))
        return self.head([nn.relu(x) * gain_C])


def _check(config):
    if config.tubelet != 2:
        raise UserError(f"model.tubelet={config.tubelet} must be 2")


@pytest.fixture
def config(config, monkeypatch):
    """Two iterations of the network, and an evaluation after each."""
    entry = architectures.Architecture(__name__, _check, frame_unit="tubelet")
    monkeypatch.setitem(architectures.MODELS, "norm_free", entry)
    config = as_baseline(config)
    config.model.update(name="norm_free", tubelet=2, dropout=0.0)
    config.schedule.steps, config.schedule.iterations = (), 2
    config.schedule.warmup_iterations = 0
    config.schedule.learning_rate = 0.1
    config.eval.times = 2
    return config


def test_it_trains_is_saved_and_evaluated(config, tmp_path):
    workdir = tmp_path / "run"
    summary = train(config, workdir, Stops())
    losses = runs.losses(workdir)
    assert set(losses) == {1, 2}
    assert losses[1] == pytest.approx(np.log(4), abs=0.1)
    assert evaluate_checkpoint(config, workdir, Stops()) == summary["metrics"]
    best = read_best(workdir)
    assert best.evaluated
    assert best.variables["batch_stats"] == {}
    assert np.any(best.variables["params"]["gain"] != 1)  # it was trained


def test_a_run_continues_to_the_same_numbers(config, tmp_path):
    whole, parted = tmp_path / "whole", tmp_path / "parted"
    expected = train(config, whole, Stops())["metrics"]
    train(config, parted, Stops())
    shutil.rmtree(parted / "checkpoints" / "2")
    (parted / "summary.json").unlink()
    assert train(config, parted, Stops())["metrics"] == expected


def test_its_weights_go_out_and_come_in_again(config, tmp_path):
    workdir, first, again = tmp_path / "run", tmp_path / "1.safetensors", tmp_path / "2.safetensors"
    train(config, workdir, Stops())
    convert(config, workdir, first)
    assert "4 tensors loaded" in convert(config, first, again)
    assert first.read_bytes() == again.read_bytes()


def test_a_plan_checks_its_settings(config):
    assert schedule_from_config(config).iterations == 2
    config.frames = 7
    with pytest.raises(UserError, match=r"frames=7 .* model.tubelet=2"):
        schedule_from_config(config)
    config.model.tubelet = 3
    with pytest.raises(UserError, match=r"model.tubelet=3"):
        schedule_from_config(config)


def test_a_setting_that_a_config_lacks_is_named(config, monkeypatch):
    del config.model.tubelet
    with pytest.raises(UserError, match=r"name=norm_free needs model\.tubelet"):
        schedule_from_config(config)
    entry = architectures.Architecture(__name__, lambda config: None, frame_unit="tubelet")
    monkeypatch.setitem(architectures.MODELS, "norm_free", entry)
    with pytest.raises(UserError, match=r"name=norm_free needs model\.tubelet"):
        schedule_from_config(config)
    config.model.num_classes = 2
    with pytest.raises(UserError, match=r"name=norm_free needs model\.tubelet"):
        create_model(config.model, train=False)
