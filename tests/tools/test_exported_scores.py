"""Exported networks give the scores of the run's own evaluation, whatever kind of run it is."""

import contextlib
import csv
import dataclasses
import json
import re

import cv2
import jax
import numpy as np
import onnxruntime
import pytest
import simplejpeg
from jax import export as jax_export

from mg_jax.input.pipeline import view_batches
from mg_jax.input.sampling import all_views
from mg_jax.runtime import parallel
from mg_jax.runtime.stops import Stops
from mg_jax.tools.export import export_run
from mg_jax.training.average import to_evaluate
from mg_jax.training.evaluation import evaluate
from mg_jax.training.session import open_session
from mg_jax.workdir.config import write_config
from mg_jax.workdir.video_scores import read_scores


def evaluated(config, workdir):
    """A run of one iteration, evaluated on one view, whose weights are drawn instead of trained.

    Returns:
      Its split of 11 videos and their clips.
    """
    config.eval.clips = 1
    rng = np.random.default_rng(0)

    def drawn(tree):
        # Scales and variances stay about 1.
        noisy = jax.tree.map(lambda x: x + rng.normal(0, 0.1, x.shape).astype(x.dtype), tree)
        return parallel.replicate(jax.tree.map(np.asarray, noisy), session.mesh)

    session, state = open_session(config, workdir, Stops(), trains=True)
    with contextlib.closing(session):
        names = [name for name in ("params", "batch_stats", "average") if hasattr(state, name)]
        step = parallel.replicate(np.int32(1), session.mesh)
        state = state.replace(step=step, **{name: drawn(getattr(state, name)) for name in names})
        clocks = dataclasses.asdict(session.clocks)
        session.checkpoints.save(state, 1, clocks)
        metrics = evaluate(session, to_evaluate(state), all_views(config), keep=True)
        session.checkpoints.add_evaluation(1, metrics, state.batch_stats, clocks)
        write_config(workdir, session.config, session.data.classes)
        split = session.data.evaluation
        videos = view_batches(split, all_views(config), 1).as_numpy_iterator()
        return split, np.stack([video["clips"][0, 0] for video in videos])


def exported(workdir, kind):
    """A run's network, exported and loaded again: maps clips to scores."""
    export_run(workdir, kind)
    folder = workdir / "export" / kind
    if kind == "stablehlo":
        content = (folder / "model.stablehlo").read_bytes()
        network = jax_export.deserialize(bytearray(content))
        return lambda clips_BTHWC: np.asarray(network.call(clips_BTHWC)["scores"])
    if kind == "onnx":
        session = onnxruntime.InferenceSession(folder / "model.onnx")
        return lambda clips_BTHWC: session.run(["scores"], {"clips": clips_BTHWC})[0]
    import tensorflow as tf

    network = tf.saved_model.load(str(folder)).signatures["serving_default"]
    return lambda clips_BTHWC: network(clips=tf.constant(clips_BTHWC))["scores"].numpy()


@pytest.mark.parametrize(
    ("setting", "value", "kinds", "atol"),
    [
        ("data.multi_label", True, ("stablehlo", "savedmodel", "onnx"), 1e-5),
        # Each compiler rounds to bfloat16 in other places, and ONNX nowhere.
        ("model.dtype", "bfloat16", ("stablehlo", "savedmodel", "onnx"), 2e-3),
    ],
)
def test_an_exported_network_gives_the_evaluations_scores(
    config, tmp_path, setting, value, kinds, atol
):
    config.update_from_flattened_dict({setting: value})
    _, clips_NTHWC = evaluated(config, tmp_path)
    expected_NK = read_scores(tmp_path).scores_NK
    assert np.ptp(expected_NK) > 0.1
    for kind in kinds:
        found_NK = exported(tmp_path, kind)(clips_NTHWC)
        np.testing.assert_allclose(found_NK, expected_NK, rtol=0, atol=atol)


def cut(card, frames_NHWC):
    """The middle clip of a video, cut as a model card says."""

    def numbers(pattern):
        return map(int, re.search(pattern, card).groups())

    h, short_side = numbers(r"whose side is (\d+)/(\d+) of the frame's short side")
    (N, *shape), clip = frames_NHWC.shape[:3], []
    if "one from the middle of each of" in card:
        (T,) = numbers(r"A clip is (\d+) frames, one from the middle")
        (halves,) = numbers(r"of N frames \(2 t \+ 1\) N // (\d+) for t = 0")
        rows_T = [(2 * t + 1) * N // halves for t in range(T)]
    else:
        T, stride = numbers(r"A clip is (\d+) frames, (\d+) source frames apart")
        first = max(N - ((T - 1) * stride + 1), 0) // 2
        rows_T = np.minimum(first + stride * np.arange(T), N - 1)
    side = round(min(shape) * h / short_side)
    top, left = (round((length - side) / 2) for length in shape)
    for n in rows_T:
        square_HWC = frames_NHWC[n, top : top + side, left : left + side]
        clip.append(cv2.resize(square_HWC, (h, h), interpolation=cv2.INTER_LINEAR))
    return np.stack(clip)


@pytest.mark.parametrize("sampling", ["stride", "segments"])
def test_a_video_cut_as_the_card_says_gets_the_scores_of_its_row(config, tmp_path, sampling):
    """Of a run with averaged weights, which are those that were evaluated."""
    config.data.sampling = sampling
    config.optimizer.average = 0.5
    config.model.stem_frames = 3  # so that the order of frames counts
    config.eval.short_side = 36
    split, _ = evaluated(config, tmp_path)
    network = exported(tmp_path, "stablehlo")
    card = (tmp_path / "export" / "stablehlo" / "model_card.md").read_text()
    with (tmp_path / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    videos, clips = split.videos, []
    for first, count in zip(videos.first_frame, videos.source_frames, strict=True):
        jpegs = split.frames.jpegs(np.arange(first, first + count))
        frames = [simplejpeg.decode_jpeg(bytes(jpeg), fastupsample=True) for jpeg in jpegs]
        clips.append(cut(card, np.stack(frames)))
    clips_NTHWC = np.stack(clips)
    found_NK = network(clips_NTHWC)
    # In another order they would be others.
    assert np.abs(found_NK - network(np.roll(clips_NTHWC, -1, 1))).max(1).min() > 1e-4
    names = json.loads((tmp_path / "export" / "stablehlo" / "classes.json").read_text())
    assert [row["path"] for row in rows] == list(videos.ids)
    for row, scores_K in zip(rows, found_NK, strict=True):
        of_row = {row[f"class_{k}"]: float(row[f"score_{k}"]) for k in range(1, 5)}
        np.testing.assert_allclose([of_row[name] for name in names], scores_K, rtol=0, atol=1e-5)
