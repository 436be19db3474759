"""Video files: the stream that is shown, its frames by FFmpeg, and what the file announces."""

import array
import contextlib
import os
import pathlib
import re
from collections.abc import Iterable, Iterator
from typing import TypeVar

import av

from mg_jax.errors import text_of

T = TypeVar("T")

# Of FFmpeg's AV_DISPOSITION_... and AVFMT_... flags.
_COVER = 0x0400 | 0x0800  # ATTACHED_PIC, TIMED_THUMBNAILS
_NO_TIMESTAMPS = 0x0080

# Titles and the like may be in any encoding; PyAV accepts all of them from version 19 on.
_ANY_TITLE = {} if int(av.__version__.split(".")[0]) >= 19 else {"metadata_errors": "replace"}

# By how much frames may differ from what the file announces without a remark; the larger counts.
_DIFFERS_SHARE = 0.05
_DIFFERS_FRAMES = 2

_PACKETS = (188, 192, 204)  # sizes in MPEG transport streams, bytes
_CLOCK = re.compile(r"(\d+):(\d+):(\d+(?:\.\d+)?)")


class VideoError(Exception):
    """A video that cannot be used, with the reason."""


@contextlib.contextmanager
def as_video_errors() -> Iterator[None]:
    """Whatever a library raises over a file within it becomes a VideoError.

    For damaged files decoders raise whatever they like, and one video must not stop the others. Our
    own code stays outside as far as possible, so that its faults keep their traceback.
    """
    try:
        yield
    except VideoError:
        raise
    except Exception as error:
        raise VideoError(reason(error)) from error


def decoded(frames: Iterable[T]) -> Iterator[T]:
    """The frames of a decoder.

    Raises:
      VideoError: if it fails.
    """
    frames, end = iter(frames), object()
    while True:
        with as_video_errors():
            frame = next(frames, end)
        if frame is end:
            return
        yield frame


def open_video(path: pathlib.Path) -> av.container.InputContainer:
    """Opens a file of any name; FFmpeg would take what stands before a colon for a protocol.

    Raises:
      VideoError: if it cannot be opened.
    """
    with as_video_errors():
        return av.open(f"file:{path}", **_ANY_TITLE)


def video_stream(container: av.container.InputContainer) -> av.VideoStream:
    """The stream that FFmpeg would show, set to decode in one thread.

    Raises:
      VideoError: if there is none that FFmpeg decodes; the cover of a sound file does not count.
    """
    streams = [stream for stream in container.streams.video if not _is_cover(stream)]
    if not streams:
        raise VideoError("no video stream")
    # FFmpeg may not recognise a thumbnail that has a track of its own; it has one frame.
    streams = [stream for stream in streams if stream.frames != 1] or streams
    best = container.streams.best("video")
    stream = next((s for s in streams if best is not None and s.index == best.index), streams[0])
    with as_video_errors():  # without a decoder it has no threads
        stream.thread_count = 1  # workers are processes, one per core
    return stream


class VideoFile:
    """A file that is being decoded.

    Attributes:
      stream: which is decoded.
      times: seconds, of the frames so far; NaN where missing.
    """

    def __init__(self, container: av.container.InputContainer, path: pathlib.Path):
        self.stream = video_stream(container)
        self.times = array.array("d")
        self._container = container
        self._path = path
        self._end = 0  # of the last packet, in the stream's unit of time
        self._damaged = 0
        self._failure = None

    def frames(self) -> Iterator[av.VideoFrame]:
        """The frames that are shown, in order.

        Raises:
          VideoError: for damage, except at the end of the file.
        """
        return decoded(self._frames())

    def _frames(self) -> Iterator[av.VideoFrame]:
        for packet in self._container.demux(self.stream):
            if packet.size and self._failure:
                raise self._failure
            if packet.pts is not None:
                self._end = max(self._end, packet.pts + (packet.duration or 0))
            try:
                decoded = packet.decode()
            except av.error.FFmpegError as error:
                self._failure = error
                continue
            for frame in decoded:
                self._damaged += frame.is_corrupt
                self.times.append(float("nan") if frame.time is None else frame.time)
                yield frame
        if self._failure and not self.times:
            raise self._failure

    def remarks(self, fps: float) -> list[str]:
        """What was wrong, once all frames are decoded."""
        remarks = []
        if self._failure:
            remarks.append(f"its last frames cannot be decoded: {reason(self._failure)}")
        if self._damaged:
            remarks.append(f"frames damaged and decoded in part: {self._damaged}")
        return remarks + self._cut_off_remarks(fps)

    def _cut_off_remarks(self, fps: float) -> list[str]:
        count, remarks = len(self.times), []
        # MP4 and MOV also count frames that their edit lists leave out.
        announced = 0 if "mov" in self._container.format.name else self.stream.frames
        if announced and abs(count - announced) > _many(announced):
            remarks.append(f"announces {announced} frames, but {count} are there")
        seconds = announced_s(self._container, self.stream)
        end = float(self._end * self.stream.time_base)
        if fps and (seconds - end) * fps > _many(seconds * fps):
            remarks.append(f"announces {seconds:.4g} s, but ends at {end:.4g} s")
        if self._container.format.name == "mpegts":
            size = os.path.getsize(self._path)
            if all(size % packet for packet in _PACKETS):
                remarks.append("ends in the middle of a packet: it is cut off")
        return remarks


def announced_s(container: av.container.InputContainer, stream: av.VideoStream) -> float:
    """Length of the video as its file announces it, seconds; 0 where it does not."""
    if stream.duration:
        return float(stream.duration * stream.time_base)
    for name, value in stream.metadata.items():  # Matroska's, of this stream alone
        if name.startswith("DURATION") and (clock := _CLOCK.fullmatch(value)):
            hours, minutes, seconds = map(float, clock.groups())
            return hours * 3600 + minutes * 60 + seconds
    if container.format.flags & _NO_TIMESTAMPS:
        return 0.0  # FFmpeg guesses from the bit rate
    return (container.duration or 0) / av.time_base


def announced_frames(container: av.container.InputContainer, stream: av.VideoStream) -> int:
    """Number of frames that the file announces, by its rate if need be; 0 where it does not."""
    return stream.frames or round(announced_s(container, stream) * (stream.average_rate or 0))


def reason(error: BaseException) -> str:
    """What went wrong; some errors of decoders carry no text of their own."""
    return getattr(error, "strerror", None) or text_of(error)


def _many(frames: float) -> float:
    return max(_DIFFERS_FRAMES, _DIFFERS_SHARE * frames)


def _is_cover(stream: av.VideoStream) -> bool:
    return bool(stream.disposition.value & _COVER)
