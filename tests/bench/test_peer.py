"""PyTorch beside ours."""

import importlib.util

import numpy as np
import pytest

from mg_jax.bench.torch_peer import TorchPeer
from mg_jax.errors import UserError
from mg_jax.recipe import schedule_from_config
from tests import tiny


def test_iterations_take_turns(torch):
    config = tiny.get_config("baseline")
    config.model.dtype = "bfloat16"
    grid = schedule_from_config(config).grid(0)
    peer, turns = TorchPeer(config), []

    def ours(count):
        turns.append(count)
        return np.ones(count)

    try:
        seconds, row = peer.measure(grid, ours, 2)
        assert turns == [1, 1, 1]
        assert seconds.tolist() == [1, 1, 1]
        assert row["torch"] == torch.__version__
        assert row["clips_per_s"] == pytest.approx(grid.batch / row["iteration_s"])
    finally:
        peer.close()


def test_without_pytorch_the_line_that_installs_it_is_named(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"(?s)PyTorch.* -m pip install torch"):
        TorchPeer(tiny.get_config())


def test_networks_that_it_does_not_have_are_refused():
    config = tiny.get_config()
    config.model.non_local.instantiation = "softmax"
    with pytest.raises(UserError, match="by dot product"):
        TorchPeer(config)
