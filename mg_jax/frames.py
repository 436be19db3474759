"""Stored JPEGs into crops: only the blocks under a crop are decoded.

Stored frames carry a restart marker after every block of 16 x 16 pixels (see `data/video_frames`),
so that blocks can be cut out of the compressed data. What is left over is a small ordinary JPEG.
Decoding takes most of the time that input takes; this way it grows with the area of the crop.
"""

import itertools
from collections.abc import Iterator

import cv2
import numpy as np
import simplejpeg

# One thread per clip; the clips are what runs in parallel.
cv2.setNumThreads(1)

_BLOCK = 16  # pixels
_SIZES = b"\xff\xc0"  # start of frame: heights and widths follow
_SCAN = b"\xff\xda"  # start of scan: compressed blocks follow its header
_END = b"\xff\xd9"


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
    boxes_N3 = boxes_N3 - [*corner_2, 0]
    for t, image_HWC in enumerate(images):
        for n, box in enumerate(boxes_N3.tolist()):
            _resample(image_HWC, box, shrink, out_NThhC[n, t])


def decode(
    jpegs: list[bytes], shape: tuple[int, int], boxes_N3: np.ndarray, shrink: int = 1
) -> tuple[np.ndarray, Iterator[np.ndarray]]:
    """Decodes the blocks under some squares of every frame.

    Args:
      jpegs: frames as stored.
      shape: their height and width, pixels.
      boxes_N3: top, left and side of the squares, whole pixels.
      shrink: 1, 2, 4 or 8, the divisor of the size to decode at.

    Returns:
      Top and left of the blocks in the frame, in stored pixels, and images `H W 3` uint8.

    Raises:
      ValueError: for a JPEG that is damaged.
    """
    start_2, end_2 = _blocks(shape, boxes_N3)
    parts = _cut(jpegs, shape, start_2, end_2)
    return start_2 * _BLOCK, (_decode(part, shrink) for part in parts)


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
    starts_N2 = boxes_N3[:, :2]
    ends_N2 = np.minimum(starts_N2 + boxes_N3[:, 2:], shape)
    return starts_N2.min(0) // _BLOCK, -(-ends_N2.max(0) // _BLOCK)


def _cut(
    jpegs: list[bytes], shape: tuple[int, int], start_2: np.ndarray, end_2: np.ndarray
) -> list[bytes] | list[memoryview]:
    """JPEGs of some blocks of others, as they are.

    Raises:
      ValueError: if a JPEG does not have a marker after every block.
    """
    (top, left), (bottom, right) = start_2.tolist(), end_2.tolist()
    rows, columns = -(-shape[0] // _BLOCK), -(-shape[1] // _BLOCK)
    if (top, left, bottom, right) == (0, 0, rows, columns):
        return jpegs
    data = b"".join(jpegs)
    begins_TRC, ends_TRC, firsts_T = _block_positions(data, jpegs, rows * columns)
    cut = (slice(None), slice(top, bottom), slice(left, right))
    begins_TRC = begins_TRC.reshape(-1, rows, columns)[cut]
    ends_TRC = ends_TRC.reshape(-1, rows, columns)[cut]
    height = min(bottom * _BLOCK, shape[0]) - top * _BLOCK
    width = min(right * _BLOCK, shape[1]) - left * _BLOCK
    sizes = height.to_bytes(2, "big") + width.to_bytes(2, "big")
    # All blocks of a row are adjacent. A marker follows each, and the end of the image the last.
    pieces, headers_T = [], []
    rows_TR2 = np.stack([begins_TRC[:, :, 0], ends_TRC[:, :, -1] + 2], -1)
    for jpeg, first, rows_R2 in zip(jpegs, firsts_T.tolist(), rows_TR2.tolist(), strict=True):
        at = jpeg.find(_SIZES) + 5
        pieces += jpeg[:at], sizes, jpeg[at + 4 : first]
        headers_T.append(first)
        pieces += (data[begin:end] for begin, end in rows_R2)
    out = np.frombuffer(bytearray().join(pieces), np.uint8)
    # Where each row lands, and with it the marker after each of its blocks.
    lengths_TR = rows_TR2[:, :, 1] - rows_TR2[:, :, 0]
    before_TR = np.cumsum(lengths_TR).reshape(lengths_TR.shape) - lengths_TR
    before_TR += np.cumsum(headers_T)[:, None]
    markers_TRC = ends_TRC + (before_TR - begins_TRC[:, :, 0])[:, :, None]
    markers_TN = markers_TRC.reshape(len(jpegs), -1)
    # Markers count 0 ... 7 over and over.
    out[markers_TN] = 0xFF
    out[markers_TN + 1] = 0xD0 + np.arange(markers_TN.shape[1]) % 8
    out[markers_TN[:, -1] + 1] = _END[1]
    edges = [0, *(markers_TN[:, -1] + 2).tolist()]
    view = memoryview(out)
    return [view[start:end] for start, end in itertools.pairwise(edges)]


def _block_positions(
    data: bytes, jpegs: list[bytes], blocks: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where blocks begin and end in the joined JPEGs, `T N` each; lengths of the headers, `T`."""
    firsts_T = []
    for jpeg in jpegs:
        scan = jpeg.find(_SCAN)
        firsts_T.append(scan + 2 + int.from_bytes(jpeg[scan + 2 : scan + 4], "big"))
        if scan < 0 or not jpeg.endswith(_END):
            raise ValueError("a stored JPEG is cut off")
    lengths_T = np.array([len(jpeg) for jpeg in jpegs])
    offsets_T = np.cumsum(lengths_T) - lengths_T
    firsts_T = np.array(firsts_T)
    # Blocks end with a marker 0xFFD0 ... 0xFFD7, the last one with the end of the image, 0xFFD9.
    data_N = np.frombuffer(data, np.uint8)
    marks_N = np.flatnonzero(data_N == 0xFF)
    kind_N = data_N[marks_N + 1]
    marks_N = marks_N[(kind_N & 0xF8 == 0xD0) | (kind_N == _END[1])]
    frame_N = np.searchsorted(offsets_T, marks_N, "right") - 1
    marks_N = marks_N[marks_N >= (offsets_T + firsts_T)[frame_N]]  # the rest is in tables
    if len(marks_N) != len(jpegs) * blocks:
        raise ValueError(
            f"stored JPEGs have {len(marks_N)} blocks, not {len(jpegs)} times {blocks}"
        )
    ends_TN = marks_N.reshape(-1, blocks)
    begins_TN = np.concatenate([(offsets_T + firsts_T)[:, None], ends_TN[:, :-1] + 2], 1)
    return begins_TN, ends_TN, firsts_T


def _decode(jpeg: bytes | memoryview, shrink: int) -> np.ndarray:
    if shrink == 1:
        return simplejpeg.decode_jpeg(jpeg)
    height, width, *_ = simplejpeg.decode_jpeg_header(jpeg)
    return simplejpeg.decode_jpeg(
        jpeg, min_height=-(-height // shrink), min_width=-(-width // shrink), min_factor=shrink
    )
