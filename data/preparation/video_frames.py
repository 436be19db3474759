"""Video files and folders of frames in, JPEG frames out. No TensorFlow here."""

import dataclasses
import os
import pathlib
from collections.abc import Callable, Iterable

import av
from av.video.reformatter import VideoReformatter
from PIL import Image

from data.format.jpeg import encode_jpeg
from data.format.stored_jpegs import StoredJpegs
from data.listing.image_folder import ImageFolder
from data.preparation.display import display_of, scaled
from data.preparation.video_file import (
    VideoError,
    VideoFile,
    as_video_errors,
    decoded,
    open_video,
)
from data.preparation.video_times import timeline


@dataclasses.dataclass(frozen=True)
class Frames:
    """A video's frames as they are stored.

    Attributes:
      jpegs: every `step`-th frame, in order of presentation.
      height: pixels.
      width: pixels.
      fps: frames per second of the source, 0 where it does not say.
      source_frames: number of frames of the source, those that are not stored included.
      remarks: for people: what is odd about the video, or shown in another way than it says.
    """

    jpegs: StoredJpegs
    height: int
    width: int
    fps: float
    source_frames: int
    remarks: tuple[str, ...]


def read_frames(
    path: pathlib.Path,
    short_side: int,
    quality: int,
    step: int = 1,
    fps: float = 0.0,
    folder: pathlib.Path | None = None,
    saw_frame: Callable[[], None] = lambda: None,
) -> Frames:
    """Decodes a video and encodes every `step`-th frame, as a player shows it.

    Videos of a variable frame rate are converted to their mean rate, so that any two neighbouring
    frames are equally far apart in time. They are decoded a second time if `step` is more than 1.

    Args:
      path: any file that FFmpeg reads, or a folder of images, one per frame, in order of the
        numbers in their names.
      short_side: frames whose short side is longer are scaled down to it, pixels.
      quality: of the JPEGs, 1 ... 95.
      step: keep frames 0, step, 2 step ...
      fps: of a folder of images, frames per second.
      folder: for JPEGs that do not fit into memory; by default the system's for temporary files.
      saw_frame: called after each decoded frame.

    Raises:
      VideoError: if the video is missing, cannot be decoded or has no frames.
      WriteError: if the disk is full.
    """
    encoder = _Encoder(short_side, quality, StoredJpegs(folder), saw_frame)
    try:
        if os.path.isdir(path):
            return _read_folder(path, encoder, step, fps)
        return _read_file(path, encoder, step)
    except BaseException:
        encoder.jpegs.close()
        raise


def _read_folder(path: pathlib.Path, encoder: "_Encoder", step: int, fps: float) -> Frames:
    with as_video_errors():
        images = ImageFolder(path)
    count = encoder.encode(decoded(images), encoder.scaled_image, lambda index: index % step == 0)
    return encoder.frames(fps, count, images.remarks())


def _read_file(path: pathlib.Path, encoder: "_Encoder", step: int) -> Frames:
    with open_video(path) as container:
        file = VideoFile(container, path)
        to_image = encoder.displayed(file)
        count = encoder.encode(file.frames(), to_image, lambda index: index % step == 0)
        times = timeline(file.times, float(file.stream.average_rate or 0))
        remarks = [*times.remarks, *file.remarks(times.fps)]
    if times.shown_N is not None:
        shown_K = times.shown_N[::step].tolist()
        if step > 1:
            shown_K = _encode_again(path, encoder, shown_K)
        encoder.jpegs.reorder(shown_K)
    return encoder.frames(times.fps, count, remarks)


def _encode_again(path: pathlib.Path, encoder: "_Encoder", shown_K: list[int]) -> list[int]:
    """Adds the JPEGs of frames with given indices; returns the index of each among all JPEGs."""
    places = {index: len(encoder.jpegs) + i for i, index in enumerate(sorted(set(shown_K)))}
    with open_video(path) as container:
        file = VideoFile(container, path)
        encoder.encode(file.frames(), encoder.displayed(file), places.__contains__)
    return [places[index] for index in shown_K]


class _Encoder:
    """Encodes the frames of one video as JPEGs of one size."""

    def __init__(
        self, short_side: int, quality: int, jpegs: StoredJpegs, saw_frame: Callable[[], None]
    ):
        self.jpegs = jpegs
        self._short_side = short_side
        self._quality = quality
        self._saw_frame = saw_frame
        self._scaler = VideoReformatter()  # keeps its tables from frame to frame
        self._display = None
        self._first_size = None  # of the frames before scaling
        self._size = None  # stored
        self._other_sizes = 0

    def encode(
        self,
        frames: Iterable,
        to_image: Callable[..., Image.Image],
        wanted: Callable[[int], bool],
    ) -> int:
        """Adds the JPEGs of the frames whose index is wanted; returns the number of all frames.

        Raises:
          VideoError: if one cannot be decoded, or has too many pixels to be stored.
          WriteError: if the disk is full.
        """
        count = 0
        for count, frame in enumerate(frames, 1):
            size = frame.width, frame.height
            self._first_size = self._first_size or size
            self._other_sizes += size != self._first_size
            if wanted(count - 1):
                image = to_image(frame)
                self._size = image.size
                with as_video_errors():
                    jpeg = encode_jpeg(image, self._quality)
                self.jpegs.append(jpeg)
            self._saw_frame()
        return count

    def frames(self, fps: float, source_frames: int, remarks: list[str]) -> Frames:
        """The frames that are encoded, in the end.

        Raises:
          VideoError: if there are none.
        """
        if not len(self.jpegs):
            raise VideoError("no frames")
        if self._display is not None:
            remarks = [*self._display.remarks, *remarks]
        if self._other_sizes:
            width, height = self._first_size
            remarks = [
                *remarks,
                f"frames scaled to the size of the first, {width} x {height}: {self._other_sizes}",
            ]
        width, height = self._size
        return Frames(self.jpegs, height, width, fps, source_frames, tuple(remarks))

    def scaled_image(self, image: Image.Image) -> Image.Image:
        """An image of a folder as it is stored."""
        size = scaled(*self._first_size, self._short_side)
        return image if image.size == size else image.resize(size, Image.Resampling.BICUBIC)

    def displayed(self, file: VideoFile) -> Callable[[av.VideoFrame], Image.Image]:
        """Turns frames of the file into images as they are stored."""

        def to_image(frame: av.VideoFrame) -> Image.Image:
            if self._display is None:
                self._display = display_of(frame, file.stream, self._short_side)
            return self._display.image(self._scaler, frame)

        return to_image
