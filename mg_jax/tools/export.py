"""Exports a run's network for other programs: `--mode=export --format=FORMAT`.

What is exported takes clips, `B T h h 3` uint8, and gives the scores of their classes, `B K`
float32, for any B. Pixels are normalised within.
"""

import importlib.util
import json
import pathlib
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import export as jax_export
from jax.extend import mlir
from jax.extend.mlir import ir
from jax.extend.mlir.dialects import chlo, sdy, stablehlo

from mg_jax.errors import UserError, first_line
from mg_jax.input.prepared import with_class_count
from mg_jax.machine.atomic_file import replaced_folder
from mg_jax.models import create_model
from mg_jax.tools.model_card import model_card
from mg_jax.training.evaluation_step import clip_scores
from mg_jax.workdir.checkpoint import read_best
from mg_jax.workdir.config import WorkdirError, stored_config

FORMATS = ("stablehlo", "savedmodel", "onnx")
PLATFORMS = ("cpu", "cuda", "tpu")
INPUT, OUTPUT = "clips", "scores"
# One that TensorFlow reads: 2.21 knows those up to 1.13, and JAX 0.12 writes 1.18.
_STABLEHLO_OF_TENSORFLOW = "1.9.0"
# What a format needs besides JAX, with the line that installs it.
_NEEDS = {
    "savedmodel": ("tensorflow", "pip install -r requirements.txt -c requirements.lock"),
    "onnx": ("onnx", "pip install onnx -c requirements.lock"),
}

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
    with replaced_folder(folder) as unfinished:
        _WRITERS[kind](unfinished, config, best.variables, best.classes)
        names = json.dumps(best.classes, indent=1, ensure_ascii=False) + "\n"
        (unfinished / "classes.json").write_text(names, encoding="utf-8")
        card = model_card(workdir, config, best, kind)
        (unfinished / "model_card.md").write_text(card, encoding="utf-8")
    return f"{workdir}, {best}: see {folder / 'model_card.md'}"


def check_library(kind: str) -> None:
    """Raises UserError if the library that writes a format is not installed or is broken."""
    module, install = _NEEDS.get(kind, ("jax", ""))
    if importlib.util.find_spec(module) is None:
        raise UserError(f"--format={kind} needs {module}, which is not installed: {install}")
    try:
        importlib.import_module(module)
    except ImportError as error:
        raise UserError(
            f"--format={kind} needs {module}, which cannot be imported ({first_line(error)}): "
            f"{install}"
        ) from error


def clip_shape(config) -> tuple[int, int, int, int]:
    """Of the clips that an exported network takes: as in evaluation."""
    return config.frames, config.eval.size, config.eval.size, 3


def scores_of(config) -> _Scores:
    """The function to export: (variables, clips `B T h h 3` uint8) -> scores `B K`."""
    return partial(clip_scores, create_model(config.model, train=False), data=config.data)


def _write_stablehlo(folder: pathlib.Path, config, variables: Any, classes: list[str]) -> None:
    scores = scores_of(config)

    @jax.jit
    def named(clips_BTHWC: jax.Array) -> dict[str, jax.Array]:
        return {OUTPUT: scores(variables, clips_BTHWC)}

    (batch,) = jax_export.symbolic_shape("batch")
    clips = jax.ShapeDtypeStruct((batch, *clip_shape(config)), jnp.uint8)
    exported = jax_export.export(named, platforms=PLATFORMS)(clips)
    (folder / "model.stablehlo").write_bytes(exported.serialize())


def _write_savedmodel(folder: pathlib.Path, config, variables: Any, classes: list[str]) -> None:
    import tensorflow as tf
    from tensorflow.compiler.tf2xla.python import xla

    tf.config.set_visible_devices([], "GPU")  # left alone it takes all of a GPU's memory
    leaves, tree = jax.tree.flatten(variables)
    scores = scores_of(config)

    @jax.jit
    def flat(leaves, clips_BTHWC):
        return scores(tree.unflatten(leaves), clips_BTHWC)

    (batch,) = jax_export.symbolic_shape("batch")
    shapes = [jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for leaf in leaves]
    clips = jax.ShapeDtypeStruct((batch, *clip_shape(config)), jnp.uint8)
    exported = jax_export.export(flat, platforms=PLATFORMS)(shapes, clips)
    module = tf.Module()
    module.weights = [tf.Variable(leaf, trainable=False) for leaf in leaves]

    def serve(clips):
        arguments = [*module.weights, clips]
        # As jax2tf does, whose version of StableHLO may be newer than TensorFlow's.
        (result,) = xla.call_module(
            [arguments[i] for i in exported.module_kept_var_idx],
            version=exported.calling_convention_version,
            module=_as_version(exported.mlir_module_serialized, _STABLEHLO_OF_TENSORFLOW),
            Sout=[tf.TensorShape([None, len(classes)])],
            Tout=[tf.float32],
            platforms=[platform.upper() for platform in exported.platforms],
            use_shardy_partitioner=True,
        )
        return {OUTPUT: result}

    spec = tf.TensorSpec([None, *clip_shape(config)], tf.uint8, INPUT)
    module.serve = tf.function(serve, input_signature=[spec], autograph=False)
    tf.saved_model.save(module, str(folder), signatures=module.serve.get_concrete_function())


def _as_version(serialized: bytes, version: str) -> bytes:
    """A module of StableHLO as one of its earlier versions has it."""
    with ir.Context() as context:
        for dialect in (stablehlo, chlo, sdy):
            dialect.register_dialect(context)
        module = mlir.deserialize_portable_artifact(serialized)
        return mlir.serialize_portable_artifact(module, version)


def _write_onnx(folder: pathlib.Path, config, variables: Any, classes: list[str]) -> None:
    import onnx

    from mg_jax.tools.onnx_graph import to_onnx

    config = config.copy_and_resolve_references()
    # Its runtimes have few operations in bfloat16.
    config.model.dtype = "float32"
    scores = scores_of(config)
    graph = to_onnx(
        lambda clips_BTHWC: scores(variables, clips_BTHWC), clip_shape(config), (INPUT, OUTPUT)
    )
    onnx.helper.set_model_props(graph, {"classes": json.dumps(classes, ensure_ascii=False)})
    onnx.checker.check_model(graph, full_check=True)
    onnx.save(graph, folder / "model.onnx")


_WRITERS = {"stablehlo": _write_stablehlo, "savedmodel": _write_savedmodel, "onnx": _write_onnx}
