"""What the tests of preparation share."""

import csv
import pathlib

import numpy as np
import pytest
from PIL import Image

from data.preparation.video_frames import read_frames
from mg_jax.errors import UserError
from mg_jax.input.datasets import open_data_set

NAME = "video_folder/mine"


def read(path, short_side=256, quality=90, **settings):
    return read_frames(path, short_side, quality, **settings)


def listed(config, name):
    """The rows of a list beside the data set: `skipped.csv` or `remarks.csv`."""
    path = pathlib.Path(open_data_set(config).data_path) / name
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def message_of(function, *arguments):
    """The message with which a call is refused."""
    with pytest.raises(UserError, match=r"\w") as raised:
        function(*arguments)
    return str(raised.value)


def changed(config, **prepare):
    config = config.copy_and_resolve_references()
    config.prepare.update(prepare)
    return config


def records(config):
    """All that a data set holds."""
    data_set = open_data_set(config)
    return {split: list(data_set.as_data_source(split)) for split in data_set.info.splits}


def write_noise(path, seed, count=16):
    """Frames of 128 x 96 pixels that take some space, about 7 KB each."""
    rng = np.random.default_rng(seed)
    path.mkdir(parents=True)
    for i in range(count):
        pixels = rng.integers(0, 256, (48, 64, 3), np.uint8)
        Image.fromarray(pixels).resize((128, 96)).save(path / f"{i}.jpg", quality=95)


def parts_folder(config):
    return pathlib.Path(config.data.dir) / "video_folder" / "mine" / "2.0.0.parts"
