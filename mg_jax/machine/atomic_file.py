"""Files that are there whole or not at all, even if the process is killed while it writes."""

import contextlib
import json
import os
import pathlib
import socket
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def replaced(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """A path to write to; when the block ends, the file that was written there becomes `path`.

    If the block raises, `path` stays as it was. Nothing is synced to the disk (fsync): the kernel
    keeps what a killed process has written and renamed; after a power cut the file may be empty.
    """
    # Each process has its own, so that none renames what another one is still writing: workers
    # outlive a killed parent for a moment, and the same command may run twice, or on several hosts.
    unfinished = path.with_name(f"{path.name}.{socket.gethostname()}.{os.getpid()}.tmp")
    try:
        yield unfinished
        unfinished.rename(path)
    finally:
        unfinished.unlink(missing_ok=True)


def remove_unfinished(folder: pathlib.Path, name: str = "*") -> None:
    """Removes what killed processes left of files that no other process writes to.

    Args:
      folder: of the files.
      name: of the file, or a pattern; by default all.
    """
    for path in folder.glob(f"{name}.*.tmp"):
        path.unlink(missing_ok=True)


def write_text(path: pathlib.Path, text: str) -> None:
    """Writes a text file in UTF-8."""
    with replaced(path) as unfinished:
        unfinished.write_text(text, encoding="utf-8")


def write_bytes(path: pathlib.Path, content: bytes) -> None:
    """Writes a file."""
    with replaced(path) as unfinished:
        unfinished.write_bytes(content)


def write_json(path: pathlib.Path, content: dict[str, Any] | list[Any]) -> None:
    """Writes a JSON file."""
    write_text(path, json.dumps(content, indent=1) + "\n")
