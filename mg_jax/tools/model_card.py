"""The model card of an exported network: what it is, what it was trained on, how to use it."""

import importlib.metadata
import json
import pathlib

from mg_jax.metrics import NAMES
from mg_jax.recipe import schedule_from_config, variant
from mg_jax.workdir.checkpoint import Best
from mg_jax.workdir.checkpoint_record import read_record
from mg_jax.workdir.config import settings
from mg_jax.workdir.finished import read_summary
from mg_jax.workdir.trained_on import read_trained_on

# Sections of a config that say how it works, not what it computes.
_NOT_SHOWN = ("run.", "data.dir")

_USES = {
    "stablehlo": """\
import pathlib
from jax import export

network = export.deserialize(bytearray(pathlib.Path("model.stablehlo").read_bytes()))
scores = network.call(clips)["scores"]  # on CPU, CUDA or TPU""",
    "savedmodel": """\
import tensorflow as tf  # for GPUs one that has them

network = tf.saved_model.load(".").signatures["serving_default"]
scores = network(clips=tf.constant(clips))["scores"]""",
    "onnx": """\
import onnxruntime

network = onnxruntime.InferenceSession("model.onnx")
(scores,) = network.run(["scores"], {"clips": clips})""",
}


def model_card(workdir: pathlib.Path, config, best: Best, kind: str) -> str:
    """The card as Markdown.

    Args:
      workdir: of the run.
      config: of the run.
      best: the checkpoint that was exported.
      kind: the format.
    """
    sections = {
        "What it was trained on": _data(workdir, config, best),
        "How well it does": _metrics(workdir, config, best),
        "Input": _input(config),
        "Output": _output(config),
        "Use": f"In the folder of this file:\n\n```python\n{_USES[kind]}\n```",
        "Settings": _settings(config),
    }
    model = config.model
    title = f"# {model.name}, depth {model.depth}, width {model.width}: {config.data.name}"
    versions = f"Exported as {kind} by JAX {importlib.metadata.version('jax')} from {best}."
    parts = [f"## {name}\n\n{text}" for name, text in sections.items()]
    return "\n\n".join([title, versions, *parts]) + "\n"


def _data(workdir: pathlib.Path, config, best: Best) -> str:
    schedule = schedule_from_config(config)
    kind = variant(config)
    lines = [f"- {best.step:,} of {schedule.iterations:,} iterations, {kind} training"]
    trained_on = read_trained_on(workdir)
    if trained_on is not None and (stretch := trained_on.in_force(best.step)):
        train, evaluation = stretch.train, stretch.evaluation
        lines += [
            f"- {stretch.data}, split {train.split}: {train.videos:,} videos, "
            f"{trained_on.epochs(schedule, best.step):.1f} epochs",
            f"- evaluated on split {evaluation.split}: {evaluation.videos:,} videos",
        ]
    start = config.init_from or "newly initialised weights"
    return "\n".join([*lines, f"- started from {start}", f"- {len(best.classes):,} classes"])


def _metrics(workdir: pathlib.Path, config, best: Best) -> str:
    record = read_record(workdir / "checkpoints" / str(best.step))
    rows = {"one centre view, during training": record["metrics"]}
    summary = read_summary(workdir)
    if summary is not None and summary["iterations"] == best.step:
        views = f"{config.eval.clips} x {config.eval.crops} views, at the end"
        rows[views] = summary["metrics"]
    lines = [f"- {views}: {_format(metrics)}" for views, metrics in rows.items() if metrics]
    return "\n".join(lines) or "It has not been evaluated."


def _format(metrics: dict[str, float]) -> str:
    shares = [f"{NAMES[name]} {metrics[name]:.1%}" for name in NAMES if name in metrics]
    return ", ".join([*shares, f"loss {metrics['loss']:.3f}"])


def _input(config) -> str:
    T, h = config.frames, config.eval.size
    frames = (
        f"{T} frames, one from the middle of each of {T} equal parts of the video: of N frames "
        f"(2 t + 1) N // {2 * T} for t = 0 ... {T - 1}, counted from 0"
    )
    if config.data.sampling == "segments" and config.eval.clips > 1:
        frames += (
            f" (evaluation takes {config.eval.clips} clips, the first with the frame at "
            f"{0.5 / config.eval.clips:.3g} of each part, the others evenly behind it)"
        )
    if config.data.sampling == "stride":
        span = (T - 1) * config.data.stride + 1
        frames = (
            f"{T} frames, {config.data.stride} source frames apart; past the end of the video its "
            f"last frame is repeated. Of N frames the middle clip starts at frame "
            f"max(0, N - {span}) // 2, counted from 0"
        )
        if config.eval.clips > 1:
            frames += (
                f" (evaluation takes {config.eval.clips} clips, the first from frame 0, "
                f"the last from max(0, N - {span}), the others evenly between, rounded down)"
            )
    return (
        f"`clips`, uint8, `B x {T} x {h} x {h} x 3`, any B: RGB, 0 ... 255, not normalised. A clip "
        f"is {frames}. Of each, the square in its centre is taken whose side is {h}/"
        f"{config.eval.short_side} of the frame's short side, its edges rounded to whole pixels, "
        f"and resampled bilinearly to {h} x {h}. Evaluation does so with frames that were "
        f"scaled bicubically (by FFmpeg, folders of images by Pillow) to a short side of at most "
        f"{config.prepare.short_side} pixels, stored as JPEGs of quality {config.prepare.quality}, "
        "4:2:0, and decoded without interpolating colours; other frames give slightly other "
        "scores."
    )


def _output(config) -> str:
    kind, over = "softmax: a clip's scores sum to 1", "mean"
    if config.data.multi_label:
        kind, over = "sigmoid: each class by itself", "maximum"
    return (
        f"`scores`, float32, `B x K`; {kind}. `classes.json` names the K classes in this order. "
        f"The scores of a video are the {over} over {config.eval.clips} clips, spread evenly, "
        f"times {config.eval.crops} crops, in evaluation."
    )


def _settings(config) -> str:
    values = settings(config)
    rows = [
        f"| `{name}` | `{json.dumps(value)}` |"
        for name, value in values.items()
        if not name.startswith(_NOT_SHOWN)
    ]
    return "\n".join(["| setting | value |", "|---|---|", *rows])
