"""The videos of a split in memory: sizes, lengths and labels, a row each."""

import dataclasses
import hashlib
import json

import numpy as np


@dataclasses.dataclass(frozen=True)
class Actions:
    """Labels over parts of videos, those of one video after the other.

    Attributes:
      row: of the video table, ascending, int64.
      label: int32.
      start: source frame, int64.
      end: source frame, exclusive, int64.
    """

    row: np.ndarray
    label: np.ndarray
    start: np.ndarray
    end: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class VideoTable:
    """The videos of a split, a row each; two are the same only if they are one object.

    Attributes:
      ids: names, str.
      first_frame: record index of the first frame, int64.
      source_frames: that the source file has, int64; fewer are stored if `frame_step` is not 1.
      height: of the frames as stored, pixels, int64.
      width: of the frames as stored, pixels, int64.
      actions: labels.
      classes: K, their number.
      frame_step: source frames 0, step, 2 step ... are stored.
    """

    ids: np.ndarray
    first_frame: np.ndarray
    source_frames: np.ndarray
    height: np.ndarray
    width: np.ndarray
    actions: Actions
    classes: int
    frame_step: int = 1

    def __len__(self) -> int:
        return len(self.ids)

    def fingerprints(self) -> dict[str, str]:
        """SHA-256, in hex, of each part of the table, by a name for messages.

        Together they cover all that training and evaluation take from it, in the order of the
        videos: everything but where frames are stored.
        """
        actions = self.actions
        # As JSON, since names that are only joined could be ambiguous.
        ids = hashlib.sha256(json.dumps(self.ids.tolist()).encode()).hexdigest()
        return {
            "ids": ids,
            "frame counts": _sha256(self.source_frames, np.array([self.frame_step])),
            "sizes": _sha256(self.height, self.width),
            "labels": _sha256(
                *(actions.row, actions.label, actions.start, actions.end),
                np.array([self.classes]),
            ),
        }

    def shape(self, row: int) -> tuple[int, int]:
        """Height and width of a video's frames as stored, pixels."""
        return int(self.height[row]), int(self.width[row])

    def records(self, rows_B: np.ndarray, frames_BT: np.ndarray) -> np.ndarray:
        """Record indices of source frames, `B T` int64.

        A frame before the start or past the end gives the first or last one; one that is not
        stored gives the nearest stored one.
        """
        last_B1 = self.source_frames[rows_B, None] - 1
        step = self.frame_step
        stored_BT = (np.clip(frames_BT, 0, last_B1) + step // 2) // step
        return self.first_frame[rows_B, None] + np.minimum(stored_BT, last_B1 // step)

    def label(self, rows_B: np.ndarray) -> np.ndarray:
        """The one label of each video, `B` int32."""
        return self.actions.label[np.searchsorted(self.actions.row, rows_B)]

    def labels(self, rows_B: np.ndarray) -> np.ndarray:
        """All labels of each video, `B K` uint8: 1 where it carries the label."""
        return self._multi_hot(rows_B, None)

    def labels_within(self, rows_B: np.ndarray, frames_BT: np.ndarray) -> np.ndarray:
        """Labels that hold anywhere from a clip's first to its last source frame, `B K` uint8."""
        span_2B = np.stack([frames_BT.min(1), frames_BT.max(1)])
        return self._multi_hot(rows_B, np.minimum(span_2B, self.source_frames[rows_B] - 1))

    def _multi_hot(self, rows_B: np.ndarray, span_2B: np.ndarray | None) -> np.ndarray:
        actions = self.actions
        labels_BK = np.zeros((len(rows_B), self.classes), np.uint8)
        firsts_B = np.searchsorted(actions.row, rows_B, "left")
        ends_B = np.searchsorted(actions.row, rows_B, "right")
        for b, (first, end) in enumerate(zip(firsts_B, ends_B, strict=True)):
            own = slice(first, end)
            holds = np.ones(end - first, bool)
            if span_2B is not None:
                holds = (actions.start[own] <= span_2B[1, b]) & (actions.end[own] > span_2B[0, b])
            labels_BK[b, actions.label[own][holds]] = 1
        return labels_BK


def _sha256(*columns: np.ndarray) -> str:
    """The digest of columns of integers, whatever their dtype."""
    digest = hashlib.sha256()
    for column in columns:
        digest.update(len(column).to_bytes(8, "little"))
        digest.update(np.ascontiguousarray(column, "<i8").tobytes())
    return digest.hexdigest()
