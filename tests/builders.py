"""What the tests of builders share."""

import contextlib
import io
import pathlib

import numpy as np
import pytest

from mg_jax.errors import UserError
from mg_jax.input.datasets import frame_records, open_data_set, video_table
from mg_jax.tools.prepare import prepare
from tests import videos
from tests.preparations import changed, message_of


def contents(config, split):
    """By video: its labels and how many frames are stored; they are the video's, in order."""
    data_set = open_data_set(config)
    table, frames = video_table(data_set, split), frame_records(data_set, split)
    found = {}
    for row, (name, first, count) in enumerate(
        zip(table.ids.tolist(), table.first_frame, table.source_frames, strict=True)
    ):
        assert videos.numbers(frames.jpegs(first + np.arange(count))) == list(range(count))
        found[name] = (np.flatnonzero(table.labels(np.array([row]))[0]).tolist(), int(count))
    return found


def refused(config, message):
    """Preparing ends with the message and leaves nothing behind."""
    with pytest.raises(UserError, match=message):
        prepare(config)
    assert not pathlib.Path(config.data.dir).exists()


def understood(config, **prepare_settings):
    """What preparing says of its source before it decodes anything."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        prepare(changed(config, dry_run=True, **prepare_settings))
    assert not pathlib.Path(config.data.dir).exists()
    return printed.getvalue()


def wrong(config):
    """What preparing says is wrong, before it decodes anything."""
    return message_of(prepare, changed(config, dry_run=True))


def labels_of(text):
    """Class names of a summary."""
    (line,) = [line for line in text.splitlines() if line.startswith("  classes: ")]
    return line.rpartition(": ")[2]
