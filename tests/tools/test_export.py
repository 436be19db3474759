"""Exported networks, each loaded by its own runtime in a process that knows nothing of mg_jax."""

import json
import shutil
import subprocess
import sys

import jax
import numpy as np
import onnxruntime
import pytest
from jax import export as jax_export

from mg_jax.errors import UserError
from mg_jax.models import create_model
from mg_jax.runtime import xla_options
from mg_jax.tools.export import FORMATS, check_library, export_run, scores_of
from mg_jax.tools.onnx_graph import to_onnx
from mg_jax.training.preprocess import normalize
from mg_jax.training.state import init_variables
from mg_jax.workdir.checkpoint import read_best
from mg_jax.workdir.config import stored_config
from tests import runs

# Runs the model card's lines, which map clips to scores, and the last one again for one clip.
COMPARE = """
import re, sys
import numpy as np
(code,) = re.findall(r"```python\\n(.*?)```", open("model_card.md").read(), re.DOTALL)
clips = three = np.load(sys.argv[1])
exec(code)
three, clips = scores, three[:1]
exec(code.strip().splitlines()[-1])
np.savez(sys.argv[2], three=three, one=scores)
assert not any(name.startswith("mg_jax") for name in sys.modules)
"""


@pytest.fixture(scope="module")
def exported(undisturbed, tmp_path_factory):
    """A finished run, exported in all formats, and what was said."""
    workdir = shutil.copytree(undisturbed[0], tmp_path_factory.mktemp("exported") / "run")
    return workdir, {kind: export_run(workdir, kind) for kind in FORMATS}


@pytest.fixture(scope="module")
def expected(exported, tmp_path_factory):
    """Three clips in a file and their scores."""
    workdir, _ = exported
    config, best = stored_config(workdir / "config.json"), read_best(workdir)
    clips = np.random.default_rng(0).integers(0, 256, (3, 8, 32, 32, 3), np.uint8)
    path = tmp_path_factory.mktemp("clips") / "clips.npy"
    np.save(path, clips)
    return path, np.asarray(jax.jit(scores_of(config))(best.variables, clips))


@pytest.mark.parametrize("kind", FORMATS)
def test_the_cards_lines_give_the_same_scores_for_any_number_of_clips(
    exported, expected, kind, tmp_path
):
    folder, (clips, scores_BK) = exported[0] / "export" / kind, expected
    out = tmp_path / "scores.npz"
    subprocess.run([sys.executable, "-P", "-c", COMPARE, clips, out], cwd=folder, check=True)
    found = np.load(out)
    assert found["three"].dtype == np.float32
    assert np.ptp(scores_BK) > 1e-3
    np.testing.assert_allclose(found["three"], scores_BK, rtol=0, atol=1e-5)
    np.testing.assert_allclose(found["one"], scores_BK[:1], rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", FORMATS)
def test_beside_it_lie_the_classes_and_a_card(exported, kind):
    workdir, said = exported
    folder, best = workdir / "export" / kind, read_best(workdir)
    assert json.loads((folder / "classes.json").read_text()) == best.classes
    card = (folder / "model_card.md").read_text()
    assert str(folder / "model_card.md") in said[kind]
    metrics = runs.summary(workdir)["metrics"]
    for words in (
        "moving_shapes, split train: 48 videos",
        "split validation: 11 videos",
        f"{best}",
        f"top-1 {metrics['top1']:.1%}",
        "`B x 8 x 32 x 32 x 3`",
        "`model.width` | `8`",
        "softmax",
    ):
        assert words in card
    assert not [path for path in (workdir / "export").iterdir() if path.name.startswith(".")]


def test_jax_loads_it_for_cpus_gpus_and_tpus(exported):
    content = (exported[0] / "export" / "stablehlo" / "model.stablehlo").read_bytes()
    network = jax_export.deserialize(bytearray(content))
    assert network.platforms == ("cpu", "cuda", "tpu")


def network_of(config):
    """A network whose weights are all drawn, and its scores."""
    rng = np.random.default_rng(0)
    initialise = jax.jit(
        lambda: init_variables(config), compiler_options=xla_options.for_once("cpu")
    )
    variables = jax.tree.map(np.asarray, initialise())
    variables = jax.tree.map(
        lambda x: x if x.any() else rng.normal(0, 0.2, x.shape).astype(np.float32), variables
    )
    model = create_model(config.model, train=False)
    return lambda clips: jax.nn.softmax(model.apply(variables, normalize(clips, config.data)))


@pytest.mark.parametrize("name", ["slowfast", "dot_product", "softmax"])
def test_every_network_becomes_an_onnx_graph(config, name):
    config.model.name = "slowfast" if name == "slowfast" else "i3d"
    config.model.fast_stage_frames = ((3,), (3,))
    if name != "slowfast":
        config.model.stem_frames = 5  # side by side, as the fast pathway's
        config.model.pool_frames = 2
        config.model.non_local.pool = (1, 2, 2) if name == "softmax" else (2, 4, 4)
        config.model.non_local.positions = ((0,), (0,))
        config.model.non_local.instantiation = name
    config.model.num_classes = 4
    scores = network_of(config)
    clips = np.random.default_rng(1).integers(0, 256, (2, 8, 32, 32, 3), np.uint8)
    graph = to_onnx(scores, clips.shape[1:], ("clips", "scores"))
    # None for a batch norm, whose factors and offsets are weights.
    assert sum(node.op_type == "Expand" for node in graph.graph.node) <= 6
    session = onnxruntime.InferenceSession(graph.SerializeToString())
    (found,) = session.run(None, {"clips": clips})
    expected = np.asarray(jax.jit(scores)(clips))
    assert np.ptp(expected) > 1e-3
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


def test_an_operation_that_onnx_cannot_have_is_named():
    with pytest.raises(UserError, match=r"'sort' .*--format=stablehlo"):
        to_onnx(lambda clips: jax.numpy.sort(clips), (4,), ("clips", "scores"))


def test_what_cannot_be_exported_says_why_before_anything_is_written(tmp_path, monkeypatch):
    command = ["main.py", f"--workdir={tmp_path}", "--mode=export"]
    status, output = runs.ended(runs.launch(*command, "--format=onnx"))
    assert status == 1 and "error:" in output
    assert "holds no checkpoint; train there first" in output
    assert not list(tmp_path.iterdir())
    (tmp_path / "onnx.py").write_text("raise ImportError('it is broken')")
    with monkeypatch.context() as patch:
        patch.syspath_prepend(tmp_path)
        patch.delitem(sys.modules, "onnx", raising=False)
        with pytest.raises(UserError, match=r"onnx, which cannot be imported \(it is broken\)"):
            check_library("onnx")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"onnx, which is not installed: pip install onnx"):
        check_library("onnx")
