"""One part of a split: some videos whose frames are in one file, written whole or not at all.

A part is what a worker process does at a time, and what a preparation that was interrupted need not
do again. The files of frames become the shards of the prepared data set as they are.
"""

import contextlib
import csv
import dataclasses
import json
import math
import pathlib
from collections.abc import Iterator
from typing import Any

from array_record.python.array_record_module import ArrayRecordWriter
from tensorflow_datasets.proto import tf_example_pb2, tf_feature_pb2

from data.format.stored_jpegs import WriteError
from data.listing.videos import Video
from data.preparation.video_file import VideoError
from data.preparation.video_frames import Frames, read_frames
from data.preparation.workers import Tally
from mg_jax.machine.atomic_file import replaced, write_text

SKIPPED = "skipped.csv"  # split, id, path and reason of videos that could not be read
REMARKS = "remarks.csv"  # split, id, path and remark of videos that are stored, but are odd

# A group for each record, so that frames can be read singly; JPEGs cannot be compressed further.
_RECORDS = "group_size:1,uncompressed"


@dataclasses.dataclass(frozen=True)
class Stored:
    """How frames are stored.

    Attributes:
      short_side: largest length of a frame's short side, pixels.
      quality: of the JPEGs.
      frame_step: frames 0, step, 2 step ... of the source are kept.
    """

    short_side: int
    quality: int
    frame_step: int

    def read(self, video: Video, folder: pathlib.Path, tally: Tally) -> Frames:
        """The video's frames, counted by the tally; those of long videos are kept in the folder.

        Raises:
          VideoError: if it cannot be read.
          WriteError: if the disk is full.
        """
        how = self.short_side, self.quality, self.frame_step, video.fps
        return read_frames(video.path, *how, folder, tally.add_frame)


@dataclasses.dataclass(frozen=True)
class Part:
    """Some videos of a split.

    Attributes:
      split: its name.
      index: of the part in the split.
      videos: in order.
    """

    split: str
    index: int
    videos: tuple[Video, ...]

    @property
    def name(self) -> str:
        """What its files are called, up to a suffix."""
        return f"{self.split}-{self.index:05d}"

    def path(self, folder: pathlib.Path) -> pathlib.Path:
        """The file of its frames."""
        return folder / f"{self.name}.array_record"

    def report_path(self, folder: pathlib.Path) -> pathlib.Path:
        """The report on that file; it exists only when the part is whole."""
        return folder / f"{self.name}.json"

    def skipped_path(self, folder: pathlib.Path) -> pathlib.Path:
        """The list of videos that could not be read; it exists only until the part is whole."""
        return folder / f"{self.name}.{SKIPPED}"

    def is_whole(self, folder: pathlib.Path) -> bool:
        """Whether both files are there; that of frames may have been moved away."""
        return self.report_path(folder).exists() and self.path(folder).exists()


def write_part(part: Part, tally: Tally, folder: pathlib.Path, stored: Stored) -> None:
    """Reads the part's videos and writes its files.

    Args:
      part: the videos.
      tally: counts frames, and videos by whether they could be read.
      folder: of all parts; videos that cannot be read are listed there at once.
      stored: how to store frames.

    Raises:
      WriteError: if the disk is full; no file of this part is left then.
    """
    report = {"videos": [], "skipped": [], "remarks": []}
    path, skipped_path = part.path(folder), part.skipped_path(folder)
    skipped_path.unlink(missing_ok=True)  # of a process that was killed
    with replaced(path) as unfinished:
        with _open_writer(unfinished) as writer:
            for video in part.videos:
                try:
                    frames = stored.read(video, folder, tally)
                except VideoError as error:
                    skipped = {"id": video.id, "path": str(video.path), "reason": str(error)}
                    report["skipped"].append(skipped)
                    with skipped_path.open("a", newline="", encoding="utf-8") as file:
                        csv.writer(file).writerow([part.split, *skipped.values()])
                    tally.add_video(False)
                    continue
                with contextlib.closing(frames.jpegs):
                    for jpeg in frames.jpegs:
                        writer.write(frame_example(video.id, jpeg))
                _check(writer, unfinished)
                report["videos"].append(_record(video, frames))
                about = {"id": video.id, "path": str(video.path)}
                report["remarks"] += [{**about, "remark": remark} for remark in frames.remarks]
                tally.add_video(True)
        report["bytes"] = unfinished.stat().st_size
    write_text(part.report_path(folder), json.dumps(report))
    skipped_path.unlink(missing_ok=True)
    tally.add_whole(len(part.videos))


def write_videos(path: pathlib.Path, records: list[dict[str, Any]]) -> None:
    """Writes the records of a split's videos."""
    with replaced(path) as unfinished, _open_writer(unfinished) as writer:
        for record in records:
            writer.write(_example({**record, "jpeg": b""}))


def frame_example(video_id: str, jpeg: bytes) -> bytes:
    """The record of a frame; its fields for videos are empty."""
    return _example({"id": video_id, "jpeg": jpeg, **_NO_VIDEO})


_NO_VIDEO = {
    "labels": [],
    "starts": [],
    "ends": [],
    "first_frame": -1,
    "num_frames": 0,
    "source_frames": 0,
    "height": 0,
    "width": 0,
    "fps": 0.0,
}


def _record(video: Video, frames: Frames) -> dict[str, Any]:
    """The record of a video without `first_frame`, which depends on the parts before."""
    spans = [_span(action.start, action.end, frames) for action in video.actions]
    return {
        "id": video.id,
        "labels": [action.label for action in video.actions],
        "starts": [start for start, _ in spans],
        "ends": [end for _, end in spans],
        "num_frames": len(frames.jpegs),
        "source_frames": frames.source_frames,
        "height": frames.height,
        "width": frames.width,
        "fps": frames.fps,
    }


def _span(start: float, end: float, frames: Frames) -> tuple[int, int]:
    """Source frames [first, end) whose time, frame index / fps, lies in start ... end seconds."""
    first = math.ceil(start * frames.fps - 1e-6)
    if math.isinf(end):
        return first, frames.source_frames
    return first, min(math.floor(end * frames.fps + 1e-6) + 1, frames.source_frames)


def _example(fields: dict[str, Any]) -> bytes:
    example = tf_example_pb2.Example(
        features=tf_feature_pb2.Features(feature={k: _feature(v) for k, v in fields.items()})
    )
    # Otherwise each process has an order of its own.
    return example.SerializeToString(deterministic=True)


def _feature(value: str | bytes | float | int | list[int]) -> tf_feature_pb2.Feature:
    if isinstance(value, str):
        value = value.encode()
    if isinstance(value, bytes):
        return tf_feature_pb2.Feature(bytes_list=tf_feature_pb2.BytesList(value=[value]))
    if isinstance(value, float):
        return tf_feature_pb2.Feature(float_list=tf_feature_pb2.FloatList(value=[value]))
    numbers = value if isinstance(value, list) else [value]
    return tf_feature_pb2.Feature(int64_list=tf_feature_pb2.Int64List(value=numbers))


@contextlib.contextmanager
def _open_writer(path: pathlib.Path) -> Iterator[ArrayRecordWriter]:
    writer = ArrayRecordWriter(str(path), _RECORDS)
    try:
        yield writer
        _check(writer, path)
    finally:
        # Writing is buffered, so that a full disk may show only here.
        try:
            writer.close()
        except RuntimeError as error:
            raise WriteError(f"{path.parent} cannot be written to: {error}") from error


def _check(writer: ArrayRecordWriter, path: pathlib.Path) -> None:
    if not writer.ok():
        raise WriteError(f"{path.parent} cannot be written to")
