"""The classes of a video file, from a work directory and from a file of weights."""

import json
import pathlib
import re
import shutil

import jax
import numpy as np
import pytest

from data.preparation.parts import Stored
from mg_jax.errors import UserError
from mg_jax.input.datasets import open_source
from mg_jax.input.sampling import all_views
from mg_jax.runtime import parallel
from mg_jax.tools.convert import convert
from mg_jax.tools.predict import predict, scorer
from mg_jax.tools.raw_videos import read_video
from mg_jax.training.session import start_from
from mg_jax.training.state import create_state, init_variables
from mg_jax.weights.files import write_tensors
from mg_jax.weights.layout import to_tensors
from mg_jax.weights.load import load_weights
from mg_jax.workdir.checkpoint import read_best
from tests import runs
from tests.published import GOLDEN
from tests.tiny import get_config as get_tiny
from tests.videos import write


@pytest.fixture(scope="module")
def trained(undisturbed):
    """The work directory of a finished run."""
    return undisturbed[0]


def videos(data_dir):
    return sorted((data_dir / "downloads" / "moving_shapes" / "validation").iterdir())


def test_the_checkpoint_with_the_best_top1_is_used(trained):
    evaluations = [line for line in runs.log(trained) if line["kind"] == "eval"]
    assert len(evaluations) == 4
    best = max(evaluations, key=lambda line: (line["top1"], line["step"]))
    assert str(read_best(trained)) == f"best checkpoint, step {best['step']}"


def test_scores_of_files_are_those_of_the_evaluation(trained, config, data_dir):
    """Top-1 and loss over all validation files, one by one, are the logged ones of that step."""
    config.eval.clips = 1
    best = read_best(trained)
    (logged,) = [
        line for line in runs.log(trained) if line["kind"] == "eval" and line["step"] == best.step
    ]
    labels = open_source(config).evaluation.videos.label(np.arange(11))
    score, views = scorer(config, best.variables), all_views(config)
    files = [read_video(path, Stored(48, 90, 1), views) for path in videos(data_dir)]
    found = np.array([score(file.views_VTHWC) for file in files])
    assert (found.argmax(1) == labels).mean() == pytest.approx(logged["top1"])
    assert -np.log(found[np.arange(11), labels]).mean() == pytest.approx(logged["loss"], rel=1e-4)


ROW = re.compile(r"^ *([\d.]+)%  (\w+)$", re.MULTILINE)


def test_a_work_directory_names_the_classes_of_a_video(trained, flags, data_dir):
    video = videos(data_dir)[0]
    output = runs.run(trained, f"--video={video}", *flags, mode="predict")
    assert f"{trained}, {read_best(trained)}" in output
    rows = ROW.findall(output)
    assert {name for _, name in rows} == {"left", "right", "up", "down"}
    shares = [float(share) for share, _ in rows]
    assert shares == sorted(shares, reverse=True)
    assert sum(shares) == pytest.approx(100, abs=0.1)


def test_converted_weights_predict_the_same(trained, config, data_dir, tmp_path):
    video = videos(data_dir)[3]
    expected = ROW.findall(predict(config, video, trained))
    assert len(expected) == 4
    config.init_from = str(tmp_path / "weights.safetensors")
    convert(config, trained, pathlib.Path(config.init_from))
    assert ROW.findall(predict(config, video, None)) == expected


def test_a_work_directory_names_classes_without_the_data_set(trained, config, data_dir, tmp_path):
    config.data.dir = str(tmp_path)
    output = predict(config, videos(data_dir)[0], trained)
    assert {name for _, name in ROW.findall(output)} == {"left", "right", "up", "down"}


def test_a_file_of_weights_without_the_data_set_numbers_them(trained, config, data_dir, tmp_path):
    config.init_from = str(tmp_path / "weights.safetensors")
    convert(config, trained, pathlib.Path(config.init_from))
    config.data.dir = str(tmp_path)
    output = predict(config, videos(data_dir)[0], None)
    assert {name for _, name in re.findall(r"([\d.]+)%  (class \d)", output)} == {
        f"class {k}" for k in range(4)
    }
    assert "data set moving_shapes, which is not prepared here" in output


def test_what_is_odd_in_a_video_is_said_above_its_classes(trained, config, tmp_path):
    times = [40 * i + (36_000_000 if i else 0) for i in range(10)]
    output = predict(config, write(tmp_path / "odd.mkv", 10, times_ms=times), trained)
    assert output.index("jumps once") < output.index("%  ")
    assert len(ROW.findall(output)) == 4


def test_bad_requests_say_what_would_do(trained, config, data_dir, tmp_path):
    video = tmp_path / "text.mp4"
    video.write_text("not a video")
    with pytest.raises(UserError, match=r"text.mp4 cannot be read: Invalid data"):
        predict(config, video, trained)
    video = videos(data_dir)[0]
    with pytest.raises(UserError, match=r"give a --workdir with checkpoints, or a file"):
        predict(config, video, None)
    with pytest.raises(UserError, match=r"holds no checkpoint"):
        predict(config, video, tmp_path)
    config.model.width = 16
    with pytest.raises(UserError, match=r"Differing: model.width is 8 there and 16 here$"):
        predict(config, video, trained)
    config.init_from = str(trained)
    with pytest.raises(UserError, match=r"other weights by --config\.init_from\. Differing: model"):
        predict(config, video, None)


