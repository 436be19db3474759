"""Which videos a run was trained on: its work directory's `data.json` and lists of videos.

`data.json` is a list of stretches: from which iteration on, which videos. The videos of a split are
listed in `videos/KEY.jsonl.gz`, a line each: name, number of frames, and the labels, each with its
first frame and end. Where a split has changed, each of its versions has a list.
"""

import dataclasses
import gzip
import hashlib
import json
import pathlib
import zlib
from typing import Any

import numpy as np

from data.format.video_table import VideoTable
from mg_jax.machine.atomic_file import write_bytes, write_json
from mg_jax.schedule import Schedule
from mg_jax.workdir.config import WorkdirError, has_checkpoint, read_json, steps_in

DATA_RECORD = "data.json"
_LISTS = "videos"
# The properties of videos that must not change; the size of stored frames may.
_BINDING = ("ids", "frame counts", "labels")
_NAMED = 3  # so many videos are named in a message


@dataclasses.dataclass(frozen=True)
class SplitRecord:
    """The videos of a split.

    Attributes:
      split: name of the split.
      videos: number of videos.
      fingerprints: hashes of the videos' ids, frame counts and labels, by these names.
    """

    split: str
    videos: int
    fingerprints: dict[str, str]

    @property
    def key(self) -> str:
        """Name of the file that lists the videos."""
        return hashlib.sha256("".join(self.fingerprints.values()).encode()).hexdigest()[:16]


@dataclasses.dataclass(frozen=True)
class Stretch:
    """Consecutive iterations of a run on the same videos.

    Attributes:
      from_step: index of the first iteration.
      data: name of the data set.
      train: the videos to train on.
      evaluation: the videos to evaluate on.
    """

    from_step: int
    data: str
    train: SplitRecord
    evaluation: SplitRecord

    def same_videos(self, other: "Stretch") -> bool:
        """Whether both have the same videos with the same labels, in the same order."""
        return (self.train, self.evaluation) == (other.train, other.evaluation)


@dataclasses.dataclass(frozen=True)
class TrainedOn:
    """The stretches of a run, in order; the last one extends to the end of the run."""

    stretches: tuple[Stretch, ...] = ()

    def continued(self, now: Stretch) -> "TrainedOn":
        """The stretches of a run that continues with `now`; those after its start are dropped."""
        before = tuple(s for s in self.stretches if s.from_step < now.from_step)
        if not before:
            return TrainedOn((dataclasses.replace(now, from_step=0),))
        return TrainedOn(before if before[-1].same_videos(now) else (*before, now))

    def in_force(self, step: int) -> Stretch | None:
        """The stretch of the last of `step` iterations; None if there are no stretches."""
        begun = [s for s in self.stretches if s.from_step < step]
        return begun[-1] if begun else next(iter(self.stretches), None)

    def rows(self) -> list[dict[str, Any]]:
        """The stretches as JSON represents them."""
        return [dataclasses.asdict(stretch) for stretch in self.stretches]

    @classmethod
    def of_rows(cls, rows: list[dict[str, Any]]) -> "TrainedOn":
        """The inverse of `rows`.

        Raises:
          TypeError, KeyError, AttributeError, ValueError: if these are not such rows.
        """
        stretches = tuple(_stretch(row) for row in rows)
        starts = [stretch.from_step for stretch in stretches]
        if starts and (starts[0] != 0 or starts != sorted(set(starts))):
            raise ValueError(f"from_step must rise from 0 and is {starts}")
        return cls(stretches)

    @property
    def training_videos(self) -> str:
        """Text that differs between runs on different videos: their number and key, by stretch."""
        parts = [f"{s.train.videos:,} ({s.train.key})" for s in self.stretches]
        later = [f"from step {s.from_step:,} " for s in self.stretches[1:]]
        return ", ".join(map("".join, zip(["", *later], parts, strict=True)))

    def epochs(self, schedule: Schedule, step: int) -> float:
        """Epochs after `step` iterations, each iteration counted over the videos of its stretch."""
        ends = [s.from_step for s in self.stretches[1:]] + [schedule.iterations]
        total = 0.0
        for stretch, end in zip(self.stretches, ends, strict=True):
            end = min(end, step)
            if end > stretch.from_step:
                clips = schedule.position(end) - schedule.position(stretch.from_step)
                total += clips / stretch.train.videos
        return total


def stretch_of(config, train: VideoTable, evaluation: VideoTable, from_step: int = 0) -> Stretch:
    """A stretch on the splits that a config names.

    Args:
      config: of the run.
      train: the videos of its training split.
      evaluation: the videos of its evaluation split.
      from_step: index of the first iteration.
    """
    return Stretch(
        from_step,
        config.data.name,
        _split_record(config.data.train_split, train),
        _split_record(config.data.eval_split, evaluation),
    )


def _split_record(split: str, videos: VideoTable) -> SplitRecord:
    parts = videos.fingerprints()
    return SplitRecord(split, len(videos), {part: parts[part] for part in _BINDING})


def read_trained_on(workdir: pathlib.Path) -> TrainedOn | None:
    """The content of `data.json`; None if there is no such file.

    Raises:
      WorkdirError: if it is damaged.
    """
    path = workdir / DATA_RECORD
    if not path.exists():
        return None
    content = read_json(path)
    try:
        if not isinstance(content, list) or not content:
            raise TypeError("it must be a list with at least one entry")
        return TrainedOn.of_rows(content)
    except (TypeError, KeyError, AttributeError, ValueError) as error:
        raise WorkdirError(f"{path} is damaged ({error!r}); put it back from a copy") from error


