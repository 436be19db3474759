"""The classes of any video file."""

import functools
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from mg_jax.errors import UserError
from mg_jax.input.datasets import class_names, open_data_set, stored
from mg_jax.input.prepared import is_prepared, with_classes
from mg_jax.input.sampling import all_views
from mg_jax.models import create_model
from mg_jax.runtime.program_cache import cache_programs
from mg_jax.tools.checks import check_weights
from mg_jax.tools.raw_videos import read_video
from mg_jax.training.evaluation_step import view_scores
from mg_jax.training.programs import options_here
from mg_jax.training.state import draw_variables, init_variables
from mg_jax.weights.layout import to_variables
from mg_jax.weights.load import load_weights
from mg_jax.workdir.checkpoint import read_best
from mg_jax.workdir.config import read_classes
from mg_jax.workdir.video_scores import TOP

# Path of the layer that classifies.
CLASSIFIER = ("head", "projection")


def predict(config, video: pathlib.Path, workdir: pathlib.Path | None) -> str:
    """The best classes of a video with their scores, a line each, below remarks on the video.

    It is treated as a test video of the data set: frames are stored in the same size and quality,
    and scores of eval.clips x eval.crops views averaged after softmax, or with several labels
    their maximum taken after sigmoids.

    Args:
      config: of the model.
      video: any file that FFmpeg reads.
      workdir: whose best checkpoint to use; without one, the weights of config.init_from.

    Raises:
      UserError: if the video, the weights or the settings cannot be used.
    """
    config = checked(config, workdir)
    source, variables, classes = weights(config, workdir)
    read = read_video(video, stored(config), all_views(config))
    if read.error:
        raise UserError(f"--video={video} cannot be read: {read.error}")
    scores_K = scorer(config, variables)(read.views_VTHWC)
    lines = [f"{video}: {read.source_frames} frames; {source}"]
    lines += [f"look at the video: {remark}" for remark in read.remarks]
    for k in np.argsort(-scores_K, kind="stable")[:TOP]:
        lines.append(f"{scores_K[k]:7.2%}  {classes[k] if classes else f'class {k}'}")
    if classes is None:
        lines.append(f"Class names are in data set {config.data.name}, which is not prepared here.")
    return "\n".join(lines)


def checked(config, workdir: pathlib.Path | None):
    """The config with the number of classes of the weights that will be applied.

    Raises:
      UserError: if there are no weights, or a setting is invalid.
    """
    check_weights(config, workdir)
    # The classes of weights that name theirs come before the data set's.
    path = pathlib.Path(config.init_from).expanduser() if workdir is None else workdir
    return with_classes(config, path)


def scorer(config, variables: dict[str, Any]) -> Callable[[np.ndarray], np.ndarray]:
    """What gives the scores `K` float32 of a video's views `V T h h 3` uint8."""
    model = create_model(config.model, train=False)
    multi_label = config.data.multi_label
    step = jax.jit(
        functools.partial(view_scores, model, data=config.data),
        compiler_options=options_here(config),
    )
    variables = jax.device_put(variables)

    def score(views_VTHWC: np.ndarray) -> np.ndarray:
        # One view at a time, so that many large ones fit into memory.
        scores_VK = [step(variables, view_THWC[None, None])[0] for view_THWC in views_VTHWC]
        return np.max(scores_VK, 0) if multi_label else np.mean(scores_VK, 0)

    return score


def weights(
    config, workdir: pathlib.Path | None, *, classifier: bool = True
) -> tuple[str, dict[str, Any], list[str] | None]:
    """The weights' origin in words, the variables, and the names of the classes where known.

    Args:
      config: of the model.
      workdir: whose best checkpoint to use; without one, the weights of config.init_from.
      classifier: whether a file must hold the classifier; without it names are not looked for.

    Raises:
      UserError: if the weights are not there or are another network's.
    """
    cache_programs(config.run.cache_dir, jax.default_backend())
    if workdir is not None:
        best = read_best(workdir)
        return f"{workdir}, {best}", best.variables, best.classes
    shapes = jax.eval_shape(lambda: init_variables(config))
    path = pathlib.Path(config.init_from).expanduser()
    loaded = load_weights(path, shapes, config=config)
    initialised = loaded.account.initialised
    if not classifier:
        own = ".".join((*CLASSIFIER, ""))
        initialised = [name for name in initialised if not name.startswith(own)]
    if initialised:
        raise UserError(
            f"{loaded.account}\nPredicting needs all of them: the weights of a video model, with "
            "--config.model.num_classes as they were trained"
        )
    if not classifier:
        return str(loaded.account), loaded.variables(lambda: draw_variables(config)), None
    classes = read_classes(path) if path.is_dir() else _data_set_classes(config)
    return str(loaded.account), to_variables(loaded.tensors), classes


def _data_set_classes(config) -> list[str] | None:
    """Names of the prepared data set's classes; None where it is not prepared."""
    if not is_prepared(config):
        return None
    classes = class_names(open_data_set(config))
    if len(classes) != config.model.num_classes:
        raise UserError(
            f"model.num_classes={config.model.num_classes}, but data set {config.data.name} has "
            f"{len(classes)} classes; give the --config.data.name that the model was trained on"
        )
    return classes
