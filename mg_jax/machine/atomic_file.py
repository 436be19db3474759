"""Files that are there whole or not at all, whenever the process is killed."""

import contextlib
import json
import pathlib
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def replaced(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """A path to write to; what is there when the block ends becomes `path`."""
    unfinished = path.with_name(path.name + ".tmp")
    try:
        yield unfinished
        unfinished.rename(path)
    finally:
        unfinished.unlink(missing_ok=True)


def write_text(path: pathlib.Path, text: str) -> None:
    """Writes a text file in UTF-8."""
    with replaced(path) as unfinished:
        unfinished.write_text(text, encoding="utf-8")


def write_json(path: pathlib.Path, content: dict[str, Any] | list[Any]) -> None:
    """Writes a JSON file."""
    write_text(path, json.dumps(content, indent=1) + "\n")
