"""Files that are there whole or not at all, whenever the process is killed."""

import json
import pathlib
from typing import Any


def write_text(path: pathlib.Path, text: str) -> None:
    """Writes a text file."""
    unfinished = path.with_suffix(".tmp")
    unfinished.write_text(text)
    unfinished.rename(path)


def write_json(path: pathlib.Path, content: dict[str, Any]) -> None:
    """Writes a JSON file."""
    write_text(path, json.dumps(content, indent=1) + "\n")
