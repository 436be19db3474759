"""The config and the classes that a work directory's checkpoints belong to."""

import json
import pathlib
from collections.abc import Iterator
from typing import Any

from ml_collections import ConfigDict

from configs.base import get_base
from mg_jax.errors import UserError
from mg_jax.grid import LONG_CYCLE
from mg_jax.machine.atomic_file import write_json
from mg_jax.machine.folder import did_you_mean_beside
from mg_jax.recipe_settings import CYCLES

_CLASSES = "classes.json"
# The settings of preparation that change what training sees.
_STORED = ("prepare.short_side", "prepare.quality", "prepare.frame_step")
# Single settings that change nothing that a run computes.
_FREE = ("data.dir", "data.max_damaged", "schedule.videos")

_PUT_BACK = (
    "put it back, for example from another run of the same config, or choose another --workdir"
)


class WorkdirError(UserError):
    """A work directory of another config, classes or videos, or a damaged one."""


def has_checkpoint(workdir: pathlib.Path) -> bool:
    """Whether a work directory holds a completely written checkpoint."""
    return bool(steps_in(workdir / "checkpoints"))


def check_has_checkpoint(workdir: pathlib.Path) -> None:
    """Checks that a work directory holds a completely written checkpoint.

    Raises:
      WorkdirError: if not, saying what writes one.
    """
    if has_checkpoint(workdir):
        return
    there, hint = f"{workdir} holds no checkpoint", ""
    if not workdir.is_dir():
        there, hint = f"{workdir} is not there", did_you_mean_beside(workdir)
    raise WorkdirError(
        f"{there}; train there first: main.py --config=CONFIG --workdir={workdir}{hint}"
    )


def check_init_from(config) -> None:
    """Checks that config.init_from, which must be set, is a file or holds a checkpoint.

    Raises:
      WorkdirError: if not, saying what would do.
    """
    path = pathlib.Path(config.init_from).expanduser()
    if has_checkpoint(path) or (path.exists() and not path.is_dir()):
        return
    wrong, hint = "is not there", ""
    if path.is_dir():
        wrong = "is not a work directory with a checkpoint"
        above = next((folder for folder in path.parents[:2] if has_checkpoint(folder)), None)
        hint = f". Did you mean {str(above)!r}?" if above else ""
    else:
        hint = did_you_mean_beside(path)
    raise WorkdirError(
        f"--config.init_from={config.init_from} {wrong}; it names a work directory that was "
        f"trained in, or a file of weights{hint}"
    )


def steps_in(folder: pathlib.Path) -> set[int]:
    """The steps of the completely written checkpoints in a folder."""
    return {int(path.name) for path in folder.glob("[0-9]*") if path.name.isdigit()}


def check_config(
    workdir: pathlib.Path,
    config,
    sections: tuple[str, ...] = ("",),
    free: tuple[str, ...] = (),
    instead: str = "choose another --workdir",
) -> None:
    """Checks that the checkpoints of a work directory, if any, belong to the config.

    The sections `run`, `eval` and `prepare` may differ, and so may `data.dir`, `data.max_damaged`,
    `schedule.videos` and `init_from`.

    Args:
      workdir: holds `config.json`.
      config: to compare with it.
      sections: prefixes of the names of the settings to compare.
      free: names of further settings that may differ.
      instead: what would do as well, for the message.

    Raises:
      WorkdirError: naming the settings that differ.
    """
    path = workdir / "config.json"
    if not has_checkpoint(workdir):
        return
    if not path.exists():
        raise WorkdirError(
            f"{workdir} holds checkpoints but no config.json that they belong to; put it back "
            "or choose another --workdir"
        )
    there, here = (_binding(one, sections) for one in (stored_config(path), config))
    for name in free:
        there.pop(name, None)
        here.pop(name, None)
    differing = _differences(there, here)
    if differing:
        raise WorkdirError(
            f"{workdir} holds checkpoints of another config; give the settings that it was trained "
            f"with, or {instead}. Differing: " + "; ".join(differing)
        )


def check_same_config(workdir: pathlib.Path, config) -> None:
    """Checks that a work directory's run, if any, has the same `result_settings` as the config.

    Raises:
      WorkdirError: naming the settings that differ.
    """
    path = workdir / "config.json"
    if not path.exists():
        return
    there, here = (result_settings(settings(one)) for one in (stored_config(path), config))
    if differing := _differences(there, here):
        raise WorkdirError(
            f"{workdir} holds a run of another config; use the same settings or choose another "
            "--workdir. Differing: " + "; ".join(differing)
        )


def result_settings(values: dict[str, Any]) -> dict[str, Any]:
    """The settings, by name, that results depend on: not how a run works or where its data are."""
    return {
        name: value
        for name, value in values.items()
        if (not name.startswith(("run.", "prepare.")) or name in _STORED) and name not in _FREE
    }


