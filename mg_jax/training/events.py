"""Scalars for TensorBoard: its files are TFRecords of Event messages."""

import contextlib
import errno
import pathlib
import secrets
import time
from collections.abc import Iterator

import tensorflow as tf

_STEM = "events.out.tfevents."
_Event = tf.compat.v1.Event


class EventFile:
    """A new file of events in a run's folder.

    TensorBoard's own writer needs its server installed; tensorboardX imports PyTorch where there is
    one, a third of the time that a run's imports take.
    """

    def __init__(self, folder: pathlib.Path, purge_from: int):
        """Takes the folder and the step from which on events of earlier files do not count."""
        self.path = folder / f"{_STEM}{_later_than_all(folder)}.{secrets.token_hex(4)}"
        with self._named_errors():
            self._writer = tf.io.TFRecordWriter(str(self.path))
        self._write(_Event(file_version="brain.Event:2"))
        started = tf.compat.v1.SessionLog(status=tf.compat.v1.SessionLog.START)
        self._write(_Event(step=purge_from, session_log=started))

    def scalars(self, step: int, values: dict[str, float]) -> None:
        """Writes scalars by tag.

        Raises:
          OSError: naming the file.
        """
        summary = tf.compat.v1.Summary()
        for tag, value in values.items():
            summary.value.add(tag=tag, simple_value=value)
        self._write(_Event(step=step, summary=summary))
        with self._named_errors():
            self._writer.flush()

    def close(self) -> None:
        """Writes what is left, if it can be written; what could not has been said before."""
        with contextlib.suppress(tf.errors.OpError):
            self._writer.close()

    def _write(self, event: _Event) -> None:
        event.wall_time = time.time()
        with self._named_errors():
            self._writer.write(event.SerializeToString())

    @contextlib.contextmanager
    def _named_errors(self) -> Iterator[None]:
        try:
            yield
        except tf.errors.OpError as error:
            raise OSError(errno.EIO, error.message, str(self.path)) from error


def _later_than_all(folder: pathlib.Path) -> int:
    """Now, in seconds, or later than each file there.

    TensorBoard reads files in the order of their names; the clock of the host that a run moves to
    may be behind.
    """
    times = (path.name.removeprefix(_STEM).split(".")[0] for path in folder.glob(f"{_STEM}*"))
    return max([int(time.time()), *(int(t) + 1 for t in times if t.isdecimal())])
