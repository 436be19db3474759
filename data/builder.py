"""The core that all data sets share: video files into frames that can be fetched singly.

A prepared data set has two splits for each of its own: `NAME`, a record for each video, and
`NAME_frames`, a record for each frame, all frames of a video in order. Training reads the frames of
a clip by record number, so a clip of few small frames costs little.
"""

import collections
import concurrent.futures
import dataclasses
import functools
import itertools
import multiprocessing
import os
import pathlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from absl import logging

from data.video_frames import Frames, VideoError, read_frames

# Videos in flight per worker: bounds the memory that decoded videos take.
_AHEAD = 4


@dataclasses.dataclass(frozen=True)
class Video:
    """A video file of a split.

    Attributes:
      id: unique name.
      path: of the file.
      label: name of its class.
    """

    id: str
    path: pathlib.Path
    label: str


def features(labels: Iterable[str]) -> tfds.features.FeaturesDict:
    """The records' fields; those of a frame repeat its video's.

    `jpeg` is the frame, and empty in the records of videos. `first_frame` is a record number of the
    split of frames. Sizes are those of the stored frames, in pixels.
    """
    return tfds.features.FeaturesDict(
        {
            "id": tfds.features.Text(),
            "label": tfds.features.ClassLabel(names=list(labels)),
            "jpeg": tfds.features.Tensor(shape=(), dtype=np.str_),
            "first_frame": np.int64,
            "num_frames": np.int64,
            "height": np.int64,
            "width": np.int64,
            "fps": np.float32,
        }
    )


class VideoWriter:
    """Turns videos into the examples of both splits and keeps account of those it cannot read.

    Attributes:
      short_side: of the stored frames at most, pixels.
      quality: of the JPEGs.
      skipped: reason by id of the videos that could not be read.
    """

    def __init__(self, short_side: int, quality: int = 90):
        self.short_side = short_side
        self.quality = quality
        self.skipped: dict[str, str] = {}

    @property
    def metadata(self) -> dict[str, Any]:
        """What the prepared data set says of itself."""
        return {
            "short_side": self.short_side,
            "quality": self.quality,
            "skipped": self.skipped,
        }

    def splits(self, name: str, videos: list[Video]) -> dict[str, Iterator]:
        """Generators of both splits. The frames come first, since the videos point to them."""
        records: list[dict[str, Any]] = []
        return {f"{name}_frames": self._frames(videos, records), name: enumerate(records)}

    def _frames(self, videos: list[Video], records: list[dict[str, Any]]) -> Iterator:
        first = 0
        for video, frames in self._decoded(videos):
            if isinstance(frames, VideoError):
                self.skipped[video.id] = str(frames)
                logging.warning("skipped %s: %s", video.path, frames)
                continue
            record = {
                "id": video.id,
                "label": video.label,
                "jpeg": b"",
                "first_frame": first,
                "num_frames": len(frames.jpegs),
                "height": frames.height,
                "width": frames.width,
                "fps": frames.fps,
            }
            records.append(record)
            for i, jpeg in enumerate(frames.jpegs):
                yield first + i, {**record, "jpeg": jpeg}
            first += len(frames.jpegs)

    def _decoded(self, videos: list[Video]) -> Iterator[tuple[Video, Frames | VideoError]]:
        """Decodes in worker processes, in order, a bounded number of videos ahead."""
        read = functools.partial(_read, short_side=self.short_side, quality=self.quality)
        yield from zip(videos, map_in_workers(read, videos), strict=True)


def _read(video: Video, short_side: int, quality: int) -> Frames | VideoError:
    try:
        return read_frames(video.path, short_side, quality)
    except VideoError as error:
        return error


def map_in_workers(function: Callable, items: Iterable) -> Iterator:
    """Results of `function` in order, from a process per core, a bounded number of items ahead."""
    workers = len(os.sched_getaffinity(0))
    # A fork would copy TensorFlow's threads in an undefined state.
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(workers, context) as pool:
        waiting = (pool.submit(function, item) for item in items)
        queue = collections.deque(itertools.islice(waiting, _AHEAD * workers))
        while queue:
            yield queue.popleft().result()
            queue.extend(itertools.islice(waiting, 1))
