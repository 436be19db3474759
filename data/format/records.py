"""Random access to the stored frames of a split, and a record of damaged videos."""

import bisect
import functools
import itertools
import threading
from collections.abc import Sequence

import numpy as np
from absl import logging
from array_record.python.array_record_module import ArrayRecordReader

from data.format.jpeg import END, START, DamagedFrame
from mg_jax.errors import UserError


class DataError(UserError):
    """More of a data set is damaged than the config allows."""


class UnreadableFile(Exception):
    """A file of records is missing, or damaged as a whole."""


def read_records(path: str) -> list[bytes]:
    """All records of a file.

    Raises:
      UnreadableFile: if it is missing or damaged.
    """
    try:
        return ArrayRecordReader(path).read_all()
    except (RuntimeError, OSError) as error:
        raise UnreadableFile(str(error)) from error


class FrameRecords:
    """The JPEGs of a split's frames by record index. Threads may share it.

    A copy for another process, by pickle, opens the files there.
    """

    def __init__(self, paths: Sequence[str], lengths: Sequence[int]):
        """Opens the split's files.

        Args:
          paths: files in order.
          lengths: records of each.

        Raises:
          UnreadableFile: if one is missing, damaged at its end, or holds another number of records.
        """
        self._arguments = tuple(paths), tuple(lengths)
        self._firsts = [0, *itertools.accumulate(lengths)]
        self._readers = []
        for path, length in zip(paths, lengths, strict=True):
            try:
                # Frames are not read in order.
                reader = ArrayRecordReader(
                    path, "readahead_buffer_size:0", file_reader_buffer_size=32768
                )
            except (RuntimeError, OSError) as error:
                raise UnreadableFile(f"{path} cannot be read: {error}") from error
            if reader.num_records() != length:
                raise UnreadableFile(f"{path} holds {reader.num_records()} records, not {length}")
            self._readers.append(reader)

    def __reduce__(self) -> tuple:
        return _open_once, self._arguments

    def __len__(self) -> int:
        return self._firsts[-1]

    def jpegs(self, indices: np.ndarray) -> list[memoryview]:
        """Frames of one video, by record index; a video's frames are all in one file.

        Raises:
          DamagedFrame: if a record is damaged, saying where.
        """
        file = bisect.bisect_right(self._firsts, int(indices[0])) - 1
        reader, first = self._readers[file], self._firsts[file]
        # Ranges of one: lists and longer ranges go through a pool of threads, which takes another
        # 1.5 times the CPU time of reading what is in the cache.
        try:
            records = [reader.read(i, i + 1)[0] for i in (indices - first).tolist()]
        except RuntimeError as error:
            raise DamagedFrame(str(error)) from error
        # The one field that holds these bytes; parsing a record would copy it twice.
        begin = START + b"\xff"  # of the first marker
        return [memoryview(r)[r.find(begin) : r.rfind(END) + len(END)] for r in records]


@functools.lru_cache(maxsize=4)
def _open_once(paths: tuple[str, ...], lengths: tuple[int, ...]) -> FrameRecords:
    return FrameRecords(paths, lengths)


class DamagedVideos:
    """The videos of a split whose records turned out to be damaged. Threads may share it.

    Attributes:
      rows: of the split's table.
      fatal: an error that no replacement by another video can repair.
    """

    def __init__(self, videos: int, limit: float):
        """Takes the number of videos in the split and the share that may be damaged."""
        self._videos = videos
        self._limit = limit
        self.rows: set[int] = set()
        self.fatal: Exception | None = None
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self.rows)

    def add(self, row: int, text: str) -> None:
        """Counts a video once and says, in the text's words, what becomes of it."""
        with self._lock:
            if row in self.rows:
                return
            self.rows.add(row)
        logging.error("%s", text)

    def check(self) -> None:
        """Raises DataError if more is damaged than the config allows or than can be replaced."""
        if len(self) > self._limit * self._videos:
            raise DataError(
                f"{len(self)} of {self._videos} videos are damaged, more than the share "
                f"data.max_damaged={self._limit:g}; prepare the data set again, or set "
                "--config.data.max_damaged=... higher"
            )
        if self.fatal is not None:
            raise self.fatal
