"""Stored JPEGs into crops: only the blocks under a crop are decoded.

Stored frames carry a restart marker after every block of 16 x 16 pixels (see `data/video_frames`).
So the blocks under the crops of all frames of a clip can be cut out of the compressed data and put
together, frame below frame, as one ordinary JPEG, and decoded in one go. Decoding takes most
of the time that input takes; this way it grows with the area of the crop.
"""

from collections.abc import Iterator

import cv2
import numpy as np
import simplejpeg

# One thread per clip; the clips are what runs in parallel.
cv2.setNumThreads(1)

_BLOCK = 16  # pixels
# Of pixels that one JPEG decodes to: what stays in a core's cache until it is resampled.
_MOST_BYTES = 1 << 20
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
    most = max(_MOST_BYTES // (3 * rows * columns * _BLOCK**2), 1)

    def images() -> Iterator[np.ndarray]:
        height = rows * _BLOCK // shrink
        for t in range(0, len(jpegs), most):
            column_HWC = _decode(_joined(jpegs[t : t + most], shape, start_2, end_2), shrink)
            yield from column_HWC.reshape(-1, height, *column_HWC.shape[1:])

    return start_2 * _BLOCK, images()


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
    # Colours are interpolated between pixels: one more on each side, where there is one, so that
    # the next frame's do not come in.
    starts_N2 = np.maximum(boxes_N3[:, :2] - 1, 0)
    ends_N2 = np.minimum(boxes_N3[:, :2] + boxes_N3[:, 2:] + 1, shape)
    return starts_N2.min(0) // _BLOCK, -(-ends_N2.max(0) // _BLOCK)


def _joined(
    jpegs: list[bytes], shape: tuple[int, int], start_2: np.ndarray, end_2: np.ndarray
) -> np.ndarray:
    """One JPEG of some blocks of others, which are one below the other in it, as they are.

    Raises:
      ValueError: if a JPEG is cut off or does not have a marker after every block.
    """
    (top, left), (bottom, right) = start_2.tolist(), end_2.tolist()
    rows, columns = -(-shape[0] // _BLOCK), -(-shape[1] // _BLOCK)
    data, header = b"".join(jpegs), _header(jpegs)
    begins_TRC, ends_TRC = _block_positions(data, jpegs, len(header), rows, columns)
    begins_TRC = begins_TRC[:, top:bottom, left:right]
    ends_TRC = ends_TRC[:, top:bottom, left:right]
    height = len(jpegs) * (bottom - top) * _BLOCK
    width = min(right * _BLOCK, shape[1]) - left * _BLOCK
    at = header.find(_SIZES) + 5
    sizes = height.to_bytes(2, "big") + width.to_bytes(2, "big")
    # The blocks of a row are adjacent. A marker follows each, and the end of the image the last.
    begins_R, ends_R = begins_TRC[:, :, 0].ravel(), ends_TRC[:, :, -1].ravel() + 2
    pieces = [header[:at], sizes, header[at + 4 :]]
    pieces += (data[a:b] for a, b in zip(begins_R.tolist(), ends_R.tolist(), strict=True))
    out = np.frombuffer(bytearray().join(pieces), np.uint8)
    # Where each row lands, and with it the marker after each of its blocks.
    lengths_R = ends_R - begins_R
    moved_R = len(header) + np.cumsum(lengths_R) - lengths_R - begins_R
    markers_N = (ends_TRC.reshape(len(moved_R), -1) + moved_R[:, None]).ravel()
    # Markers count 0 ... 7 over and over.
    out[markers_N] = 0xFF
    out[markers_N + 1] = 0xD0 + np.arange(len(markers_N)) % 8
    out[-1] = _END[1]
    return out


def _header(jpegs: list[bytes]) -> bytes:
    """What precedes the blocks: the same in all frames of a video."""
    first = jpegs[0]
    scan = first.find(_SCAN)
    header = first[: scan + 2 + int.from_bytes(first[scan + 2 : scan + 4], "big")]
    if scan < 0 or not all(j.startswith(header) and j.endswith(_END) for j in jpegs):
        raise ValueError("a stored JPEG is cut off or not as the others of its video")
    return header


def _block_positions(
    data: bytes, jpegs: list[bytes], header: int, rows: int, columns: int
) -> tuple[np.ndarray, np.ndarray]:
    """Where blocks begin and end in the joined JPEGs, `T R C` each."""
    lengths_T = np.array([len(jpeg) for jpeg in jpegs])
    firsts_T = np.cumsum(lengths_T) - lengths_T + header
    # Blocks end with a marker 0xFFD0 ... 0xFFD7, the last one with the end of the image, 0xFFD9.
    data_N = np.frombuffer(data, np.uint8)
    marks_N = np.flatnonzero(data_N == 0xFF)
    kind_N = data_N[marks_N + 1]
    marks_N = marks_N[(kind_N & 0xF8 == 0xD0) | (kind_N == _END[1])]
    in_tables_N = firsts_T[np.searchsorted(firsts_T - header, marks_N, "right") - 1] > marks_N
    ends_N = marks_N[~in_tables_N]
    if len(ends_N) != len(jpegs) * rows * columns:
        raise ValueError(
            f"stored JPEGs have {len(ends_N)} blocks, not {len(jpegs)} x {rows} x {columns}"
        )
    ends_TN = ends_N.reshape(len(jpegs), -1)
    begins_TN = np.concatenate([firsts_T[:, None], ends_TN[:, :-1] + 2], 1)
    shape = len(jpegs), rows, columns
    return begins_TN.reshape(shape), ends_TN.reshape(shape)


def _decode(jpeg: np.ndarray, shrink: int) -> np.ndarray:
    if shrink == 1:
        return simplejpeg.decode_jpeg(jpeg)
    height, width, *_ = simplejpeg.decode_jpeg_header(jpeg)
    return simplejpeg.decode_jpeg(
        jpeg, min_height=height // shrink, min_width=-(-width // shrink), min_factor=shrink
    )
