"""Something-Something V2 (Goyal et al., 2017)."""

import pathlib
import re
from typing import Any

from data.builder import VideoBuilder
from data.listing import lists
from data.listing.class_folders import VideosByStem
from data.listing.findings import Findings
from data.listing.list_files import read_json, read_json_list
from data.listing.videos import Action, Listing, Video
from mg_jax.errors import UserError

FPS = 12.0  # of the WebM files, and so of frame folders made from them
SPLITS = ("train", "validation")


class Builder(VideoBuilder):
    """Something-Something V2 from its official files.

    `prepare.source` holds `something-something-v2-labels.json`, `-train.json` and
    `-validation.json`, and in `prepare.videos` the WebM files `ID.webm` or frame folders `ID`.
    """

    def listing(self, findings: Findings) -> Listing:
        """The official lists.

        Raises:
          UserError: if a file is missing or cannot be read.
        """
        path = self._file("labels")
        labels = read_json(path)
        if not isinstance(labels, dict) or not all(_is_number(n) for n in labels.values()):
            raise UserError(f"{path} must be a JSON object that gives each label its number")
        numbers = {name: int(number) for name, number in labels.items()}
        if sorted(numbers.values()) != list(range(len(numbers))):
            raise UserError(f"{path}: labels must be numbered 0 ... {len(numbers) - 1}, each once")
        paths = {split: self._file(split) for split in SPLITS}
        found = VideosByStem(self.settings.source / self.settings.videos, ".webm", findings)
        splits = {
            split: self._split(path, numbers, found, findings) for split, path in paths.items()
        }
        read_from = {split: path.name for split, path in paths.items()}
        return Listing(sorted(numbers, key=numbers.get), splits, path.name, True, read_from)

    def _split(
        self,
        path: pathlib.Path,
        numbers: dict[str, int],
        found: VideosByStem,
        findings: Findings,
    ) -> list[Video]:
        videos = []
        for where, entry in read_json_list(path):
            texts = (
                [entry.get(name) for name in ("id", "template")] if isinstance(entry, dict) else []
            )
            if not texts or not all(isinstance(text, str) and text for text in texts):
                findings.error(
                    f"{where}: {str(entry)[:100]}", "every entry is a video with id and template"
                )
                continue
            name, template = entry["id"], entry["template"].replace("[", "").replace("]", "")
            if template not in numbers:
                findings.error(
                    f"{where}: the template of video {name}, {template!r}, is none of the "
                    f"{len(numbers)} labels",
                    f"templates are those of {self._file('labels').name}",
                )
                continue
            if video := found.path(name, where):
                videos.append(Video(name, video, (Action(numbers[template]),), FPS, where))
        return videos

    def _file(self, name: str) -> pathlib.Path:
        path = self.settings.source / f"something-something-v2-{name}.json"
        return lists.required(path, "the official labels and splits of Something-Something V2")


def _is_number(value: Any) -> bool:
    return isinstance(value, (str, int)) and re.fullmatch("[0-9]{1,6}", str(value)) is not None
