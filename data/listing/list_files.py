"""Reads the files of lists. Every error names file and line."""

import csv
import io
import json
import pathlib
from collections.abc import Iterator
from typing import Any

from mg_jax.errors import UserError

_AS_UTF8 = "save it as UTF-8 (iconv -f {} -t UTF-8 FILE > NEW)"
_ZIP = b"PK\x03\x04"


def read_text(path: pathlib.Path) -> str:
    """The content of a file in UTF-8, without its byte order mark.

    Raises:
      UserError: if it cannot be read or is not UTF-8, naming the line.
    """
    text = _decoded(path)
    if not _utf8(text):
        for line, content in enumerate(text.split("\n"), 1):
            check_utf8(f"{path}, line {line}", content)
    return text


def check_utf8(where: str, text: str) -> None:
    """Raises UserError if a part of a file, decoded by `_decoded`, is not UTF-8."""
    if not _utf8(text):
        shown = text.encode("utf-8", "surrogateescape")[:80].decode("latin-1").rstrip("\r")
        raise UserError(f"{where}: {shown!r} is not UTF-8; {_AS_UTF8.format('LATIN1')}")


def _utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _decoded(path: pathlib.Path) -> str:
    """The content of a file; bytes that are not UTF-8 become lone surrogates."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error
    if content.startswith(_ZIP):
        raise UserError(f"{path}, line 1: a zip file, such as Excel's; export it as CSV in UTF-8")
    if content[:2] in (b"\xff\xfe", b"\xfe\xff") or _every_other_is_zero(content):
        raise UserError(f"{path}, line 1: not UTF-8 but UTF-16; {_AS_UTF8.format('UTF-16')}")
    text = content.decode("utf-8-sig", "surrogateescape")
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        raise UserError(f"{path}, line {line}: a zero byte, so it is no list; save it as text")
    return text


def _every_other_is_zero(content: bytes) -> bool:
    start = content[:1000]
    return len(start) > 3 and max(start[::2].count(0), start[1::2].count(0)) > 0.4 * len(start)


def read_rows(path: pathlib.Path, separator: str) -> Iterator[tuple[int, list[str]]]:
    """The rows of a CSV file, each with its line number, without empty ones.

    Rows may hold bytes that are not UTF-8, which `check_utf8` finds.

    Raises:
      UserError: if it is no CSV.
    """
    reader = csv.reader(io.StringIO(_decoded(path), newline=""), delimiter=separator)
    line = 1
    while True:
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise UserError(
                f"{path}, line {line}: {error}; is a double quote opened and not closed?"
            ) from error
        if any(cell.strip() for cell in row):
            yield line, row
        line = reader.line_num + 1


def read_table(
    path: pathlib.Path, columns: tuple[str, ...]
) -> Iterator[tuple[str, dict[str, str]]]:
    """The rows of a CSV file with a header, each with its file and line; missing cells are empty.

    Raises:
      UserError: if a column is missing or the file is no CSV.
    """
    rows = read_rows(path, ",")
    _, names = next(rows, (1, []))
    missing = [name for name in columns if name not in names]
    if missing:
        found = ", ".join(names)[:200]
        raise UserError(f"{path}, line 1: no column {', '.join(missing)}, but {found}")
    for line, row in rows:
        check_utf8(f"{path}, line {line}", ",".join(row))
        cells = row + [""] * (len(names) - len(row))
        yield f"{path}, line {line}", dict(zip(names, cells, strict=False))


def read_json(path: pathlib.Path) -> Any:
    """The content of a JSON file.

    Raises:
      UserError: if it is not valid JSON.
    """
    text = read_text(path)
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise UserError(f"{path}, line {error.lineno}, cannot be read: {error.msg}") from error
    except (ValueError, RecursionError) as error:  # numbers of thousands of digits, too
        raise UserError(f"{path} cannot be read: {error}") from error


def read_json_list(path: pathlib.Path) -> list[tuple[str, Any]]:
    """The entries of a JSON list, each with its file and line.

    Raises:
      UserError: if it is no JSON list.
    """
    if not isinstance(read_json(path), list):
        raise UserError(f"{path} is no list of videos")
    text, decoder = read_text(path), json.JSONDecoder()
    entries, position, line, counted = [], text.index("[") + 1, 1, 0
    while True:
        while text[position].isspace() or text[position] == ",":
            position += 1
        if text[position] == "]":
            return entries
        line, counted = line + text.count("\n", counted, position), position
        entry, position = decoder.raw_decode(text, position)
        entries.append((f"{path}, line {line}", entry))


def read_lines(path: pathlib.Path) -> list[str]:
    """The lines of a text file without blanks at their ends, empty ones left out.

    Raises:
      UserError: if it is no text.
    """
    lines = [line.strip() for line in read_text(path).splitlines()]
    return [line for line in lines if line]