def _stretch(row: dict[str, Any]) -> Stretch:
    splits = {name: SplitRecord(**row[name]) for name in ("train", "evaluation")}
    for record in splits.values():
        if record.fingerprints.keys() != set(_BINDING):
            raise KeyError(f"fingerprints must be those of {', '.join(_BINDING)}")
        if not all(isinstance(value, str) for value in record.fingerprints.values()):
            raise TypeError("fingerprints must be text")
        _check_number(record.videos, 1)
    _check_number(row["from_step"], 0)
    return Stretch(**{**row, **splits})


def _check_number(value: Any, least: int) -> None:
    if not isinstance(value, int) or value < least:
        raise TypeError(f"{value!r} must be a whole number, at least {least}")


def write_trained_on(workdir: pathlib.Path, trained_on: TrainedOn, *tables: VideoTable) -> None:
    """Writes `data.json` and the lists of the last stretch's videos.

    Args:
      workdir: of the run.
      trained_on: the stretches.
      tables: the last stretch's videos to train on, and those to evaluate on.
    """
    last = trained_on.stretches[-1]
    folder = workdir / _LISTS
    folder.mkdir(parents=True, exist_ok=True)
    for record, table in zip((last.train, last.evaluation), tables, strict=True):
        path = _list_path(workdir, record)
        if not path.exists():
            lines = "".join(json.dumps([name, *row]) + "\n" for name, row in _rows(table).items())
            write_bytes(path, gzip.compress(lines.encode(), mtime=0))
    write_json(workdir / DATA_RECORD, trained_on.rows())


def _list_path(workdir: pathlib.Path, record: SplitRecord) -> pathlib.Path:
    return workdir / _LISTS / f"{record.key}.jsonl.gz"


def _rows(table: VideoTable) -> dict[str, list]:
    """Number of frames and labels of each video by its name, in the table's order."""
    actions = table.actions
    labels = np.stack([actions.label, actions.start, actions.end], 1).tolist()
    edges = np.searchsorted(actions.row, np.arange(len(table) + 1)).tolist()
    columns = zip(table.ids.tolist(), table.source_frames.tolist(), strict=True)
    return {
        name: [frames, labels[edges[i] : edges[i + 1]]] for i, (name, frames) in enumerate(columns)
    }


def check_videos(workdir: pathlib.Path, config, train: VideoTable, evaluation: VideoTable) -> None:
    """Checks that the checkpoints of a work directory, if any, come from the same videos.

    Without a `data.json` there is nothing to compare with.

    Args:
      workdir: of the run.
      config: names the splits.
      train: the videos to train on.
      evaluation: the videos to evaluate on.

    Raises:
      WorkdirError: naming the videos that differ.
    """
    trained_on = read_trained_on(workdir) if has_checkpoint(workdir) else None
    if trained_on is None:
        return
    # Videos that were only used after the newest checkpoint do not count.
    there = trained_on.in_force(max(steps_in(workdir / "checkpoints")))
    now = stretch_of(config, train, evaluation)
    pairs = ((there.train, now.train, train), (there.evaluation, now.evaluation, evaluation))
    differing = [
        f"split {new.split!r} {_difference(workdir, old, new, table)}"
        for old, new, table in pairs
        if old != new
    ]
    if differing:
        raise WorkdirError(
            f"{workdir} holds checkpoints that were trained or evaluated on other videos than "
            f"{now.data} has now: {'; '.join(differing)}. Continue with the videos it had, choose "
            "another --workdir, or take these on from here with "
            "--config.run.accept_other_videos=True"
        )


def _difference(
    workdir: pathlib.Path, old: SplitRecord, new: SplitRecord, table: VideoTable
) -> str:
    """Text: how a split's videos have changed."""
    counts = f"had {old.videos:,} videos and has {new.videos:,}"
    there, here = _read_list(workdir, old), _rows(table)
    if there is None:
        parts = [part for part in _BINDING if old.fingerprints[part] != new.fingerprints[part]]
        return f"{counts}, with other {', '.join(parts)}"
    kinds = {
        "new": [name for name in here if name not in there],
        "gone": [name for name in there if name not in here],
        "with other labels or lengths": [
            name for name in here if name in there and here[name] != there[name]
        ],
    }
    found = [f"{_listed(names)} {kind}" for kind, names in kinds.items() if names]
    return f"{counts}: {', '.join(found) or 'the same ones, ordered or stored otherwise'}"


def _read_list(workdir: pathlib.Path, record: SplitRecord) -> dict[str, list] | None:
    """A list as `_rows` gives it; None if it is missing or damaged, which only costs detail."""
    try:
        lines = gzip.decompress(_list_path(workdir, record).read_bytes()).decode().splitlines()
        found = {name: row for name, *row in map(json.loads, lines)}
    except (OSError, EOFError, zlib.error, ValueError, TypeError):
        return None
    return found if len(found) == record.videos else None


def _listed(names: list[str]) -> str:
    shown = ", ".join(map(repr, names[:_NAMED]))
    return f"{len(names):,} ({shown}{', ...' if len(names) > _NAMED else ''})"
