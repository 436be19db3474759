"""Charades (Sigurdsson et al., 2016): videos with any number of timed actions."""

import math
import pathlib

from data import lists
from data.builder import VideoBuilder
from data.videos import Action, Listing, Video

FPS = 24.0  # of the official frame folders
SPLITS = {"train": "Charades_v1_train.csv", "test": "Charades_v1_test.csv"}
CLASSES = "Charades_v1_classes.txt"


class Builder(VideoBuilder):
    """Charades from its official files.

    `prepare.source` holds `Charades_v1_train.csv`, `Charades_v1_test.csv` and
    `Charades_v1_classes.txt`, and in `prepare.videos` the videos `ID.mp4` or the folders `ID` of
    frames at 24 per second.
    """

    def listing(self) -> Listing:
        """The official lists.

        Raises:
          ValueError: if a file is missing or an action cannot be read.
        """
        source = self.settings.source
        what = "an official file of Charades"
        path = lists.required(source / CLASSES, what)
        # Each line is a code, c000 ..., and the name.
        lines = lists.read_lines(path)
        codes = {line.split()[0]: k for k, line in enumerate(lines)}
        classes = [line.split(maxsplit=1)[-1] for line in lines]
        found = lists.indexed(source / self.settings.videos)
        splits = {
            split: self._split(lists.required(source / name, what), codes, found)
            for split, name in SPLITS.items()
        }
        return Listing(classes, splits)

    def _split(
        self, path: pathlib.Path, codes: dict[str, int], found: dict[str, pathlib.Path]
    ) -> list[Video]:
        folder = self.settings.source / self.settings.videos
        videos = []
        for row in lists.table_rows(path, ("id", "actions")):
            where = f"{path}, video {row['id']}"
            actions = [_action(text, codes, where) for text in row["actions"].split(";") if text]
            name = lists.path_inside(folder, f"{row['id']}.mp4", where)
            video = found.get(row["id"], folder / name)
            videos.append(Video(row["id"], video, tuple(actions), FPS))
        return videos


def _action(text: str, codes: dict[str, int], where: str) -> Action:
    """`c092 11.90 21.20`: class, start and end in seconds."""
    try:
        code, *times = text.split()
        start, end = map(float, times)
        if not (math.isfinite(start) and math.isfinite(end)):
            raise ValueError
        return Action(codes[code], start, end)
    except KeyError as error:
        raise ValueError(f"{where}: {code} is none of the {len(codes)} classes") from error
    except ValueError as error:
        raise ValueError(
            f"{where}: action {text!r} is not a class, a start and an end in seconds"
        ) from error
