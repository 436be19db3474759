"""What a player shows of a decoded frame: its pixels made square, turned and mirrored."""

import dataclasses
import fractions

import av
import numpy as np
from av.video.reformatter import Interpolation, VideoReformatter
from PIL import Image

from data.preparation.video_file import as_video_errors

# The upper left of a display matrix, rows of (a b) and (c d): pixel (p, q) is shown at
# (a p + c q, b p + d q), columns to the right and rows downwards.
_TURNS = (
    (((1, 0), (0, 1)), None),
    (((-1, 0), (0, 1)), Image.Transpose.FLIP_LEFT_RIGHT),
    (((1, 0), (0, -1)), Image.Transpose.FLIP_TOP_BOTTOM),
    (((-1, 0), (0, -1)), Image.Transpose.ROTATE_180),
    (((0, -1), (1, 0)), Image.Transpose.ROTATE_90),
    (((0, 1), (-1, 0)), Image.Transpose.ROTATE_270),
    (((0, 1), (1, 0)), Image.Transpose.TRANSPOSE),
    (((0, -1), (-1, 0)), Image.Transpose.TRANSVERSE),
)
_ALIKE = 0.9998  # cosine of one degree: FFmpeg takes what is closer to a right angle for one

# A ratio of a pixel's sides above this is taken for a mistake of the file.
_WIDEST_PIXEL = 5


@dataclasses.dataclass(frozen=True)
class Display:
    """How the frames of a video are shown, at the size at which they are stored.

    Attributes:
      width: to which decoded frames are scaled, pixels.
      height: likewise.
      turn: what is done with them then, if anything.
      remarks: which statements of the file were not followed.
    """

    width: int
    height: int
    turn: Image.Transpose | None
    remarks: tuple[str, ...]

    def image(self, scaler: VideoReformatter, frame: av.VideoFrame) -> Image.Image:
        """A frame as it is stored, RGB; the scaler keeps its tables from frame to frame.

        Raises:
          VideoError: if its pixels are in a format that cannot be converted.
        """
        with as_video_errors():
            # One thread, since each core has a worker; two took twice the time for small frames.
            rgb = scaler.reformat(
                frame,
                self.width,
                self.height,
                "rgb24",
                interpolation=Interpolation.BICUBIC,
                threads=1,
            )
            image = Image.fromarray(rgb.to_ndarray())
        return image if self.turn is None else image.transpose(self.turn)


def display_of(frame: av.VideoFrame, stream: av.VideoStream, short_side: int) -> Display:
    """How a video is shown, from the first decoded frame.

    Args:
      frame: of the stream, which has decoded it.
      stream: of the video.
      short_side: frames whose short side is longer are scaled down to it, pixels.
    """
    aspect, remarks = _pixel_aspect(stream)
    # As FFmpeg's scale=iw*sar:ih.
    shown_width = max(1, int(frame.width * aspect))
    turn, more = _turn(frame)
    width, height = scaled(shown_width, frame.height, short_side)
    return Display(width, height, turn, (*remarks, *more))


def scaled(width: int, height: int, short_side: int) -> tuple[int, int]:
    """The size whose short side is `short_side` pixels at most."""
    scale = min(1.0, short_side / min(width, height))
    return round(width * scale), round(height * scale)


def _pixel_aspect(stream: av.VideoStream) -> tuple[fractions.Fraction, list[str]]:
    """Width over height of a pixel, by the container or else by the codec, and remarks."""
    aspect = stream.sample_aspect_ratio or stream.codec_context.sample_aspect_ratio
    if not aspect or aspect < 0:
        return fractions.Fraction(1), []
    if not fractions.Fraction(1, _WIDEST_PIXEL) <= aspect <= _WIDEST_PIXEL:
        said = f"{aspect.numerator}:{aspect.denominator}"
        return fractions.Fraction(1), [f"its pixel aspect of {said} is taken for 1:1"]
    return fractions.Fraction(aspect), []


def _turn(frame: av.VideoFrame) -> tuple[Image.Transpose | None, list[str]]:
    side_data = frame.side_data.get("DISPLAYMATRIX")
    if side_data is None:
        return None, []
    matrix_33 = np.frombuffer(bytes(side_data)[:36], np.int32).reshape(3, 3)
    upper_22 = matrix_33[:2, :2].astype(float)
    length = np.linalg.norm(upper_22)
    if not length:
        return None, ["its display matrix is zero and not followed"]
    alike = [(upper_22 * turn_22).sum() / (length * 2**0.5) for turn_22, _ in _TURNS]
    best = int(np.argmax(alike))
    if alike[best] >= _ALIKE:
        return _TURNS[best][1], []
    numbers = " ".join(f"{value:.3g}" for value in (upper_22 / 2**16).ravel())
    return _TURNS[best][1], [
        f"its display matrix ({numbers}) is no multiple of 90 degrees; the nearest is taken"
    ]
