"""Pooled features of videos: prepared ones, files, and of published weights."""

import json
import pathlib
import shutil

import jax
import numpy as np
import pytest
import safetensors.numpy

from configs.base import as_variant, get_base
from mg_jax.errors import UserError
from mg_jax.input.datasets import stored
from mg_jax.input.sampling import all_views
from mg_jax.tools.convert import convert
from mg_jax.tools.features import write_features
from mg_jax.tools.predict import predict
from mg_jax.tools.raw_videos import read_video
from mg_jax.workdir.checkpoint import read_best
from tests import published_files, videos
from tests.conftest import CACHE


def features_of(config, given, workdir, path, *, each_clip=False):
    said = write_features(config, given, workdir, path, each_clip=each_clip)
    return said, dict(np.load(path))


def test_the_classifier_makes_the_scores_of_features(undisturbed, config, data_dir, tmp_path):
    workdir = undisturbed[0]
    said, found = features_of(config, None, workdir, tmp_path / "f.npz", each_clip=True)
    assert found["features"].shape == (11, 2, 64)
    assert "features 11 x 2 x 64" in said
    np.testing.assert_array_equal(found["starts"][:, 0], 0)
    best = read_best(workdir)
    assert list(found["classes"]) == best.classes
    head = best.variables["params"]["head"]["projection"]
    logits = found["features"] @ head["kernel"] + head["bias"]
    scores_NK = np.asarray(jax.nn.softmax(logits)).mean(1)
    folder = data_dir / "downloads" / "moving_shapes" / "validation"
    video = sorted(folder.iterdir())[3]
    shares = [
        float(line[:7].strip()[:-1]) for line in predict(config, video, workdir).splitlines()[1:]
    ]
    assert shares == pytest.approx(100 * np.sort(scores_NK[3])[::-1], abs=0.006)
    # Of files they are those of the same prepared videos, and with one row for each by default.
    _, mean = features_of(config, [folder], workdir, tmp_path / "m.npz")
    np.testing.assert_allclose(mean["features"], found["features"].mean(1), rtol=1e-4, atol=1e-5)
    assert mean["ids"][3] == str(video)
    assert found["labels"].sum(1).tolist() == [1] * 11 and "labels" not in mean


def test_weights_of_other_classes_give_features_and_safetensors_have_the_ids(
    undisturbed, config, data_dir, tmp_path
):
    workdir = undisturbed[0]
    source = sorted((data_dir / "downloads" / "moving_shapes" / "validation").iterdir())[0]
    folder = tmp_path / "videos"
    folder.mkdir()
    shutil.copy(source, folder / "a.mp4")
    (folder / "b.mp4").write_text("not a video")
    _, expected = features_of(config, [folder / "a.mp4"], workdir, tmp_path / "f.npz")
    config.init_from = str(tmp_path / "weights.safetensors")
    convert(config, workdir, pathlib.Path(config.init_from))
    config.data.dir = str(tmp_path)  # where no data set is
    config.prepare.short_side, config.model.num_classes = 48, 0
    out = tmp_path / "f.safetensors"
    said = write_features(config, [folder], None, out, each_clip=False)
    assert "not read: 1 of 2" in said and "b.mp4" in said
    found = safetensors.numpy.load_file(out)
    np.testing.assert_array_equal(found["features"], expected["features"])
    with safetensors.safe_open(out, "np") as file:
        assert json.loads(file.metadata()["ids"]) == [str(folder / "a.mp4")]


def test_a_published_file_gives_the_features_of_its_own_code(tmp_path, torch):
    path, network = published_files.write("mmaction_slowonly_8x8_r50", tmp_path)
    config = as_variant(get_base(), "mmaction_slowonly_8x8_r50")
    config.model.update({"width": 8, "num_classes": 10})
    config.frames, config.data.stride = 3, 2
    config.eval.update({"clips": 2, "crops": 1, "size": 32, "short_side": 32})
    config.data.dir, config.run.cache_dir = str(tmp_path), str(CACHE)
    config.init_from = str(path)
    video = videos.write(tmp_path / "video.mp4", 12, (48, 40))
    _, found = features_of(config, [video], None, tmp_path / "f.npz", each_clip=True)
    views_VTHWC = read_video(video, stored(config), all_views(config)).views_VTHWC
    # As mmaction2's data preprocessor has it.
    clips_VTHWC = (views_VTHWC - [123.675, 116.28, 103.53]) / [58.395, 57.12, 57.375]
    with torch.no_grad():
        clips = torch.from_numpy(clips_VTHWC.astype(np.float32)).permute(0, 4, 1, 2, 3)
        features_VC = network.backbone(clips).mean((2, 3, 4)).numpy()
    assert features_VC.std(0).max() > 0.01 * features_VC.max()  # the clips are not the same
    np.testing.assert_allclose(found["features"][0], features_VC, atol=1e-4 * features_VC.max())


def test_requests_that_cannot_work_say_what_would(undisturbed, config, tmp_path):
    with pytest.raises(UserError, match=r"f.csv must be a file that ends in .npz or .safetensors"):
        write_features(config, None, undisturbed[0], tmp_path / "f.csv", each_clip=False)
    with pytest.raises(UserError, match=r"give a --workdir with checkpoints, or a file"):
        write_features(config, None, None, tmp_path / "f.npz", each_clip=False)