def test_a_file_of_weights_for_other_classes_than_the_data_sets_is_refused(
    trained, config, data_dir, tmp_path
):
    config.init_from = str(tmp_path / "weights.safetensors")
    config.model.num_classes = 5
    variables = to_tensors(read_best(trained).variables)
    for name in ("head.projection.weight", "head.projection.bias"):
        variables[name] = np.concatenate([variables[name], variables[name][:1]])
    write_tensors(pathlib.Path(config.init_from), variables)
    with pytest.raises(UserError, match=r"model.num_classes=5, but data set moving_shapes has 4"):
        predict(config, videos(data_dir)[0], None)


def test_weights_that_give_no_finite_loss_end_the_run_before_its_first_checkpoint(
    trained, flags, tmp_path
):
    tensors = to_tensors(read_best(trained).variables)
    tensors["head.projection.weight"] = np.full_like(tensors["head.projection.weight"], 3e38)
    write_tensors(tmp_path / "huge.safetensors", tensors)
    start = f"--config.init_from={tmp_path / 'huge.safetensors'}"
    every = "--config.run.checkpoint_every=1"
    output = runs.run(tmp_path / "run", *flags, start, every, expect=1)
    assert re.search(
        r"error: diverged: the loss is (nan|inf) at step 0 on grid \d+ x \d x \d+\^2", output
    )
    assert not list((tmp_path / "run" / "checkpoints").glob("[0-9]*"))


def renamed(trained, tmp_path):
    """A copy of the run whose classes are other ones."""
    copy = shutil.copytree(trained, tmp_path / "renamed")
    (copy / "classes.json").write_text(json.dumps(["left", "right", "in", "out"]))
    return copy


def test_a_run_is_not_continued_on_other_classes(trained, flags, tmp_path):
    copy = renamed(trained, tmp_path)
    output = runs.run(copy, *flags, expect=1)
    assert "checkpoints of other classes: 2 of 4 differ; class 2 is 'in' there and 'up'" in output


def test_the_classifier_of_other_classes_is_initialised_anew(trained, config, tmp_path):
    copy = renamed(trained, tmp_path)
    shapes = read_best(trained).variables
    classes = open_source(config).classes
    assert load_weights(trained, shapes, classes).account.initialised == ()
    other = load_weights(copy, shapes, classes).account.initialised
    assert set(other) == {"head.projection.weight", "head.projection.bias"}


def test_a_damaged_checkpoint_is_passed_over_for_the_next_best(trained, tmp_path):
    copy = shutil.copytree(trained, tmp_path / "copy")
    damaged = read_best(copy).step
    kept = {int(path.name) for path in (copy / "checkpoints").glob("[0-9]*")} - {damaged}
    evaluated = [
        (line["top1"], line["step"])
        for line in runs.log(copy)
        if line["kind"] == "eval" and line["step"] in kept
    ]
    for path in (copy / "checkpoints" / str(damaged) / "state").rglob("*"):
        if path.is_file():
            path.write_bytes(b"")
    found = read_best(copy)
    assert found.step == (max(evaluated)[1] if evaluated else max(kept))
    assert found.evaluated == bool(evaluated)


def test_a_state_starts_from_a_work_directory_or_file(trained, config, tmp_path):
    mesh = parallel.make_mesh()
    out = tmp_path / "weights.safetensors"
    convert(config, trained, out)
    expected = read_best(trained).variables
    for source in (trained, out):
        state = create_state(config, mesh)
        state = start_from(load_weights(source, expected), state, mesh)
        started = {"params": state.params, "batch_stats": state.batch_stats}
        for a, b in zip(jax.tree.leaves(started), jax.tree.leaves(expected), strict=True):
            np.testing.assert_array_equal(a, b)


def test_a_run_starts_from_weights_and_says_what_became_of_them(trained, flags, tmp_path):
    settings = [
        "--config.schedule.steps=(1,)",
        "--config.schedule.iterations=2",
        "--config.schedule.warmup_iterations=0",
    ]
    start = f"--config.init_from={trained}"
    output = runs.run(tmp_path / "warm", *flags, start, *settings, config="tests/tiny.py:baseline")
    assert re.search(rf"{trained}, best checkpoint, step \d+: \d+ tensors loaded", output)
    # Later it does not matter where it started from, or that this is gone.
    again = runs.run(tmp_path / "warm", *flags, *settings, config="tests/tiny.py:baseline")
    assert "is finished" in again


def test_weights_of_another_network_are_refused_before_anything_is_written(flags, tmp_path):
    wrong = GOLDEN / "slowfast_r50_w8_caffe2.pkl"
    output = runs.run(tmp_path / "run", *flags, f"--config.init_from={wrong}", expect=1)
    assert re.search(r"error: .* holds 2 pathway.* the config's model has 1 pathway", output)
    assert not (tmp_path / "run").exists()


def test_a_run_of_another_network_is_refused_with_the_setting_that_differs(trained):
    config = get_tiny()
    config.model.width *= 2
    shapes = jax.eval_shape(lambda: init_variables(config))
    with pytest.raises(UserError, match=r"model\.width is 8 there and 16 here"):
        load_weights(trained, shapes, config=config)
