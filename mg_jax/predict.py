"""The classes of any video file."""

import pathlib
from typing import Any

import jax
import numpy as np

from data.video_frames import Frames, VideoError, read_frames
from mg_jax.checkpoint import check_config, read_best
from mg_jax.datasets import Stored, describe
from mg_jax.evaluate_step import view_scores
from mg_jax.input_pipeline import video_views
from mg_jax.models import create_model
from mg_jax.programs import cache_programs
from mg_jax.recipe import schedule_from_config
from mg_jax.sampling import VideoTable, evaluation_views
from mg_jax.train_step import init_variables
from mg_jax.weights.layout import to_variables
from mg_jax.weights.load import load_weights

_TOP = 5
# What of a config a trained model is applied with.
_APPLIED = ("model.", "frames", "data.name", "data.stride")


def predict(config, video: pathlib.Path, workdir: pathlib.Path | None) -> str:
    """The best classes of a video with their scores, a line each.

    It is seen as a test video of the data set is: frames stored in the same size and quality,
    eval.clips x eval.crops views, scores averaged after softmax.

    Args:
      config: of the model.
      video: any file that FFmpeg reads.
      workdir: whose best checkpoint to use; without one, the weights of config.init_from.

    Raises:
      ValueError: if the video, the weights or the settings cannot be used.
    """
    schedule_from_config(config)
    stored = describe(config)
    classes = stored.classes or [f"class {k}" for k in range(config.model.num_classes)]
    if len(classes) != config.model.num_classes:
        raise ValueError(
            f"model.num_classes={config.model.num_classes}, but data set {config.data.name} has "
            f"{len(classes)} classes; give the --config.data.name that the model was trained on"
        )
    source, variables = _weights(config, workdir)
    frames = _read(video, stored)
    scores_K = scores(config, variables, frames)
    lines = [f"{video}: {len(frames.jpegs)} frames; {source}"]
    for k in np.argsort(-scores_K, kind="stable")[:_TOP]:
        lines.append(f"{scores_K[k]:7.2%}  {classes[k]}")
    if stored.classes is None:
        lines.append(f"Class names are in data set {config.data.name}, which is not prepared here.")
    return "\n".join(lines)


def scores(config, variables: dict[str, Any], frames: Frames) -> np.ndarray:
    """Scores of a video's classes, `K` float32.

    Args:
      config: of the model.
      variables: `params` and `batch_stats`.
      frames: of the video.
    """
    views = evaluation_views(config, config.eval.clips, config.eval.crops)
    table = VideoTable(
        ids=np.array(["video"]),
        label=np.array([0], np.int32),
        first_frame=np.array([0]),
        num_frames=np.array([len(frames.jpegs)]),
        height=np.array([frames.height]),
        width=np.array([frames.width]),
    )
    model = create_model(config.model, train=False)
    step = jax.jit(lambda variables, clips_BVTHWC: view_scores(model, variables, clips_BVTHWC))
    variables = jax.device_put(variables)
    # One view at a time, so that many large ones fit.
    views_VTHWC = video_views(frames.jpegs, table, views)
    return np.mean([step(variables, view_THWC[None, None])[0] for view_THWC in views_VTHWC], 0)


def _read(video: pathlib.Path, stored: Stored) -> Frames:
    try:
        return read_frames(video, stored.short_side, stored.quality)
    except VideoError as error:
        raise ValueError(f"--video={video} cannot be read: {error}") from error


def _weights(config, workdir: pathlib.Path | None) -> tuple[str, dict[str, Any]]:
    """Where they come from, in words, and the variables."""
    cache_programs(config.run.cache_dir)
    if workdir is not None:
        check_config(workdir, config, _APPLIED)
        best = read_best(workdir)
        return f"{workdir}, {best}", best.variables
    if not config.init_from:
        raise ValueError(
            "no weights to predict with; give a --workdir with checkpoints, or a file of weights "
            "as --config.init_from=FILE"
        )
    shapes = jax.eval_shape(lambda: init_variables(config))
    loaded = load_weights(pathlib.Path(config.init_from).expanduser(), shapes)
    if loaded.account.initialised:
        raise ValueError(
            f"{loaded.account}\nPredicting needs all of them: the weights of a video model, with "
            "--config.model.num_classes as they were trained"
        )
    return str(loaded.account), to_variables(loaded.tensors)
