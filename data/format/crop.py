"""Stored JPEGs into crops: of large frames only the blocks under a crop are decoded.

Stored frames have a restart marker after every block of 16 x 16 pixels and a table of the blocks'
lengths (see `jpeg`). So the blocks under the crops of all frames of a clip can be cut out, joined
frame below frame into one ordinary JPEG, and decoded in one call. Decoding is most of the input's
cost, and this way grows with the area of the crop. Frames that have few or no blocks outside the
crop are decoded whole, one by one.
"""

import operator
from collections.abc import Iterator, Sequence

import cv2
import numpy as np
import simplejpeg

from data.format.jpeg import (
    BLOCK,
    END,
    LENGTH,
    LENGTHS_AT,
    MOST_BLOCKS,
    SCAN,
    SIZES,
    START,
    DamagedFrame,
)

# One thread per clip; the clips are what runs in parallel.
cv2.setNumThreads(1)

# Bytes of the pixels that one JPEG decodes to: they stay in a core's cache until resampled.
_MOST_BYTES = 1 << 20
# Blocks outside the crop, of all frames of a clip together: to decode no more than these costs less
# than to cut and join the others.
_FEW_BLOCKS = 24
# Restart markers count 0 ... 7 cyclically. What is decoded at once has no more blocks than a frame
# may have.
_RESTARTS = (0xD0 + np.arange(MOST_BLOCKS) % 8).astype(np.uint8)


def crop(
    out_NThhC: np.ndarray,
    jpegs: Sequence[bytes | memoryview],
    shape: tuple[int, int],
    boxes_N3: np.ndarray,
) -> None:
    """Cuts squares out of every frame and resamples them bilinearly to h x h pixels.

    Args:
      out_NThhC: where to put the N squares of the T frames, uint8.
      jpegs: T frames as stored.
      shape: their height and width, pixels.
      boxes_N3: top, left and side of the squares, whole pixels.

    Raises:
      DamagedFrame: if a JPEG is not as it was stored.
    """
    boxes = boxes_N3.tolist()
    # For strong shrinking, decoding at half, quarter or eighth size is faster and does not alias.
    pixels = min(side for _, _, side in boxes) // out_NThhC.shape[2]
    shrink = 1 << min(max(pixels, 1).bit_length() - 1, 3)
    (first, start), images = decode(jpegs, shape, boxes_N3, shrink)
    boxes = [(top - first, left - start, side) for top, left, side in boxes]
    for t, image_HWC in enumerate(images):
        for n, box in enumerate(boxes):
            _resample(image_HWC, box, shrink, out_NThhC[n, t])


