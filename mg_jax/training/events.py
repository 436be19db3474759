"""Scalars for TensorBoard, whose files are TFRecords of Event messages."""

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
    """A new event file in a work directory.

    TensorFlow's own summary writer needs TensorBoard installed; tensorboardX imports PyTorch if it
    is installed, which takes a third of the time of all imports.
    """

    def __init__(self, folder: pathlib.Path, purge_from: int, kept: dict[str, float]):
        """Creates the file.

        Args:
          folder: the work directory.
          purge_from: TensorBoard ignores earlier files' events from this step on.
          kept: scalars of that step, by tag, that are written again.

        Raises:
          OSError: naming the file.
        """
        self.path = folder / f"{_STEM}{_later_than_all(folder)}.{secrets.token_hex(4)}"
        with self._named_errors():
            self._writer = tf.io.TFRecordWriter(str(self.path))
        self._write(_Event(file_version="brain.Event:2"))
        started = tf.compat.v1.SessionLog(status=tf.compat.v1.SessionLog.START)
        self._write(_Event(step=purge_from, session_log=started))
        # What is purged and what is kept come to disk together.
        self.scalars(purge_from, kept)

    def scalars(self, step: int, values: dict[str, float]) -> None:
        """Writes scalars.

        Args:
          step: iterations done.
          values: by tag.

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
        """Closes the file; an error of writing has been raised before."""
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


def shown_at(folder: pathlib.Path, step: int) -> dict[str, float]:
    """The scalars by tag that TensorBoard shows at a step, from all event files of a folder.

    Raises:
      OSError: naming the file.
    """
    shown = {}
    for path in filter(pathlib.Path.is_file, sorted(folder.glob(f"{_STEM}*"))):
        for event in _events_of(path):
            starts = event.session_log.status == tf.compat.v1.SessionLog.START
            if starts and event.step <= step:
                shown.clear()
            if event.step == step:
                scalars = (v for v in event.summary.value if v.HasField("simple_value"))
                shown.update({value.tag: value.simple_value for value in scalars})
    return shown


def _events_of(path: pathlib.Path) -> Iterator[_Event]:
    """The events of a file, up to where it was cut off."""
    try:
        yield from map(_Event.FromString, tf.data.TFRecordDataset(str(path)).as_numpy_iterator())
    except tf.errors.DataLossError:
        return
    except tf.errors.OpError as error:
        raise OSError(errno.EIO, error.message, str(path)) from error


def _later_than_all(folder: pathlib.Path) -> int:
    """A time stamp in seconds: now, or later than that of every file in the folder.

    TensorBoard reads files in the order of their names, and a run may continue on a host whose
    clock is behind.
    """
    times = (path.name.removeprefix(_STEM).split(".")[0] for path in folder.glob(f"{_STEM}*"))
    return max([int(time.time()), *(int(t) + 1 for t in times if t.isdecimal())])
