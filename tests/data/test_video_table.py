"""Fingerprints of video tables: what two processes, or two days, must have in common."""

import dataclasses

import numpy as np
import pytest

from data.format.video_table import Actions, VideoTable

TABLE = VideoTable(
    ids=np.array(["1", "11", "ü/日本 b"]),
    first_frame=np.array([0, 40, 80]),
    source_frames=np.array([40, 40, 12]),
    height=np.array([64, 64, 48]),
    width=np.array([96, 80, 64]),
    actions=Actions(
        row=np.array([0, 1, 1]),
        label=np.array([2, 0, 3], np.int32),
        start=np.array([0, 0, 5]),
        end=np.array([40, 40, 30]),
    ),
    classes=4,
)


def with_actions(**changed):
    return dataclasses.replace(TABLE, actions=dataclasses.replace(TABLE.actions, **changed))


def rows(*order):
    """Some of the videos, without labels."""
    none = np.array([], np.int64)
    columns = ("ids", "first_frame", "source_frames", "height", "width")
    return VideoTable(
        **{name: getattr(TABLE, name)[list(order)] for name in columns},
        actions=Actions(none, none, none, none),
        classes=4,
    )


@pytest.mark.parametrize(
    "other",
    [
        dataclasses.replace(TABLE, ids=np.array(["11", "1", "ü/日本 b"])),
        dataclasses.replace(TABLE, ids=np.array(["1", '1", "1', "ü/日本 b"])),
        dataclasses.replace(TABLE, source_frames=np.array([40, 41, 12])),
        dataclasses.replace(TABLE, height=np.array([64, 64, 49])),
        dataclasses.replace(TABLE, width=np.array([96, 80, 65])),
        dataclasses.replace(TABLE, height=TABLE.width, width=TABLE.height),
        dataclasses.replace(TABLE, classes=5),
        dataclasses.replace(TABLE, frame_step=2),
        with_actions(row=np.array([0, 0, 1])),
        with_actions(label=np.array([2, 1, 3], np.int32)),
        with_actions(start=np.array([0, 0, 6])),
        with_actions(end=np.array([40, 40, 31])),
    ],
)
def test_whatever_training_takes_from_a_table_changes_its_fingerprint(other):
    assert other.fingerprints() != TABLE.fingerprints()


def test_the_part_that_differs_is_named():
    other = with_actions(end=np.array([40, 40, 31]))
    found, expected = other.fingerprints(), TABLE.fingerprints()
    assert {name for name in expected if found[name] != expected[name]} == {"labels"}


def test_the_order_and_the_number_of_videos_change_it():
    orders = ((0, 1, 2), (0, 2, 1), (0, 1), (0,), ())
    found = {tuple(rows(*order).fingerprints().values()) for order in orders}
    assert len(found) == 5


def test_where_frames_are_stored_and_how_numbers_are_held_does_not():
    moved = dataclasses.replace(TABLE, first_frame=TABLE.first_frame + 100)
    wider = with_actions(label=TABLE.actions.label.astype(np.int64))
    strided = dataclasses.replace(TABLE, source_frames=np.repeat(TABLE.source_frames, 2)[::2])
    longer = dataclasses.replace(TABLE, ids=TABLE.ids.astype("U100"))
    for other in (moved, wider, strided, longer):
        assert other.fingerprints() == TABLE.fingerprints()
    assert {len(value) for value in TABLE.fingerprints().values()} == {64}
