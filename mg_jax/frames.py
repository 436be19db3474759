"""Stored JPEGs into crops: only the blocks under a crop are decoded.

Stored frames have a restart marker after every block of 16 x 16 pixels and tell where each block is
(see `data/jpeg`). So the blocks under the crops of all frames of a clip can be cut out and put
together, frame below frame, as one ordinary JPEG, and decoded in one go. Decoding takes most of the
time that input takes; this way it grows with the area of the crop.
"""

from collections.abc import Iterator

import cv2
import numpy as np
import simplejpeg

from data.jpeg import BLOCK, END, LENGTH, LENGTHS_AT, SCAN, SIZES

# One thread per clip; the clips are what runs in parallel.
cv2.setNumThreads(1)

# Of pixels that one JPEG decodes to: what stays in a core's cache until it is resampled.
_MOST_BYTES = 1 << 20


def crop(
    out_NThhC: np.ndarray, jpegs: list[bytes], shape: tuple[int, int], boxes_N3: np.ndarray
) -> None:
    """Cuts squares out of every frame and resamples them bilinearly to h x h pixels.

    Args:
      out_NThhC: where to put the N squares of the T frames, uint8.
      jpegs: T frames as stored.
      shape: their height and width, pixels.
      boxes_N3: top, left and side of the squares, whole pixels.

    Raises:
      ValueError: for a JPEG that is damaged.
    """
    # Where much is left out, decoding at half, quarter or eighth size is faster and does not alias.
    shrink = 1 << min(int(np.log2(max(boxes_N3[:, 2].min() / out_NThhC.shape[2], 1))), 3)
    corner_2, images = decode(jpegs, shape, boxes_N3, shrink)
    boxes = (boxes_N3 - [*corner_2, 0]).tolist()
    for t, image_HWC in enumerate(images):
        for n, box in enumerate(boxes):
            _resample(image_HWC, box, shrink, out_NThhC[n, t])


def decode(
    jpegs: list[bytes], shape: tuple[int, int], boxes_N3: np.ndarray, shrink: int = 1
) -> tuple[np.ndarray, Iterator[np.ndarray]]:
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
      ValueError: for a JPEG that is damaged.
    """
    start_2, end_2 = _blocks(shape, boxes_N3)
    rows, columns = (end_2 - start_2).tolist()
    most = max(_MOST_BYTES // (3 * rows * columns * BLOCK**2), 1)

    def images() -> Iterator[np.ndarray]:
        height = rows * BLOCK // shrink
        for t in range(0, len(jpegs), most):
            column_HWC = _decode(_joined(jpegs[t : t + most], shape, start_2, end_2), shrink)
            yield from column_HWC.reshape(-1, height, *column_HWC.shape[1:])

    return start_2 * BLOCK, images()


def _resample(image_HWC: np.ndarray, box: list[int], shrink: int, out_hhC: np.ndarray) -> None:
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


def _blocks(shape: tuple[int, int], boxes_N3: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The blocks that hold all squares: first and one past the last, (row, column) each."""
    ends_N2 = np.minimum(boxes_N3[:, :2] + boxes_N3[:, 2:], shape)
    return boxes_N3[:, :2].min(0) // BLOCK, -(-ends_N2.max(0) // BLOCK)


def _joined(
    jpegs: list[bytes], shape: tuple[int, int], start_2: np.ndarray, end_2: np.ndarray
) -> np.ndarray:
    """One JPEG of some blocks of others, which are one below the other in it, as they are.

    Raises:
      ValueError: if a JPEG is not as it was stored.
    """
    (top, left), (bottom, right) = start_2.tolist(), end_2.tolist()
    rows, columns = -(-shape[0] // BLOCK), -(-shape[1] // BLOCK)
    tables, first = _tables(jpegs, rows * columns)
    # A marker of two bytes follows each block.
    lengths_TN = np.stack([np.frombuffer(j, LENGTH, rows * columns, LENGTHS_AT) for j in jpegs])
    ends_TN = first + np.cumsum(lengths_TN + 2, 1, np.int64) - 2
    if not all(len(j) == end + len(END) for j, end in zip(jpegs, ends_TN[:, -1], strict=True)):
        raise ValueError("a stored JPEG is cut off")
    cut = (slice(None), slice(top, bottom), slice(left, right))
    ends_TRC = ends_TN.reshape(-1, rows, columns)[cut]
    begins_TR = ends_TRC[:, :, 0] - lengths_TN.reshape(-1, rows, columns)[cut][:, :, 0]
    at = tables.find(SIZES) + 5
    height = len(jpegs) * (bottom - top) * BLOCK
    width = min(right * BLOCK, shape[1]) - left * BLOCK
    sizes = height.to_bytes(2, "big") + width.to_bytes(2, "big")
    pieces = [jpegs[0][:2], tables[:at], sizes, tables[at + 4 :]]
    # The blocks of a row are adjacent.
    lasts_TR = ends_TRC[:, :, -1] + 2
    for jpeg, begins_R, lasts_R in zip(jpegs, begins_TR.tolist(), lasts_TR.tolist(), strict=True):
        pieces += map(jpeg.__getitem__, map(slice, begins_R, lasts_R))
    out = np.frombuffer(bytearray().join(pieces), np.uint8)
    # Where each row lands, and with it the marker after each of its blocks.
    lengths_R = (lasts_TR - begins_TR).ravel()
    moved_R = 2 + len(tables) + np.cumsum(lengths_R) - lengths_R - begins_TR.ravel()
    markers_N = (ends_TRC.reshape(len(moved_R), -1) + moved_R[:, None]).ravel()
    # Markers count 0 ... 7 over and over; the end of the image takes the place of the last.
    out[markers_N] = 0xFF
    out[markers_N + 1] = 0xD0 + np.arange(len(markers_N)) % 8
    out[-1] = END[1]
    return out


def _tables(jpegs: list[bytes], blocks: int) -> tuple[bytes, int]:
    """What lies between comment and blocks, the same in all frames; where the blocks begin."""
    start = LENGTHS_AT + blocks * LENGTH.itemsize
    scan = jpegs[0].find(SCAN, start)
    first = scan + 2 + int.from_bytes(jpegs[0][scan + 2 : scan + 4], "big")
    tables = jpegs[0][start:first]
    if scan < 0 or not all(jpeg.startswith(tables, start) for jpeg in jpegs):
        raise ValueError(f"a stored JPEG is cut off or does not have {blocks} blocks")
    return tables, first


def _decode(jpeg: np.ndarray, shrink: int) -> np.ndarray:
    # Colours are not interpolated, so that the frames above and below do not mix in.
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
