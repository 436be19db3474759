"""What work directories tell of their runs: config, schedule, log, and how they ended."""

import dataclasses
import json
import os
import pathlib
from typing import Any

from ml_collections import ConfigDict

from mg_jax.errors import UserError
from mg_jax.recipe import schedule_from_config
from mg_jax.schedule import Schedule
from mg_jax.workdir.config import settings, stored_config
from mg_jax.workdir.diverged import RECORD
from mg_jax.workdir.trained_on import TrainedOn, read_trained_on

# What `summary.json` and, of runs that log them, evaluations say of time, in seconds.
CLOCKS = ("train_s", "compile_s", "eval_s")
# Among the settings of a run that knows it.
TRAINING_VIDEOS = "training videos"
_SUMMARY = ("iterations", "epochs", "examples", "wall_clock_s", *CLOCKS, "metrics")


@dataclasses.dataclass(frozen=True)
class LoggedRun:
    """A run as its work directory tells it.

    Attributes:
      name: as much of the folder's path as tells it from the other runs'.
      folder: the work directory.
      config: of the run; what it was too old to know has its usual value.
      settings: the config's values by name, and where it is known on which videos it trained.
      schedule: that the config describes.
      classes: names of the classes; None where a run is too old to have kept them.
      train: the log's lines on training, by step.
      evaluations: those on evaluations along the way, on one centre view.
      summary: of a finished run, or None.
      diverged: the step at which a run diverged and the reason, or None.
      trained_on: on which videos, or None where a run is too old to have kept it.
    """

    name: str
    folder: pathlib.Path
    config: ConfigDict
    settings: dict[str, Any]
    schedule: Schedule
    classes: list[str] | None
    train: dict[int, dict[str, Any]]
    evaluations: dict[int, dict[str, Any]]
    summary: dict[str, Any] | None
    diverged: dict[str, Any] | None
    trained_on: TrainedOn | None

    @property
    def step(self) -> int:
        """Iterations done, as far as they are logged."""
        if self.summary is not None:
            return self.schedule.iterations
        if self.diverged is not None:
            return self.diverged["step"]
        return max([*self.train, *self.evaluations], default=0)

    def epochs(self, step: int) -> float | None:
        """Epochs after so many iterations, or None where nothing tells."""
        if self.trained_on is not None:
            return self.trained_on.epochs(self.schedule, step)
        videos = self._logged_videos()
        return self.schedule.position(step) / videos if videos else None

    def _logged_videos(self) -> float | None:
        """How many videos a run that is too old to say so trains on."""
        if self.summary is not None:
            return self.summary["examples"] / self.summary["epochs"]
        for step, line in self.evaluations.items():
            if "epochs" in line:
                return self.schedule.position(step) / line["epochs"]
        return None


def read_runs(folders: list[pathlib.Path]) -> list[LoggedRun]:
    """Reads the work directories of runs, finished or not.

    Raises:
      UserError: for a folder that is given twice, is no work directory, or holds what cannot be
        read or does not go together; naming it.
    """
    return [_read_run(*pair) for pair in zip(run_names(folders), folders, strict=True)]


def run_names(folders: list[pathlib.Path]) -> list[str]:
    """A name for each folder: as much of the end of its path as tells them all apart.

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


def read_summary(folder: pathlib.Path) -> dict[str, Any] | None:
    """The `summary.json` of a finished run; None where there is none yet.

    Raises:
      UserError: if it cannot be read.
    """
    path = folder / "summary.json"
    if not path.exists():
        return None
    summary = _read_json(path)
    missing = [key for key in _SUMMARY if key not in summary]
    if missing:
        raise UserError(f"{path} is not a run's summary: it lacks {', '.join(missing)}")
    return summary


def read_diverged(folder: pathlib.Path) -> dict[str, Any] | None:
    """Step and reason of a run that diverged, or None.

    Raises:
      UserError: if they cannot be read.
    """
    path = folder / RECORD
    if not path.exists():
        return None
    diverged = _read_json(path)
    if not isinstance(diverged, dict) or not {"step", "reason"} <= diverged.keys():
        raise UserError(f"{path} does not tell step and reason; put it back from a copy")
    return diverged


def _read_run(name: str, folder: pathlib.Path) -> LoggedRun:
    config = _read_config(folder)
    path = folder / "config.json"
    try:
        schedule = schedule_from_config(config)
    except ValueError as error:
        raise UserError(f"{path} describes no schedule: {error}") from error
    summary, diverged = read_summary(folder), read_diverged(folder)
    lines = _read_log(folder / "log.jsonl")
    if not lines and summary is not None:
        raise UserError(
            f"{folder} has finished, but its log.jsonl is gone or empty; put it back from a copy"
        )
    last = max((line["step"] for line in lines), default=0)
    if last > schedule.iterations:
        raise UserError(
            f"{folder} has logged step {last}, but by its config.json the run ends at "
            f"{schedule.iterations}; one of the two is not this run's"
        )
    classes, trained_on = folder / "classes.json", read_trained_on(folder)
    values = settings(config)
    if trained_on is not None:
        values[TRAINING_VIDEOS] = trained_on.training_videos
    return LoggedRun(
        name=name,
        folder=folder,
        config=config,
        settings=values,
        schedule=schedule,
        classes=_read_json(classes) if classes.exists() else None,
        train={line["step"]: line for line in lines if line["kind"] == "train"},
        evaluations={line["step"]: line for line in lines if line["kind"] == "eval"},
        summary=summary,
        diverged=diverged,
        trained_on=trained_on,
    )


def _read_config(folder: pathlib.Path) -> ConfigDict:
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "is not there"
        raise UserError(f"{folder} {what}; give the work directories of runs")
    path = folder / "config.json"
    if not path.exists():
        inside = sorted(path.parent for path in folder.glob("*/config.json"))
        hint = f"; it holds work directories, such as {inside[0]}" if inside else ""
        raise UserError(
            f"{folder} is no work directory, or its run has not begun: it holds no config.json"
            f"{hint or '; wait until it trains, or leave it out'}"
        )
    return stored_config(path)


def _read_log(path: pathlib.Path) -> list[dict[str, Any]]:
    """The lines of a log, but for a last one that is still being written."""
    rows = path.read_text(errors="replace").splitlines() if path.exists() else []
    lines = []
    for number, row in enumerate(rows, 1):
        try:
            line = json.loads(row)
            line["kind"], int(line["step"])
        except (ValueError, TypeError, KeyError) as error:
            if number == len(rows):
                break
            raise UserError(
                f"line {number} of {path} is damaged; restore it from a copy"
            ) from error
        lines.append(line)
    return lines


def _read_json(path: pathlib.Path) -> Any:
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise UserError(
            f"{path} is damaged ({error}); put it back from a copy, or leave the run out"
        ) from error
