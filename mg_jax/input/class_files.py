"""Reads the CSV files of `data.flip_pairs` and `loss.class_weights`.

They say which classes swap when a clip is mirrored, and how much each class weighs in the loss.
They have no header and two columns each, and name classes as the data set does.
"""

import csv
import dataclasses
import math
import pathlib

from mg_jax.errors import UserError, did_you_mean, some

_WANTED = {
    "data.flip_pairs": "two classes a row that swap when a clip is mirrored",
    "loss.class_weights": "a class and its weight a row",
}


@dataclasses.dataclass(frozen=True)
class ClassFiles:
    """What the files of a config say, by class index; None where it names no file.

    Attributes:
      mirrored: the class that a mirrored clip of each class has.
      weights: of the loss of each class.
    """

    mirrored: tuple[int, ...] | None = None
    weights: tuple[float, ...] | None = None


def read_class_files(config, classes: list[str]) -> ClassFiles:
    """What data.flip_pairs and loss.class_weights of a config say.

    Raises:
      UserError: for a file that cannot be read, or does not fit the classes.
    """
    mirrored = weights = None
    if config.data.flip_pairs:
        mirrored = _mirrored(config.data.flip_pairs, classes)
    if config.loss.class_weights:
        weights = _weights(config.loss.class_weights, classes)
    return ClassFiles(mirrored, weights)


def check_named_files(config, classes: list[str] | None) -> None:
    """Checks the files that a config names.

    Args:
      config: of the run.
      classes: of the data set; None where they are not known, and names cannot be checked.

    Raises:
      UserError: as `read_class_files`.
    """
    if classes is None:  # those that the files name
        pairs, weights = config.data.flip_pairs, config.loss.class_weights
        cells = [cell for _, row in _rows("data.flip_pairs", pairs) for cell in row]
        cells += [row[0] for _, row in _rows("loss.class_weights", weights)]
        classes = list(dict.fromkeys(cells))
    read_class_files(config, classes)


def _mirrored(name: str, classes: list[str]) -> tuple[int, ...]:
    mirrored, of = {}, f"data.flip_pairs={name!r}"
    for line, row in _rows("data.flip_pairs", name):
        here = f"{of}, line {line}"
        left, right = (_index(text, classes, here) for text in row)
        for one, other in ((left, right), (right, left)):
            if mirrored.setdefault(one, other) != other:
                raise UserError(
                    f"{here} pairs {classes[one]!r} with {classes[other]!r}, but above it is "
                    f"paired with {classes[mirrored[one]]!r}; a class swaps with one other, and "
                    "that one with it"
                )
    return tuple(mirrored.get(k, k) for k in range(len(classes)))


def _weights(name: str, classes: list[str]) -> tuple[float, ...]:
    weights, of = {}, f"loss.class_weights={name!r}"
    for line, (label, text) in _rows("loss.class_weights", name):
        here = f"{of}, line {line}"
        k = _index(label, classes, here)
        try:
            weight = float(text)
        except ValueError:
            weight = math.nan
        if not 0 <= weight < math.inf:
            raise UserError(f"{here}: the weight {text!r} must be a finite number, 0 or larger")
        if k in weights:
            raise UserError(f"{here}: class {label!r} has a weight above already")
        weights[k] = weight
    return tuple(weights.get(k, 1.0) for k in range(len(classes)))


def _rows(setting: str, name: str) -> list[tuple[int, list[str]]]:
    """Line numbers and columns of the file that a setting names; none where it names none."""
    if not name:
        return []
    path, of = pathlib.Path(name).expanduser(), f"{setting}={name!r}"
    wanted = f"it names a CSV file of {_WANTED[setting]}, or is '' for none"
    if not path.exists():
        raise UserError(f"{of}: there is no {path.absolute()}; {wanted}")
    try:
        text = path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{of} cannot be read: {error}; {wanted}") from error
    reader = csv.reader(text.splitlines(), skipinitialspace=True)
    rows = [(reader.line_num, [cell.strip() for cell in row]) for row in reader if any(row)]
    for line, row in rows:
        if len(row) != 2:
            raise UserError(
                f"{of}, line {line} has {len(row)} columns and must have two, separated by a comma"
            )
    if not rows:
        raise UserError(f"{of} is empty; {wanted}")
    return rows


def _index(text: str, classes: list[str], here: str) -> int:
    if text in classes:
        return classes.index(text)
    raise UserError(
        f"{here}: there is no class {text!r} among the {len(classes)} of the data set: "
        f"{some(map(repr, classes), 10)}{did_you_mean(text, classes)}"
    )
