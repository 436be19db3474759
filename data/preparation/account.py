"""What is prepared so far and what was skipped, by the files of all processes in their folder."""

import collections
import csv
import io
import json
import os
import pathlib
import time
from typing import Any

from data.preparation.parts import SKIPPED, Part
from data.preparation.workers import Tally
from mg_jax.errors import UserError
from mg_jax.machine.atomic_file import write_text

_REASONS_SHOWN = 5
_LOOK_EVERY_S = 5.0  # for what other processes have done


def read_report(part: Part, folder: pathlib.Path) -> dict[str, Any]:
    """The report on a part: records of its `videos`, those `skipped`, `remarks` and `bytes`."""
    return json.loads(part.report_path(folder).read_text("utf-8"))


class Account:
    """Keeps count; checks that no more videos are skipped than may be.

    Attributes:
      whole: parts that are whole.
      missing: the others, in order.
      videos: of the parts that are whole.
      total: of all parts.
    """

    def __init__(self, parts: list[Part], folder: pathlib.Path, max_broken: float):
        """Looks at the folder.

        Args:
          parts: all of them.
          folder: of the parts.
          max_broken: share of the videos that may be skipped.

        Raises:
          UserError: if more are.
        """
        self._folder, self._max_broken = folder, max_broken
        self.whole: list[Part] = []
        self.missing = parts
        self.videos, self.total = 0, sum(len(part.videos) for part in parts)
        self._skipped: list[list[str]] = []  # of parts that are whole: split, id, path and reason
        self._failed, self._looked = 0, 0.0
        self.look()

    def watch(self, tally: Tally, *, others: bool) -> None:
        """Looks again, if need be.

        Args:
          tally: of this process.
          others: whether other processes prepare parts as well.

        Raises:
          UserError: as `look` does.
        """
        is_time = others and time.monotonic() - self._looked > _LOOK_EVERY_S
        if is_time or tally.failed != self._failed:
            self._failed = tally.failed
            self.look()

    def look(self) -> None:
        """Brings the account up to date.

        Raises:
          UserError: if too many videos were skipped; their list is in the folder then.
        """
        there = {entry.name for entry in os.scandir(self._folder)}
        missing = []
        for part in self.missing:
            if {part.path(self._folder).name, part.report_path(self._folder).name} <= there:
                self._add(part)
            else:
                missing.append(part)
        self.missing, self._looked = missing, time.monotonic()
        begun = [p for p in missing if p.skipped_path(self._folder).name in there]
        skipped = self._skipped + [row for part in begun for row in self._skipped_so_far(part)]
        if len(skipped) > self._max_broken * self.total:
            self._refuse(skipped)

    def _add(self, part: Part) -> None:
        self.whole.append(part)
        self.videos += len(part.videos)
        rows = read_report(part, self._folder)["skipped"]
        self._skipped += [[part.split, row["id"], row["path"], row["reason"]] for row in rows]

    def _skipped_so_far(self, part: Part) -> list[list[str]]:
        try:
            text = part.skipped_path(self._folder).read_text("utf-8", errors="replace")
        except FileNotFoundError:  # whole meanwhile
            return []
        # Of a line that is being written nothing counts.
        rows = list(csv.reader(io.StringIO(text[: text.rfind("\n") + 1])))
        return [row for row in rows if len(row) == 4]

    def _refuse(self, skipped: list[list[str]]) -> None:
        path = self._folder / SKIPPED
        written = io.StringIO(newline="")
        csv.writer(written).writerows(skipped)
        write_text(path, written.getvalue())
        reasons = collections.Counter(reason for *_, reason in skipped)
        shown = "".join(
            f"\n    {path}: {reason}" for _, _, path, reason in skipped[:_REASONS_SHOWN]
        )
        raise UserError(
            f"{len(skipped)} of {self.total} videos cannot be read, more than the share "
            f"prepare.max_broken={self._max_broken:g}: "
            f"{', '.join(f'{count} {reason!r}' for reason, count in reasons.most_common(3))}; the "
            f"reasons are in {path}. The first are{shown}\nFix or remove them and use the same "
            "command again, or set --config.prepare.max_broken=... higher; what is prepared is kept"
        )
