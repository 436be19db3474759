"""Reads runs from their work directories: config, schedule, log, and how they ended."""

import dataclasses
import json
import os
import pathlib
from typing import Any

from ml_collections import ConfigDict

from mg_jax.errors import UserError
from mg_jax.machine.folder import did_you_mean_beside
from mg_jax.recipe import schedule_from_config
from mg_jax.schedule import Schedule
from mg_jax.workdir.config import read_classes, settings, stored_config
from mg_jax.workdir.diverged import read_diverged
from mg_jax.workdir.finished import CLOCKS, read_summary
from mg_jax.workdir.trained_on import DATA_RECORD, TrainedOn, read_trained_on

# A run's key to the videos it trained on, among its settings.
TRAINING_VIDEOS = "training videos"
_WRITTEN_FIRST = ("config.json", "classes.json", DATA_RECORD)


@dataclasses.dataclass(frozen=True)
class RunRecord:
    """A run, finished or not, as read from its work directory.

    Attributes:
      name: the end of the folder's path, long enough to differ from the other runs'.
      folder: the work directory.
      config: of the run.
      settings: the config's values by name, such as `model.depth`, and `TRAINING_VIDEOS`.
      schedule: the schedule that the config describes.
      classes: names of the classes.
      trained_on: the videos it was trained and evaluated on.
      train: the log's lines on training, by step.
      evaluations: the log's lines on evaluations during training, on one centre view, by step; each
        with `wall_clock_s`.
      summary: the content of `summary.json`; None while the run is unfinished.
      diverged: `step` and `reason` of the divergence; None for a run that did not diverge.
    """

    name: str
    folder: pathlib.Path
    config: ConfigDict
    settings: dict[str, Any]
    schedule: Schedule
    classes: list[str]
    trained_on: TrainedOn
    train: dict[int, dict[str, Any]]
    evaluations: dict[int, dict[str, Any]]
    summary: dict[str, Any] | None
    diverged: dict[str, Any] | None

    @property
    def step(self) -> int:
        """Iterations done, as far as they are logged."""
        if self.summary is not None:
            return self.schedule.iterations
        if self.diverged is not None:
            return self.diverged["step"]
        return max([*self.train, *self.evaluations], default=0)

    def epochs(self, step: int) -> float:
        """Epochs after `step` iterations, over the videos that each was trained on."""
        return self.trained_on.epochs(self.schedule, step)


def read_runs(folders: list[pathlib.Path]) -> list[RunRecord]:
    """Reads the work directories of runs, finished or not.

    Raises:
      UserError: for a folder that is given twice, is no work directory, or holds files that are
        damaged or contradict each other; naming it.
    """
    return [_read_run(*pair) for pair in zip(run_names(folders), folders, strict=True)]


def run_names(folders: list[pathlib.Path]) -> list[str]:
    """A name for each folder: the end of its path, long enough to tell them all apart.

    Raises:
      UserError: for a folder that is given twice.
    """
    real = [folder.resolve() for folder in folders]
    for folder, path in zip(folders, real, strict=True):
        if real.count(path) > 1:
            raise UserError(f"the run {folder} is given twice")
    paths = [pathlib.Path(os.path.abspath(folder)) for folder in folders]
    for length in range(1, max(len(path.parts) for path in paths) + 1):
        names = [str(pathlib.Path(*path.parts[-length:])) for path in paths]
        if len(set(names)) == len(names):
            break
    return names


def _read_run(name: str, folder: pathlib.Path) -> RunRecord:
    _check_begun(folder)
    path = folder / "config.json"
    config = stored_config(path)
    try:
        schedule = schedule_from_config(config)
    except UserError as error:
        raise UserError(f"{path} describes no schedule: {error}") from error
    summary, diverged = read_summary(folder), read_diverged(folder)
    train, evaluations = _read_log(folder / "log.jsonl")
    if not train and not evaluations and summary is not None:
        raise UserError(
            f"{folder} has finished, but its log.jsonl is gone or empty; restore it from a copy"
        )
    last = max([*train, *evaluations], default=0)
    if last > schedule.iterations:
        raise UserError(
            f"{folder} has logged step {last}, but by its config.json the run ends at "
            f"{schedule.iterations}; one of the two is not this run's"
        )
    trained_on = read_trained_on(folder)
    return RunRecord(
        name=name,
        folder=folder,
        config=config,
        settings={**settings(config), TRAINING_VIDEOS: trained_on.training_videos},
        schedule=schedule,
        classes=read_classes(folder),
        trained_on=trained_on,
        train=train,
        evaluations=evaluations,
        summary=summary,
        diverged=diverged,
    )


def _check_begun(folder: pathlib.Path) -> None:
    if not folder.is_dir():
        what, near = "is a file", ""
        if not folder.exists():
            what, near = "is not there", did_you_mean_beside(folder)
        raise UserError(f"{folder} {what}; give the work directories of runs{near}")
    missing = [name for name in _WRITTEN_FIRST if not (folder / name).exists()]
    if missing:
        inside = sorted(path.parent for path in folder.glob("*/config.json"))
        hint = f"; it holds work directories, such as {inside[0]}" if inside else ""
        raise UserError(
            f"{folder} is no work directory, or its run has not begun: it holds no {missing[0]}"
            f"{hint or '; wait until it trains, or leave it out'}"
        )


def _read_log(path: pathlib.Path) -> tuple[dict[int, dict[str, Any]], dict[int, dict[str, Any]]]:
    """A log's lines on training and on evaluations, by step.

    A last line that is still being written is left out.
    """
    rows = path.read_text(errors="replace").splitlines() if path.exists() else []
    train, evaluations = {}, {}
    for number, row in enumerate(rows, 1):
        try:
            line = json.loads(row)
            kind, step = line["kind"], int(line["step"])
            if kind == "train":
                train[step] = line
            elif kind == "eval":
                clocks = sum(line[clock] for clock in CLOCKS)
                evaluations[step] = {**line, "wall_clock_s": clocks}
        except (ValueError, TypeError, KeyError) as error:
            if number == len(rows):
                break
            raise UserError(
                f"line {number} of {path} is damaged; restore it from a copy"
            ) from error
    return train, evaluations
