"""Files and folders that are there whole or not at all, even if their writer is killed."""

import contextlib
import json
import os
import pathlib
import shutil
import socket
import tempfile
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


@contextlib.contextmanager
def replaced_folder(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """An empty folder to write into; when the block ends, it becomes `path`.

    If the block raises, `path` stays as it was.
    """
    unfinished = pathlib.Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    try:
        yield unfinished
        unfinished.chmod(0o755)
        replace_folder(path, unfinished, path.with_name(f".{path.name}.old"))
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def replace_folder(path: pathlib.Path, newer: pathlib.Path, old: pathlib.Path) -> None:
    """Puts a folder in the place of another one or of none, and removes that.

    If it raises, `path` stays as it was. A process that is killed between the two renamings leaves
    the former folder as `old`: only what has been replaced is removed.

    Args:
      path: the place.
      newer: what becomes `path`; on the same file system.
      old: where the former folder lies until the newer one is in its place.
    """
    if path.exists():
        shutil.rmtree(old, ignore_errors=True)
        path.rename(old)
    try:
        newer.rename(path)
    except BaseException:
        if old.exists() and not path.exists():
            old.rename(path)
        raise
    shutil.rmtree(old, ignore_errors=True)


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
