"""Something-Something V2 (Goyal et al., 2017)."""

import json
import pathlib
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
        numbers = {name: int(number) for name, number in _read_json(path).items()}
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
        for entry in _read_json(path):
            template = entry["template"].replace("[", "").replace("]", "")
            if template not in numbers:
                raise ValueError(
                    f"{path}: the template of video {entry['id']}, {template!r}, is none of the "
                    f"{len(numbers)} labels of {self._file('labels').name}"
                )
            video = found.get(entry["id"], folder / f"{entry['id']}.webm")
            videos.append(Video(entry["id"], video, (Action(numbers[template]),), FPS))
        return videos

    def _file(self, name: str) -> pathlib.Path:
        path = self.settings.source / f"something-something-v2-{name}.json"
        return lists.required(path, "the official labels and splits of Something-Something V2")


def _read_json(path: pathlib.Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not JSON: {error}") from error
