"""What a process and its readers tell each other, through two pipes that all readers share.

Tasks lie in one pipe, and whichever reader is free takes the next. They are all of one size, which
divides the pages of a pipe, so that none is ever read in pieces. Answers come back in the other;
each is written at once and short enough for the kernel to keep it in one piece.
"""

import struct
from collections.abc import Iterator
from typing import NamedTuple

DONE, DAMAGED, NOTHING_LEFT, FAILED = range(4)

_MOST_TEXT = 2048  # bytes; with its head less than the 4096 that a pipe keeps together
_HEAD = struct.Struct("<QBqH")


class Task(NamedTuple):
    """What a reader is asked for.

    Attributes:
      batch: which the answers are about.
      memory: id of the file that the batch lies in.
      memory_fd: its descriptor in the asking process.
      source: id of the file that holds what to read from.
      source_fd: its descriptor in the asking process.
      shape: index of the items' shape, among those of the source.
      first: position or row of the batch's first item.
      count: items of the batch.
      start: what of the batch to read, as the source's `tasks` says,
      extent: and how much.
    """

    batch: int
    memory: int
    memory_fd: int
    source: int
    source_fd: int
    shape: int
    first: int
    count: int
    start: int
    extent: int


TASK = struct.Struct("<QQIQIIqIII8x")  # a Task, 64 bytes


class Answer(NamedTuple):
    """What a reader says.

    Attributes:
      batch: that it is about.
      kind: DONE: a task is. DAMAGED: a video is. NOTHING_LEFT: no other video can take a damaged
        one's place. FAILED: the reader has met an unexpected error.
      row: of the damaged video.
      text: in words.
    """

    batch: int
    kind: int
    row: int = 0
    text: str = ""

    def packed(self) -> bytes:
        """The bytes to write."""
        text = self.text.encode(errors="replace")
        # The last line of a traceback names the error.
        text = text[-_MOST_TEXT:] if self.kind == FAILED else text[:_MOST_TEXT]
        return _HEAD.pack(self.batch, self.kind, self.row, len(text)) + text


def unpacked(content: bytes) -> Iterator[tuple[Answer, int]]:
    """The answers that are whole, each with the number of bytes up to its end."""
    at = 0
    while at + _HEAD.size <= len(content):
        batch, kind, row, length = _HEAD.unpack_from(content, at)
        end = at + _HEAD.size + length
        if end > len(content):
            return
        yield Answer(batch, kind, row, content[end - length : end].decode(errors="replace")), end
        at = end
