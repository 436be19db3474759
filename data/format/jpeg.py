"""How frames are stored: ordinary JPEGs from which blocks can be cut without decoding.

They are baseline JPEGs (4:2:0) with a restart marker after every block of 16 x 16 pixels, and begin
with a comment that tells how long each block is. Any JPEG decoder reads them.
"""

import io

import numpy as np
from PIL import Image

BLOCK = 16  # pixels
START = b"\xff\xd8"
END = b"\xff\xd9"
SIZES = b"\xff\xc0"  # start of frame: length, precision, height and width follow
SCAN = b"\xff\xda"  # start of scan: after its header the blocks follow
LENGTH = np.dtype("<u2")  # of a block, bytes without its marker

_COMMENT = b"\xff\xfe"
_MARKER_BYTES = 2
# Where the lengths begin: after the start, and the comment's marker and own length.
LENGTHS_AT = len(START) + 4
MOST_BLOCKS = (0xFFFF - 2) // LENGTH.itemsize


class DamagedFrame(Exception):
    """A stored frame is not as it was stored."""


def encode_jpeg(image: Image.Image, quality: int) -> bytes:
    """An RGB image as it is stored.

    Args:
      image: to encode.
      quality: 1 ... 95.

    Raises:
      ValueError: if the comment cannot hold the lengths of all blocks, above 8 megapixels.
    """
    buffer = io.BytesIO()
    options = {"quality": quality, "subsampling": "4:2:0", "restart_marker_blocks": 1}
    # A comment of the source would make headers differ.
    image.save(buffer, "JPEG", comment=b"", **options)
    jpeg = buffer.getvalue()
    lengths = _block_lengths(jpeg)
    if len(lengths) > MOST_BLOCKS:
        raise ValueError(f"{image.width} x {image.height} pixels are too many for a frame")
    comment = lengths.astype(LENGTH).tobytes()
    size = (len(comment) + 2).to_bytes(2, "big")
    return b"".join([START, _COMMENT, size, comment, jpeg[len(START) :]])


def _block_lengths(jpeg: bytes) -> np.ndarray:
    scan = jpeg.find(SCAN)
    first = scan + 2 + int.from_bytes(jpeg[scan + 2 : scan + 4], "big")
    # In compressed data 0xFF is followed by 0, or is a marker: 0xFFD0 ... 0xFFD7, at last the end.
    data = np.frombuffer(jpeg, np.uint8)[first:]
    marks = np.flatnonzero(data[:-1] == 0xFF)
    marks = marks[data[marks + 1] != 0]
    return np.diff(marks, prepend=-_MARKER_BYTES) - _MARKER_BYTES
