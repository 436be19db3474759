"""Charades (Sigurdsson et al., 2016): videos with any number of timed actions."""

import math
import pathlib

from data.builder import VideoBuilder
from data.listing import lists
from data.listing.class_folders import VideosByStem
from data.listing.findings import Findings
from data.listing.list_files import read_lines, read_table
from data.listing.videos import Action, Listing, Video
from mg_jax.errors import UserError

FPS = 24.0  # of the official frame folders
SPLITS = {"train": "Charades_v1_train.csv", "test": "Charades_v1_test.csv"}
CLASSES = "Charades_v1_classes.txt"


class Builder(VideoBuilder):
    """Charades from its official files.

    `prepare.source` holds `Charades_v1_train.csv`, `Charades_v1_test.csv` and
    `Charades_v1_classes.txt`, and in `prepare.videos` the videos `ID.mp4` or the folders `ID` of
    frames at 24 per second.
    """

    def listing(self, findings: Findings) -> Listing:
        """The official lists.

        Raises:
          UserError: if a file is missing or cannot be read.
        """
        source = self.settings.source
        what = "an official file of Charades"
        path = lists.required(source / CLASSES, what)
        # Each line is a code, c000 ..., and the name.
        lines = read_lines(path)
        codes = {line.split()[0]: k for k, line in enumerate(lines)}
        if len(codes) < len(lines):
            raise UserError(f"{path} has {len(lines)} lines but {len(codes)} different codes")
        classes = [line.split(maxsplit=1)[-1] for line in lines]
        paths = {split: lists.required(source / name, what) for split, name in SPLITS.items()}
        found = VideosByStem(source / self.settings.videos, ".mp4", findings)
        splits = {split: self._split(path, codes, found, findings) for split, path in paths.items()}
        return Listing(classes, splits, CLASSES, True, dict(SPLITS))

    def _split(
        self,
        path: pathlib.Path,
        codes: dict[str, int],
        found: VideosByStem,
        findings: Findings,
    ) -> list[Video]:
        videos = []
        for line, row in read_table(path, ("id", "actions")):
            name, where = row["id"], f"{line}, video {row['id']}"
            texts = [text for text in row["actions"].split(";") if text.strip()]
            actions = [_action(text, codes, where, findings) for text in texts]
            video = found.path(name, where)
            if video is not None and None not in actions:
                videos.append(Video(name, video, tuple(actions), FPS, line))
        return videos


def _action(text: str, codes: dict[str, int], where: str, findings: Findings) -> Action | None:
    """`c092 11.90 21.20`: class, start and end in seconds; None if it is invalid."""
    try:
        code, *times = text.split()
        start, end = map(float, times)
        if not (math.isfinite(start) and math.isfinite(end)):
            raise ValueError
    except ValueError:
        findings.error(
            f"{where}: action {text[:100]!r} is not a class, a start and an end in seconds"
        )
        return None
    if code not in codes:
        findings.error(f"{where}: {code} is none of the {len(codes)} classes", f"see {CLASSES}")
        return None
    return Action(codes[code], start, end)