def decode(
    jpegs: Sequence[bytes | memoryview],
    shape: tuple[int, int],
    boxes_N3: np.ndarray,
    shrink: int = 1,
) -> tuple[tuple[int, int], Iterator[np.ndarray]]:
    """Decodes the blocks under some squares of every frame.

    Args:
      jpegs: T frames as stored.
      shape: their height and width, pixels.
      boxes_N3: top, left and side of the squares, whole pixels.
      shrink: 1, 2, 4 or 8, the divisor of the size to decode at.

    Returns:
      Top and left of the blocks in the frame, in stored pixels, and T times the blocks, `H W 3`
      uint8.

    Raises:
      DamagedFrame: if a JPEG is not as it was stored.
    """
    blocks = top, left, bottom, right = _blocks(shape, boxes_N3)
    rows, columns = bottom - top, right - left
    outside = -(-shape[0] // BLOCK) * -(-shape[1] // BLOCK) - rows * columns
    most = max(_MOST_BYTES // (3 * rows * columns * BLOCK**2), 1)
    views = [memoryview(jpeg) for jpeg in jpegs]
    pixels = BLOCK // shrink  # of a block
    window = slice(top * pixels, bottom * pixels), slice(left * pixels, right * pixels)

    def whole() -> Iterator[np.ndarray]:
        for view in views:
            yield _decode_frame(view, shape, shrink)[window]

    def joined() -> Iterator[np.ndarray]:
        for t in range(0, len(views), most):
            column_HWC = _decode(_joined(views[t : t + most], shape, blocks), shrink)
            yield from column_HWC.reshape(-1, rows * pixels, *column_HWC.shape[1:])

    images = whole() if len(views) * outside <= _FEW_BLOCKS else joined()
    return (top * BLOCK, left * BLOCK), images


def _resample(
    image_HWC: np.ndarray, box: tuple[int, int, int], shrink: int, out_hhC: np.ndarray
) -> None:
    top, left, side = box
    size = len(out_hhC)
    if shrink == 1:
        square = image_HWC[top : top + side, left : left + side]
        cv2.resize(square, (size, size), out_hhC, interpolation=cv2.INTER_LINEAR)
        return
    # The square's edges lie between pixels: centre i is at (edge + (i + 1/2) side / h) / shrink.
    scale = side / size / shrink
    offset = (scale - 1) / 2
    matrix = np.array([[scale, 0, left / shrink + offset], [0, scale, top / shrink + offset]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    cv2.warpAffine(image_HWC, matrix, (size, size), out_hhC, flags, cv2.BORDER_REPLICATE)


def _blocks(shape: tuple[int, int], boxes_N3: np.ndarray) -> tuple[int, int, int, int]:
    """The blocks that hold all squares: top, left, and one past bottom and right."""
    (tops, lefts, sides), (height, width) = boxes_N3.T.tolist(), shape
    bottom = min(max(map(operator.add, tops, sides)), height)
    right = min(max(map(operator.add, lefts, sides)), width)
    return min(tops) // BLOCK, min(lefts) // BLOCK, -(-bottom // BLOCK), -(-right // BLOCK)


def _joined(
    jpegs: list[memoryview], shape: tuple[int, int], blocks: tuple[int, int, int, int]
) -> np.ndarray:
    """One JPEG of the same blocks of several, one frame below the other, without decoding them.

    Raises:
      DamagedFrame: if a JPEG is not as it was stored.
    """
    top, left, bottom, right = blocks
    rows, columns = -(-shape[0] // BLOCK), -(-shape[1] // BLOCK)
    lengths_TN, tables = _headers(jpegs, rows * columns)
    first = LENGTHS_AT + lengths_TN[0].nbytes + len(tables)
    # Two bytes follow each block: a marker, or the end of the image.
    ends_TN = np.cumsum(np.add(lengths_TN, 2, dtype=np.int64), 1) + first
    if [len(jpeg) for jpeg in jpegs] != ends_TN[:, -1].tolist():
        raise DamagedFrame("a stored JPEG is cut off")
    ends_TRC = ends_TN.reshape(-1, rows, columns)[:, top:bottom, left:right]
    lengths_TR = lengths_TN.reshape(-1, rows, columns)[:, top:bottom, left]
    begins_TR, lasts_TR = ends_TRC[:, :, 0] - lengths_TR - 2, ends_TRC[:, :, -1]
    at = tables.find(SIZES) + 5
    height = len(jpegs) * (bottom - top) * BLOCK
    width = min(right * BLOCK, shape[1]) - left * BLOCK
    sizes = height.to_bytes(2, "big") + width.to_bytes(2, "big")
    pieces = [START, tables[:at], sizes, tables[at + 4 :]]
    # The blocks of a row are adjacent.
    for jpeg, begins_R, lasts_R in zip(jpegs, begins_TR.tolist(), lasts_TR.tolist(), strict=True):
        pieces += [jpeg[a:b] for a, b in zip(begins_R, lasts_R, strict=True)]
    out = np.frombuffer(bytearray().join(pieces), np.uint8)
    # How far each row has moved, and with it the marker after each of its blocks.
    lengths_R = (lasts_TR - begins_TR).ravel()
    moved_R = len(START) + len(tables) + np.cumsum(lengths_R) - lengths_R - begins_TR.ravel()
    markers_N = (ends_TRC.reshape(len(moved_R), -1) + moved_R[:, None]).ravel() - 1
    out[markers_N] = _RESTARTS[: len(markers_N)]
    # The end of the image takes the place of the last.
    out[-1] = END[1]
    return out


def _headers(jpegs: list[memoryview], blocks: int) -> tuple[np.ndarray, bytes]:
    """The length of each block of each frame, and the tables before the blocks, equal in all.

    Raises:
      DamagedFrame: if a JPEG is not as it was stored.
    """
    start = LENGTHS_AT + blocks * LENGTH.itemsize
    jpeg = bytes(jpegs[0])
    scan = jpeg.find(SCAN, start)
    first = scan + 2 + int.from_bytes(jpeg[scan + 2 : scan + 4], "big")
    tables = jpeg[start:first]
    same = all(bytes(jpeg[start:first]) == tables for jpeg in jpegs)
    if scan < 0 or SIZES not in tables or not same:
        raise DamagedFrame(f"a stored JPEG is cut off or does not have {blocks} blocks")
    lengths = b"".join([jpeg[LENGTHS_AT:start] for jpeg in jpegs])
    return np.frombuffer(lengths, LENGTH).reshape(len(jpegs), blocks), tables


def _decode_frame(jpeg: memoryview, shape: tuple[int, int], shrink: int) -> np.ndarray:
    """A whole frame.

    Raises:
      DamagedFrame: if it cannot be decoded or has another size.
    """
    try:
        height, width, *_ = simplejpeg.decode_jpeg_header(jpeg)
    except ValueError as error:
        raise DamagedFrame(str(error)) from error
    if (height, width) != tuple(shape):  # before memory is taken for what a damaged size says
        raise DamagedFrame(f"a stored JPEG does not have {shape[0]} x {shape[1]} pixels")
    return _decode(jpeg, shrink)


def _decode(jpeg: memoryview | np.ndarray, shrink: int) -> np.ndarray:
    try:
        # Chroma is not interpolated, so that the frames above and below do not mix in.
        if shrink == 1:
            return simplejpeg.decode_jpeg(jpeg, fastupsample=True)
        height, width, *_ = simplejpeg.decode_jpeg_header(jpeg)
        return simplejpeg.decode_jpeg(
            jpeg,
            fastupsample=True,
            min_height=height // shrink,
            min_width=-(-width // shrink),
            min_factor=shrink,
        )
    except ValueError as error:
        raise DamagedFrame(str(error)) from error