def check_classes(workdir: pathlib.Path, classes: list[str]) -> None:
    """Checks that the checkpoints of a work directory, if any, are of these classes.

    Raises:
      WorkdirError: naming the first class that differs.
    """
    if not has_checkpoint(workdir):
        return
    there = read_classes(workdir)
    if len(there) != len(classes):
        raise WorkdirError(
            f"{workdir} holds checkpoints of {len(there)} classes, and the data set has "
            f"{len(classes)}; use the one it was trained on, or choose another --workdir"
        )
    differing = [k for k in range(len(classes)) if there[k] != classes[k]]
    if differing:
        k = differing[0]
        raise WorkdirError(
            f"{workdir} holds checkpoints of other classes: {len(differing)} of {len(classes)} "
            f"differ; class {k} is {there[k]!r} there and {classes[k]!r} in the data set. Use the "
            "data set it was trained on, or choose another --workdir with --config.init_from="
            f"{workdir}"
        )


def has_classes(workdir: pathlib.Path) -> bool:
    """Whether a folder is a work directory with the names of its classes."""
    return (workdir / _CLASSES).exists()


def read_classes(workdir: pathlib.Path) -> list[str]:
    """The names of the classes of a work directory's checkpoints, in the order of their indices.

    Raises:
      WorkdirError: if the file is missing or damaged.
    """
    path = workdir / _CLASSES
    if not path.exists():
        raise WorkdirError(
            f"{workdir} holds checkpoints but no {_CLASSES} to name their classes; put it back "
            "or choose another --workdir"
        )
    return read_json(path)


def read_json(path: pathlib.Path, advice: str = _PUT_BACK) -> Any:
    """The content of a JSON file of a work directory.

    Args:
      path: of the file.
      advice: what to do if it is damaged, for the message.

    Raises:
      WorkdirError: if it is damaged.
    """
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise WorkdirError(f"{path} is damaged ({error}); {advice}") from error


def stored_config(path: pathlib.Path) -> ConfigDict:
    """The config that a `config.json` holds; settings that it lacks have their default value.

    Raises:
      WorkdirError: if it is damaged, or not a config.
    """
    content, config = read_json(path), get_base()
    if not isinstance(content, dict):
        raise WorkdirError(f"{path} is not a run's config: it holds a {type(content).__name__}")
    try:
        config.update(_renewed(content))  # it also turns lists back into tuples
    except (TypeError, AttributeError, ValueError, KeyError) as error:
        reason = " ".join(str(error.args[0]).split())
        raise WorkdirError(f"{path} is not a run's config: {reason}") from error
    return config


def _renewed(content: dict[str, Any]) -> dict[str, Any]:
    """The content of an earlier version's file as this one would have written it.

    `multigrid.shapes` was their number S', `run.compile_ahead` yes or no, and the baseline's config
    could have settings of the cycles, which it ignored.
    """
    renewed = dict(content)
    multigrid, run = content.get("multigrid"), content.get("run")
    if isinstance(multigrid, dict) and "long_shapes" in multigrid:
        others = {name: value for name, value in multigrid.items() if name != "long_shapes"}
        shapes = tuple((s.time, s.area) for s in LONG_CYCLE[-multigrid["long_shapes"] :])
        renewed["multigrid"] = multigrid = {**others, "shapes": shapes}
    cycles = "long_cycle", "short_cycle"
    if isinstance(multigrid, dict) and [multigrid.get(name) for name in cycles] == [False, False]:
        renewed["multigrid"] = {n: v for n, v in multigrid.items() if n not in CYCLES}
    if isinstance(run, dict) and isinstance(run.get("compile_ahead"), bool):
        when = "background" if run["compile_ahead"] else "off"
        renewed["run"] = {**run, "compile_ahead": when}
    return renewed


def write_config(workdir: pathlib.Path, config, classes: list[str]) -> None:
    """Writes `config.json` and `classes.json`."""
    workdir.mkdir(parents=True, exist_ok=True)
    write_json(workdir / "config.json", json.loads(config.to_json()))
    write_json(workdir / _CLASSES, classes)


def shared_settings(config) -> dict[str, str]:
    """The settings, as JSON by name, that must be the same on all processes of a run.

    Paths of data, compiled programs and weights may differ.
    """
    own = ("data.dir", "run.cache_dir", "init_from", "prepare.")
    values = settings(config)
    return {name: json.dumps(v) for name, v in values.items() if not name.startswith(own)}


def _binding(config: ConfigDict, sections: tuple[str, ...]) -> dict[str, Any]:
    return {
        name: value
        for name, value in settings(config).items()
        if name.startswith(sections)
        and not name.startswith(("run.", "eval.", "prepare."))
        and name not in (*_FREE, "init_from")
    }


def settings(config: ConfigDict) -> dict[str, Any]:
    """The values of a config, as JSON represents them, by name, such as `model.depth`."""
    return dict(_leaves(json.loads(config.to_json()), ""))


def _leaves(content: dict[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in content.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def _differences(there: dict[str, Any], given: dict[str, Any]) -> list[str]:
    rows = (
        (name, there.get(name, "(not set)"), given.get(name, "(not set)"))
        for name in sorted(there.keys() | given.keys())
    )
    return [f"{name} is {old} there and {new} here" for name, old, new in rows if old != new]
