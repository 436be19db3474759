"""From lists with several labels to a trained model and its mean average precision."""

import csv
import json
import re

import numpy as np
import pytest

from mg_jax.errors import UserError
from mg_jax.input.datasets import open_source
from mg_jax.tools.prepare import prepare
from tests import runs, tiny

CLASSES = ["any", "left", "sideways"]


def labels_of(path):
    """Of a motion: `any` for all, and further ones for left and right."""
    motion = ["left", "right", "up", "down"][int(path.stem.split("_")[1]) % 4]
    return {"left": ["any", "left", "sideways"], "right": ["any", "sideways"]}.get(motion, ["any"])


@pytest.fixture(scope="module")
def settings(data_dir, tmp_path_factory):
    """Flags of a run on videos with one to three labels."""
    source = tmp_path_factory.mktemp("source")
    for split in ("train", "validation"):
        videos = sorted((data_dir / "downloads" / "moving_shapes" / split).glob("*.mp4"))
        with (source / f"{split}.csv").open("w", newline="") as file:
            csv.writer(file).writerows([path, *labels_of(path)] for path in videos)
    changes = {
        "data.name": "video_folder/several",
        "data.dir": str(source / "prepared"),
        "data.multi_label": True,
        "prepare.source": str(source),
        "prepare.videos": str(data_dir),
        "prepare.separator": ",",
        "model.num_classes": 3,
        "schedule.steps": (1,),
        "schedule.iterations": 3,
        "schedule.warmup_iterations": 0,
        "eval.times": 1,
    }
    config = tiny.get_config("baseline")
    config.update_from_flattened_dict({**changes, "prepare.workers": 1})
    prepare(config)
    return config, [f"--config.{name}={value}" for name, value in changes.items()]


def test_labels_of_lists_become_those_of_videos(settings):
    config, _ = settings
    source = open_source(config)
    assert source.classes == CLASSES
    labels_NK = source.evaluation.videos.labels(np.arange(11))
    np.testing.assert_array_equal(labels_NK, [[1, i % 4 == 0, i % 4 < 2] for i in range(11)])


def test_one_label_asked_for_names_the_flag(settings):
    config = settings[0].copy_and_resolve_references()
    config.data.multi_label = False
    with pytest.raises(UserError, match=r"have 1 to 3 labels; set --config.data.multi_label=True"):
        open_source(config)


def test_a_run_trains_evaluates_and_predicts_with_sigmoids(settings, flags, data_dir, tmp_path):
    workdir, (_, changes) = tmp_path / "run", settings
    output = runs.run(workdir, *flags, *changes, config="tests/tiny.py:baseline")
    summary = runs.summary(workdir)
    assert set(summary["metrics"]) == {"loss", "map"}
    assert 0 < summary["metrics"]["map"] <= 1
    assert f"3 iterations, mAP {summary['metrics']['map']:.1%}" in output
    losses = runs.losses(workdir)
    # A fresh classifier is close to 0 for all: log 2 for each class.
    assert losses[1] == pytest.approx(np.log(2), rel=0.1)
    assert json.loads((workdir / "classes.json").read_text()) == CLASSES
    video = next((data_dir / "downloads" / "moving_shapes" / "validation").glob("*.mp4"))
    output = runs.run(
        workdir,
        *flags,
        *changes,
        f"--video={video}",
        config="tests/tiny.py:baseline",
        mode="predict",
    )
    rows = re.findall(r"^ *([\d.]+)%  (\w+)$", output, re.MULTILINE)
    assert {name for _, name in rows} == set(CLASSES)
    assert sum(float(share) for share, _ in rows) > 101  # each class for itself
