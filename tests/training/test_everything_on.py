"""Every setting against overfitting with both cycles: resumed, in parts, and on two devices."""

import shutil

import jax
import numpy as np
import pytest
from jax.sharding import Mesh

from mg_jax.errors import UserError
from mg_jax.input.class_files import read_class_files
from mg_jax.recipe import schedule_from_config
from mg_jax.runtime import parallel
from mg_jax.runtime.stops import Stops
from mg_jax.training import session
from mg_jax.training.arguments import step_arguments
from mg_jax.training.loop import train
from mg_jax.training.programs import compile_lowered, lower_program, train_program
from mg_jax.training.state import create_state
from mg_jax.training.step import batch_shapes
from mg_jax.workdir.checkpoint import read_best
from mg_jax.workdir.finished import read_summary
from mg_jax.workdir.video_scores import SCORES, read_scores
from tests import runs
from tests.everything import EVERYTHING

CLASSES = ["left", "right", "up", "down"]
# Clips, frames and size of each iteration: the long cycle's two shapes, and on the second one the
# two of the short cycle.
GRIDS = [(32, 4, 23), (32, 4, 23), (16, 8, 23), (8, 8, 32)]


@pytest.fixture
def config(config, tmp_path):
    """Four iterations with both cycles, whose sub-batches are of 2 and 4 clips."""
    (tmp_path / "pairs.csv").write_text("left,right\n")
    (tmp_path / "weights.csv").write_text("down,1.5\nleft,1.5\n")
    config.update_from_flattened_dict(EVERYTHING)
    config.data.flip_pairs = str(tmp_path / "pairs.csv")
    config.loss.class_weights = str(tmp_path / "weights.csv")
    config.sub_batch = 2
    config.multigrid.update(shapes=((2, 2), (1, 1)), single_cycle=True, iterations=len(GRIDS))
    config.schedule.update(steps=(), iterations=11, warmup_iterations=4, learning_rate=1e-3)
    config.eval.update(times=1, clips=1)
    config.run.update(checkpoint_every=1, keep=9, compile_ahead="off")
    return config


def devices(count):
    return Mesh(np.array(jax.devices()[:count]), (parallel.AXIS,))


def assert_equal(arrays, others):
    for one, other in zip(arrays, others, strict=True):
        np.testing.assert_array_equal(one, other)


def cut_off(whole, workdir, step):
    """A run of which nothing is left that came after an iteration."""
    shutil.copytree(whole, workdir)
    for later in range(step + 1, len(GRIDS) + 1):
        shutil.rmtree(workdir / "checkpoints" / str(later))
    (workdir / "summary.json").unlink()
    return workdir


def test_a_run_continues_bit_by_bit_in_the_middle_of_its_cycles(config, tmp_path, monkeypatch):
    monkeypatch.setattr(parallel, "make_mesh", lambda: devices(1))
    whole = tmp_path / "whole"
    train(config, whole, Stops())
    lines = [line for line in runs.log(whole) if line["kind"] == "train"]
    assert [(line["clips"], line["frames"], line["size"]) for line in lines] == GRIDS
    # The evaluation at the end has the one view of the last evaluation, which is all it needs.
    of_end, final = (line for line in runs.log(whole) if line["kind"] in ("eval", "test"))
    assert final["eval_s"] == of_end["eval_s"]
    assert all(final[name] == of_end[name] for name in ("step", "loss", "top1"))
    assert read_scores(whole).step == len(GRIDS)
    ended = cut_off(whole, tmp_path / "ended", len(GRIDS))  # after it, before the final one
    (ended / SCORES).unlink()
    train(config, ended, Stops())
    assert read_summary(ended)["metrics"] == read_summary(whole)["metrics"]
    assert_equal(read_scores(ended).scores_NK, read_scores(whole).scores_NK)
    losses = runs.losses(whole)
    parted, on_two = (cut_off(whole, tmp_path / f"from_{step}", step) for step in (1, 2))
    monkeypatch.delattr(session, "create_state")  # what goes on draws no state first
    train(config, parted, Stops())
    assert runs.losses(parted) == losses
    assert_equal(runs.final_arrays(whole), runs.final_arrays(parted))
    # Of a checkpoint's arrays the average comes first, by name.
    leaves = jax.tree.leaves(read_best(whole).variables["params"])
    assert_equal(leaves, runs.final_arrays(whole)[: len(leaves)])

    # On two devices to rounding: the grids of the short cycle, each device with half the clips.
    monkeypatch.setattr(parallel, "make_mesh", lambda: devices(2))
    config.run.accumulate = 2
    train(config, on_two, Stops())
    assert runs.losses(on_two) == pytest.approx(losses, rel=1e-4)

    with pytest.raises(UserError, match="class_weights"):
        path = tmp_path / "weights.csv"
        path.write_text(path.read_text().replace("1.5", "2"))
        train(config, whole, Stops())


def iteration(config, count, parts):
    """The first iteration: state and metrics after it, bytes of a device's temporaries."""
    config = config.copy_and_resolve_references()
    config.run.accumulate = parts
    mesh, program = devices(count), train_program(schedule_from_config(config).grid(0))
    state, weights = create_state(config, mesh), read_class_files(config, CLASSES).weights
    step = compile_lowered(config, mesh, lower_program(config, mesh, state, program, weights))
    rng = np.random.default_rng(0)
    shapes = batch_shapes(config, program)
    limits = {"clips": 256, "flip": 2, "label": len(CLASSES), "position": 1000}
    batch = {n: rng.integers(0, limits[n], x.shape).astype(x.dtype) for n, x in shapes.items()}
    arguments = step_arguments(config, 1e-3, mesh)
    result = jax.device_get(step(state, parallel.shard(batch, mesh), arguments))
    return result, step.memory_analysis().temp_size_in_bytes


def test_parts_and_devices_give_what_the_whole_batch_gives_and_parts_take_less_memory(config):
    whole, memory = iteration(config, 1, 1)
    parted, of_a_part = iteration(config, 1, 4)
    on_two, _ = iteration(config, 2, 1)
    for other in (parted, on_two):
        for a, b in zip(jax.tree.leaves(whole), jax.tree.leaves(other), strict=True):
            # The weights have moved by 0.001.
            np.testing.assert_allclose(b, a, rtol=1e-5, atol=1e-6)
    # Most of it is activations, of a quarter of the clips.
    assert of_a_part < memory / 2
    stem = create_state(config, devices(1)).params["s1"]  # which is frozen
    assert_equal(jax.tree.leaves(whole[0].params["s1"]), jax.tree.leaves(stem))
