"""What a builder lists: videos with their labels, in splits."""

import dataclasses
import math
import os
import pathlib

# Version of the format of prepared data sets; what is read must be of the same.
FORMAT = "2.0.0"


@dataclasses.dataclass(frozen=True)
class Action:
    """A label over a part of a video, by default all of it.

    Attributes:
      label: number of the class.
      start: seconds.
      end: seconds, inclusive.
    """

    label: int
    start: float = 0.0
    end: float = math.inf


@dataclasses.dataclass(frozen=True)
class Video:
    """A video of a split.

    Attributes:
      id: unique name within the split.
      path: a file, or a folder of images.
      actions: its labels.
      fps: of a folder of images.
    """

    id: str
    path: pathlib.Path
    actions: tuple[Action, ...]
    fps: float = 0.0


@dataclasses.dataclass(frozen=True)
class Listing:
    """All videos of a data set, as its lists name them, whether they can be read or not.

    Attributes:
      classes: names, at their numbers.
      splits: videos by split.
    """

    classes: list[str]
    splits: dict[str, list[Video]]


def missing(videos: list[Video]) -> list[Video]:
    """Those whose path does not exist; every folder is looked into once."""
    there: dict[pathlib.Path, set[str]] = {}
    absent = []
    for video in videos:
        folder = video.path.parent
        if folder not in there:
            there[folder] = set(os.listdir(folder)) if folder.is_dir() else set()
        if video.path.name not in there[folder]:
            absent.append(video)
    return absent
