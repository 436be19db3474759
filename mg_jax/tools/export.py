"""Exports a run's network for other programs: `--mode=export --format=FORMAT`.

What is exported takes clips, `B T h h 3` uint8, and gives the scores of their classes, `B K`
float32, for any B. Pixels are normalised within.
"""

import importlib.util
import json
import pathlib
import shutil
import tempfile
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import export as jax_export

from mg_jax.errors import UserError
from mg_jax.input.prepared import with_class_count
from mg_jax.models import create_model
from mg_jax.tools.model_card import model_card
from mg_jax.training.preprocess import normalize
from mg_jax.workdir.checkpoint import read_best
from mg_jax.workdir.config import WorkdirError, stored_config

FORMATS = ("stablehlo", "savedmodel", "onnx")
PLATFORMS = ("cpu", "cuda", "tpu")
INPUT, OUTPUT = "clips", "scores"
# What a format needs besides JAX, with the line that installs it.
_NEEDS = {
    "savedmodel": ("tensorflow", "pip install -r requirements.txt -c requirements.lock"),
    "onnx": ("onnx", "pip install onnx -c requirements.lock"),
}

# From here on JAX writes what TensorFlow 2.21, the newest, cannot read.
JAX_TOO_NEW = (0, 12, 0)

# Maps (variables, clips) to scores.
_Scores = Callable[[Any, jax.Array], jax.Array]


def export_run(workdir: pathlib.Path, kind: str) -> str:
    """Writes `workdir/export/FORMAT/`: the best checkpoint's network, classes and a model card.

    Args:
      workdir: of a run, finished or not.
      kind: of FORMATS.

    Returns:
      What was written, in words.

    Raises:
      UserError: if a library is missing, or there is no checkpoint; before anything is written.
    """
    check_library(kind)
    best = read_best(workdir)
    path = workdir / "config.json"
    if not path.exists():
        raise WorkdirError(f"{workdir} holds checkpoints but no config.json; put it back")
    config = with_class_count(stored_config(path), len(best.classes))
    folder = workdir / "export" / kind
    folder.parent.mkdir(exist_ok=True)
    unfinished = pathlib.Path(tempfile.mkdtemp(prefix=f".{kind}.", dir=folder.parent))
    try:
        _WRITERS[kind](unfinished, config, best.variables, best.classes)
        names = json.dumps(best.classes, indent=1, ensure_ascii=False) + "\n"
        (unfinished / "classes.json").write_text(names, encoding="utf-8")
        card = model_card(workdir, config, best, kind)
        (unfinished / "model_card.md").write_text(card, encoding="utf-8")
        unfinished.chmod(0o755)
        shutil.rmtree(folder, ignore_errors=True)
        unfinished.rename(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return f"{workdir}, {best}: see {folder / 'model_card.md'}"


def check_library(kind: str) -> None:
    """Raises UserError if what writes a format is not installed, or writes what no one can read."""
    if kind == "savedmodel" and jax.__version_info__ >= JAX_TOO_NEW:
        raise UserError(
            f"--format=savedmodel does not go with JAX {jax.__version__}, whose programs "
            "TensorFlow cannot read; use Python 3.11 with requirements.lock, or --format=stablehlo "
            "or onnx"
        )
    module, install = _NEEDS.get(kind, ("jax", ""))
    if importlib.util.find_spec(module) is None:
        raise UserError(f"--format={kind} needs {module}, which is not installed: {install}")


def clip_shape(config) -> tuple[int, int, int, int]:
    """Of the clips that an exported network takes: as in evaluation."""
    return config.frames, config.eval.size, config.eval.size, 3


def clip_scores(config) -> _Scores:
    """The scores `B K` of clips `B T h h 3` uint8, as evaluation computes them of one view."""
    model = create_model(config.model, train=False)
    activation = jax.nn.sigmoid if config.data.multi_label else jax.nn.softmax

    def scores(variables: Any, clips_BTHWC: jax.Array) -> jax.Array:
        return activation(model.apply(variables, normalize(clips_BTHWC, config.data)))

    return scores


def _write_stablehlo(folder: pathlib.Path, config, variables: Any, classes: list[str]) -> None:
    scores = clip_scores(config)

    @jax.jit
    def named(clips_BTHWC: jax.Array) -> dict[str, jax.Array]:
        return {OUTPUT: scores(variables, clips_BTHWC)}

    (batch,) = jax_export.symbolic_shape("batch")
    clips = jax.ShapeDtypeStruct((batch, *clip_shape(config)), jnp.uint8)
    exported = jax_export.export(named, platforms=PLATFORMS)(clips)
    (folder / "model.stablehlo").write_bytes(exported.serialize())


def _write_savedmodel(folder: pathlib.Path, config, variables: Any, classes: list[str]) -> None:
    import tensorflow as tf
    from jax.experimental import jax2tf

    tf.config.set_visible_devices([], "GPU")  # left alone it takes all of a GPU's memory
    leaves, tree = jax.tree.flatten(variables)
    scores = clip_scores(config)
    converted = jax2tf.convert(
        lambda weights, clips_BTHWC: scores(tree.unflatten(weights), clips_BTHWC),
        polymorphic_shapes=[None, "batch, ..."],
        native_serialization_platforms=PLATFORMS,
        with_gradient=False,
    )
    module = tf.Module()
    module.weights = [tf.Variable(leaf, trainable=False) for leaf in leaves]
    spec = tf.TensorSpec([None, *clip_shape(config)], tf.uint8, INPUT)

    def serve(clips):
        return {OUTPUT: converted(list(module.weights), clips)}

    module.serve = tf.function(serve, input_signature=[spec], autograph=False)
    tf.saved_model.save(module, str(folder), signatures=module.serve.get_concrete_function())


def _write_onnx(folder: pathlib.Path, config, variables: Any, classes: list[str]) -> None:
    import onnx

    from mg_jax.tools.onnx_graph import to_onnx

    config = config.copy_and_resolve_references()
    # Its runtimes have few operations in bfloat16.
    config.model.dtype = "float32"
    scores = clip_scores(config)
    graph = to_onnx(
        lambda clips_BTHWC: scores(variables, clips_BTHWC), clip_shape(config), (INPUT, OUTPUT)
    )
    onnx.helper.set_model_props(graph, {"classes": json.dumps(classes, ensure_ascii=False)})
    onnx.checker.check_model(graph, full_check=True)
    onnx.save(graph, folder / "model.onnx")


_WRITERS = {"stablehlo": _write_stablehlo, "savedmodel": _write_savedmodel, "onnx": _write_onnx}
