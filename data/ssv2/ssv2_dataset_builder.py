"""Something-Something V2 (Goyal et al., 2017)."""

import pathlib
import re
from typing import Any

from data import lists
from data.builder import VideoBuilder
from data.videos import Action, Listing, Video

FPS = 12.0  # of the WebM files, and so of frame folders made from them
SPLITS = ("train", "validation")


class Builder(VideoBuilder):
    """Something-Something V2 from its official files.

    `prepare.source` holds `something-something-v2-labels.json`, `-train.json` and
    `-validation.json`, and in `prepare.videos` the WebM files `ID.webm` or frame folders `ID`.
    """

    def listing(self) -> Listing:
        """The official lists.

        Raises:
          ValueError: if a file is missing or a template is none of the labels.
        """
        path = self._file("labels")
        labels = lists.read_json(path)
        if not isinstance(labels, dict) or not all(_is_number(n) for n in labels.values()):
            raise ValueError(f"{path} is no object of labels with their numbers")
        numbers = {name: int(number) for name, number in labels.items()}
        if sorted(numbers.values()) != list(range(len(numbers))):
            raise ValueError(f"{path}: labels must be numbered 0 ... {len(numbers) - 1}, each once")
        found = lists.indexed(self.settings.source / self.settings.videos)
        splits = {split: self._split(split, numbers, found) for split in SPLITS}
        return Listing(sorted(numbers, key=numbers.get), splits)

    def _split(
        self, split: str, numbers: dict[str, int], found: dict[str, pathlib.Path]
    ) -> list[Video]:
        path = self._file(split)
        folder = self.settings.source / self.settings.videos
        videos = []
        entries = lists.read_json(path)
        if not isinstance(entries, list):
            raise ValueError(f"{path} is no list of videos")
        for entry in entries:
            texts = (
                [entry.get(name) for name in ("id", "template")] if isinstance(entry, dict) else []
            )
            if not texts or not all(isinstance(text, str) and text for text in texts):
                raise ValueError(f"{path}: {str(entry)[:100]} is no video with id and template")
            template = entry["template"].replace("[", "").replace("]", "")
            if template not in numbers:
                raise ValueError(
                    f"{path}: the template of video {entry['id']}, {template!r}, is none of the "
                    f"{len(numbers)} labels of {self._file('labels').name}"
                )
            name = lists.path_inside(folder, f"{entry['id']}.webm", str(path))
            video = found.get(entry["id"], folder / name)
            videos.append(Video(entry["id"], video, (Action(numbers[template]),), FPS))
        return videos

    def _file(self, name: str) -> pathlib.Path:
        path = self.settings.source / f"something-something-v2-{name}.json"
        return lists.required(path, "the official labels and splits of Something-Something V2")


def _is_number(value: Any) -> bool:
    return isinstance(value, (str, int)) and re.fullmatch("[0-9]{1,6}", str(value)) is not None
