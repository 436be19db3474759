"""Pooled features of videos, what the classifier gets: `--mode=features`."""

import functools
import json
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import flax.linen as nn
import jax
import numpy as np
import safetensors.numpy

from mg_jax.errors import UserError
from mg_jax.input.datasets import class_names, open_data_set, open_split, stored
from mg_jax.input.pipeline import host_batches, view_batches
from mg_jax.input.prepared import with_class_count
from mg_jax.input.sampling import Views, all_views, view_frames
from mg_jax.machine.atomic_file import replaced
from mg_jax.machine.cores import usable_cores
from mg_jax.machine.progress import shown
from mg_jax.models import create_model
from mg_jax.tools.checks import ARRAYS, check_output
from mg_jax.tools.predict import CLASSIFIER, checked, weights
from mg_jax.tools.predict_many import account, check_any_read, scored
from mg_jax.tools.raw_videos import RawVideo, find_videos, read_videos
from mg_jax.training.preprocess import normalize
from mg_jax.training.programs import options_here


def write_features(
    config,
    given: Sequence[pathlib.Path] | None,
    workdir: pathlib.Path | None,
    output: pathlib.Path,
    *,
    each_clip: bool,
) -> str:
    """Writes the features of videos: what the network pools before its classifier.

    The file holds `features`, float32, `N C`: of each video the mean over its eval.clips x
    eval.crops views; or with each_clip `N V C`, and `starts`, `N V`, the first source frame of
    each view. Beside them `ids` and, of prepared videos, `labels`, `N K` of 0 and 1, and `classes`;
    texts are metadata of safetensors, as JSON.

    Args:
      config: of the model.
      given: videos, folders and lists; None for the prepared split data.eval_split.
      workdir: whose best checkpoint to use; without one, the weights of config.init_from.
      output: file to write, `.npz` or `.safetensors`.
      each_clip: keep every view's features.

    Returns:
      What was written and what could not be read.

    Raises:
      UserError: if no video, or the weights, settings or output cannot be used.
    """
    check_output(output, ARRAYS)
    config = checked(_any_classes(config, workdir), workdir)
    if given is None:
        data_set = open_data_set(config)
        split = open_split(config, data_set, config.data.eval_split)
        videos, count = _prepared(split, all_views(config)), len(split.videos)
    else:
        paths = find_videos(given)
        readers = config.run.readers or usable_cores()
        videos = read_videos(paths, stored(config), all_views(config), readers)
        count = len(paths)
    source, variables, _ = weights(config, workdir, classifier=False)
    pooled = scored(shown(videos, "features", "video", count), pooler(config, variables))
    check_any_read([video for video, _ in pooled])
    rows_N = np.flatnonzero([features_VC is not None for _, features_VC in pooled])
    read, features = zip(*(pooled[row] for row in rows_N), strict=True)
    features_NVC = np.stack(features)
    arrays = {"features": features_NVC if each_clip else features_NVC.mean(1)}
    if each_clip:
        starts_NC = np.stack([video.frames_CT[:, 0] for video in read])
        arrays["starts"] = np.tile(starts_NC, (1, config.eval.crops))  # crop by crop
    texts = {"ids": [video.path for video in read]}
    if given is None:
        arrays["labels"] = split.videos.labels(rows_N)
        texts["classes"] = class_names(data_set)
    _write(output, arrays, texts)
    shape = " x ".join(map(str, arrays["features"].shape))
    said = account([video for video, _ in pooled], output, f", features {shape}")
    return f"{source}\n{said}"


def pooler(config, variables: dict[str, Any]) -> Callable[[np.ndarray], np.ndarray]:
    """What gives the features `V C` float32 of a video's views `V T h h 3` uint8."""
    model = create_model(config.model, train=False)

    @functools.partial(jax.jit, compiler_options=options_here(config))
    def step(variables, clips_BTHWC):
        found = []

        def catch(call, args, kwargs, context):
            if context.module.path == CLASSIFIER:
                found.append(args[0])
            return call(*args, **kwargs)

        with nn.intercept_methods(catch):
            model.apply(variables, normalize(clips_BTHWC, config.data))
        if not found:
            raise UserError(
                f"model.name={config.model.name} has no classifier {'/'.join(CLASSIFIER)}, before "
                "which features are taken"
            )
        return found[0]

    variables = jax.device_put(variables)

    def pooled(views_VTHWC: np.ndarray) -> np.ndarray:
        # One view at a time, so that many large ones fit into memory.
        return np.concatenate([step(variables, view_THWC[None]) for view_THWC in views_VTHWC])

    return pooled


def _any_classes(config, workdir: pathlib.Path | None):
    """The config; where a file of weights meets an open number of classes, with some number."""
    of_file = config.init_from and not pathlib.Path(config.init_from).expanduser().is_dir()
    return with_class_count(config, 1) if workdir is None and of_file else config


def _prepared(split, views: Views) -> Iterator[RawVideo]:
    """The videos of a prepared split in their order."""
    batches = host_batches(view_batches(split, views, 1), split.damaged)
    for row, batch in enumerate(batches):
        name = str(split.videos.ids[row])
        if not batch["weight"][0]:
            yield RawVideo(name, error="damaged")
            continue
        yield RawVideo(name, batch["clips"][0], view_frames(split.videos, row, views))


def _write(path: pathlib.Path, arrays: dict[str, np.ndarray], texts: dict[str, list[str]]) -> None:
    with replaced(path) as unfinished, unfinished.open("wb") as file:
        if path.suffix == ".npz":
            np.savez(file, **arrays, **{name: np.array(names) for name, names in texts.items()})
        else:
            metadata = {n: json.dumps(names, ensure_ascii=False) for n, names in texts.items()}
            file.write(safetensors.numpy.save(arrays, metadata=metadata))
