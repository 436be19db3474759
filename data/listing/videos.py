"""What a builder lists: videos with their labels, in splits."""

import dataclasses
import math
import pathlib

# Version of the format of prepared data sets; only this one is read.
FORMAT = "2.0.0"


@dataclasses.dataclass(frozen=True)
class Action:
    """A label over a part of a video, by default all of it.

    Attributes:
      label: index of the class.
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
      where: file and line of the list that names it; empty where none does.
      group: videos of a group stay together in splitting; empty for a group of its own.
    """

    id: str
    path: pathlib.Path
    actions: tuple[Action, ...]
    fps: float = 0.0
    where: str = dataclasses.field(default="", compare=False)
    group: str = dataclasses.field(default="", compare=False)

    @property
    def found(self) -> str:
        """Where it was found: in a list, or else on the disk."""
        return f"{self.where}: {self.id}" if self.where else str(self.path)


@dataclasses.dataclass(frozen=True)
class Listing:
    """All videos of a data set, as its lists name them, whether they can be read or not.

    Attributes:
      classes: names, by index.
      splits: videos by split.
      classes_from: how the classes were found, for people to read.
      classes_given: whether a file lists the classes; otherwise they are those that occur.
      read_from: the list or folder of each split, for people to read.
    """

    classes: list[str]
    splits: dict[str, list[Video]]
    classes_from: str = ""
    classes_given: bool = True
    read_from: dict[str, str] = dataclasses.field(default_factory=dict)
