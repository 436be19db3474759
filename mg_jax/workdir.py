"""What a work directory's checkpoints belong to: a config and its classes."""

import json
import pathlib
from collections.abc import Iterator
from typing import Any

from mg_jax.atomic_file import write_json

_CLASSES = "classes.json"
# Of how frames are prepared, what training sees.
_STORED = ("prepare.short_side", "prepare.quality", "prepare.frame_step")


class WorkdirError(ValueError):
    """A work directory that belongs to something else."""


def has_checkpoint(workdir: pathlib.Path) -> bool:
    """Whether a work directory holds a checkpoint that was written to its end."""
    return any(path.name.isdigit() for path in (workdir / "checkpoints").glob("*"))


def check_config(
    workdir: pathlib.Path,
    config,
    sections: tuple[str, ...] = ("",),
    free: tuple[str, ...] = (),
) -> None:
    """Makes sure that the checkpoints of a work directory, if any, belong to the config.

    What is under `run`, `eval` and `prepare`, where the data lies, how much of it may be damaged,
    and what the run started from may differ.

    Args:
      workdir: holds `config.json`.
      config: to compare with it.
      sections: beginnings of the keys to compare.
      free: keys that may differ.

    Raises:
      WorkdirError: naming the keys that differ.
    """
    path = workdir / "config.json"
    if not has_checkpoint(workdir):
        return
    if not path.exists():
        raise WorkdirError(
            f"{workdir} holds checkpoints but no config.json to tell whose they are; put it back "
            "or choose another --workdir"
        )
    there, here = read_json(path), json.loads(config.to_json())
    there, here = _binding(there, sections), _binding(here, sections)
    for name in free:
        there.pop(name, None)
        here.pop(name, None)
    differing = _differences(there, here)
    if differing:
        raise WorkdirError(
            f"{workdir} holds checkpoints of another config; continue it with the same settings "
            "or choose another --workdir. Differing: " + "; ".join(differing)
        )


def check_same_config(workdir: pathlib.Path, config) -> None:
    """Makes sure that the results of a work directory, if any, can be averaged with the config's.

    What `result_settings` leaves out may differ.

    Raises:
      WorkdirError: naming the keys that differ.
    """
    path = workdir / "config.json"
    if not path.exists():
        return
    there, here = (
        result_settings(dict(settings(one)))
        for one in (read_json(path), json.loads(config.to_json()))
    )
    if differing := _differences(there, here):
        raise WorkdirError(
            f"{workdir} holds a run of another config; use the same settings or choose another "
            "--workdir. Differing: " + "; ".join(differing)
        )


def result_settings(values: dict[str, Any]) -> dict[str, Any]:
    """Those settings, by name, on which results depend: not how a run works, nor where data lie."""
    return {
        name: value
        for name, value in values.items()
        if (not name.startswith(("run.", "prepare.")) or name in _STORED)
        and name not in ("data.dir", "data.max_damaged", "schedule.videos")
    }


def check_classes(workdir: pathlib.Path, classes: list[str]) -> None:
    """Makes sure that the checkpoints of a work directory, if any, are of these classes.

    Raises:
      WorkdirError: naming the first that differs.
    """
    if not has_checkpoint(workdir):
        return
    there = read_classes(workdir)
    if len(there) != len(classes):
        raise WorkdirError(
            f"{workdir} holds checkpoints of {len(there)} classes; the data set {len(classes)}; "
            "use the one it was trained on, or choose another --workdir"
        )
    differing = [k for k in range(len(classes)) if there[k] != classes[k]]
    if differing:
        k = differing[0]
        raise WorkdirError(
            f"{workdir} holds checkpoints of other classes: {len(differing)} of {len(classes)} "
            f"differ; number {k} is {there[k]!r} there and {classes[k]!r} in the data set. Use the "
            "data set it was trained on, or choose another --workdir with --config.init_from="
            f"{workdir}"
        )


def has_classes(workdir: pathlib.Path) -> bool:
    """Whether a folder is a work directory that names its classes."""
    return (workdir / _CLASSES).exists()


def read_classes(workdir: pathlib.Path) -> list[str]:
    """Names of the classes that a work directory's checkpoints tell apart.

    Raises:
      WorkdirError: if they are not there.
    """
    path = workdir / _CLASSES
    if not path.exists():
        raise WorkdirError(
            f"{workdir} holds checkpoints but no {_CLASSES} to name their classes; put it back "
            "or choose another --workdir"
        )
    return read_json(path)


def read_json(path: pathlib.Path) -> Any:
    """What a file of a work directory holds.

    Raises:
      WorkdirError: if it is damaged.
    """
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise WorkdirError(
            f"{path} is damaged ({error}); put it back, for example from another run of the same "
            "config, or choose another --workdir"
        ) from error


def write_config(workdir: pathlib.Path, config, classes: list[str]) -> None:
    """Writes `config.json` and `classes.json`."""
    workdir.mkdir(parents=True, exist_ok=True)
    write_json(workdir / "config.json", json.loads(config.to_json()))
    write_json(workdir / _CLASSES, classes)


def shared_settings(config) -> dict[str, str]:
    """What all processes of a run must agree on, by name, as JSON.

    Where data, programs and weights lie is each one's own.
    """
    own = ("data.dir", "run.cache_dir", "init_from", "prepare.")
    pairs = settings(json.loads(config.to_json()))
    return {name: json.dumps(value) for name, value in pairs if not name.startswith(own)}


def _binding(config: dict[str, Any], sections: tuple[str, ...]) -> dict[str, Any]:
    return {
        name: value
        for name, value in settings(config)
        if name.startswith(sections)
        and not name.startswith(("run.", "eval.", "prepare."))
        and name not in ("data.dir", "data.max_damaged", "schedule.videos", "init_from")
    }


def settings(config: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Names, such as `model.depth`, and values of a config that JSON holds."""
    for key, value in config.items():
        if isinstance(value, dict):
            yield from settings(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def _differences(there: dict[str, Any], given: dict[str, Any]) -> list[str]:
    rows = (
        (name, there.get(name, "(not set)"), given.get(name, "(not set)"))
        for name in sorted(there.keys() | given.keys())
    )
    return [f"{name} is {old} there and {new} here" for name, old, new in rows if old != new]
