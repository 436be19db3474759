"""One run with every setting against overfitting: resumed, in parts, and on two devices."""

import shutil

import jax
import numpy as np
import pytest
from jax.sharding import Mesh

from mg_jax.errors import UserError
from mg_jax.runtime import parallel
from mg_jax.runtime.stops import Stops
from mg_jax.training.loop import train
from mg_jax.workdir.checkpoint import read_best
from tests import runs

EVERYTHING = {
    "model.drop_path": 0.2,
    "data.flip": True,
    "data.class_exponent": 0.5,
    "optimizer.name": "adamw",
    "optimizer.weight_decay": 0.05,
    "optimizer.layer_decay": 0.75,
    "optimizer.freeze": "stem",
    "optimizer.clip_norm": 1.0,
    "optimizer.average": 0.9,
    "loss.label_smoothing": 0.1,
    "augment.rand_layers": 2,
    "augment.brightness": 0.4,
    "augment.contrast": 0.4,
    "augment.saturation": 0.4,
    "augment.hue": 0.1,
    "augment.erase": 0.25,
    "augment.mixup": 0.8,
    "augment.cutmix": 1.0,
    "augment.mix": 0.5,
    "augment.coarse": 0.5,
}


@pytest.fixture
def config(config, tmp_path):
    """Three iterations of 32 clips of 4 x 23^2, four times as many as on the full grid."""
    classes = ["down", "left", "right", "up"]
    (tmp_path / "pairs.csv").write_text("left,right\n")
    (tmp_path / "weights.csv").write_text("".join(f"{name},{1.5}\n" for name in classes[:2]))
    config.update_from_flattened_dict(EVERYTHING)
    config.data.flip_pairs = str(tmp_path / "pairs.csv")
    config.loss.class_weights = str(tmp_path / "weights.csv")
    config.multigrid.long_cycle = config.multigrid.short_cycle = False
    config.baseline.update(time_divisor=2, area_divisor=2)
    config.schedule.update(steps=(), iterations=12, warmup_iterations=0, learning_rate=1e-3)
    config.eval.update(times=1, clips=1)
    config.run.update(checkpoint_every=1, keep=9, compile_ahead="off")
    return config


def trained(config, workdir, devices, monkeypatch, parts=1):
    mesh = Mesh(np.array(jax.devices()[:devices]), (parallel.AXIS,))
    monkeypatch.setattr(parallel, "make_mesh", lambda: mesh)
    config = config.copy_and_resolve_references()
    config.run.accumulate = parts
    train(config, workdir, Stops())
    return runs.losses(workdir)


def test_it_continues_bit_by_bit_and_agrees_in_parts_and_on_two_devices(
    config, tmp_path, monkeypatch
):
    whole, parted, two = tmp_path / "whole", tmp_path / "parted", tmp_path / "two"
    losses = trained(config, whole, 1, monkeypatch, parts=2)
    assert set(losses) == {1, 2, 3}
    shutil.copytree(whole, parted)
    for step in (2, 3):
        shutil.rmtree(parted / "checkpoints" / str(step))
    (parted / "summary.json").unlink()
    trained(config, parted, 1, monkeypatch, parts=2)
    for a, b in zip(runs.final_arrays(whole), runs.final_arrays(parted), strict=True):
        np.testing.assert_array_equal(a, b)

    assert trained(config, two, 2, monkeypatch) == pytest.approx(losses, rel=1e-4)
    best, other = (read_best(workdir).variables["params"] for workdir in (whole, two))
    # Of a checkpoint's arrays the average comes first, by name.
    leaves = jax.tree.leaves(best)
    for a, b in zip(leaves, runs.final_arrays(whole)[: len(leaves)], strict=True):
        np.testing.assert_array_equal(a, b)
    # The stem is frozen, so nothing but its initial values can be the same on two devices.
    for a, b in zip(*(jax.tree.leaves(params["s1"]) for params in (best, other)), strict=True):
        np.testing.assert_array_equal(a, b)

    with pytest.raises(UserError, match="class_weights"):
        path = tmp_path / "weights.csv"
        path.write_text(path.read_text().replace("1.5", "2"))
        trained(config, whole, 1, monkeypatch, parts=2)
