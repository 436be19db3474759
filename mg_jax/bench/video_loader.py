"""Clips straight from video files, as loaders without prepared frames make them.

The steps are those of PySlowFast's Kinetics loader (`slowfast/datasets/kinetics.py` and
`decoder.py`), with OpenCV in place of PyTorch, which takes 100 ms where this takes 65 for a clip of
32 x 224^2.
"""

import pathlib

import av
import cv2
import numpy as np

from mg_jax.bench.sources import USUAL

PIXEL_MEAN, PIXEL_STD = 0.45, 0.225


def decode_span(path: pathlib.Path, first: int, last: int) -> list[np.ndarray]:
    """The frames [first, last] as RGB, `H W 3` uint8, decoded from the key frame before them."""
    images = []
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.thread_count = 1
        ticks = 1 / (USUAL.fps * stream.time_base)
        container.seek(int(first * ticks), stream=stream)
        for frame in container.decode(stream):
            index = round(frame.pts / ticks)
            if index >= first:
                images.append(frame.to_rgb().to_ndarray())
            if index >= last:
                break
    return images


def load_clip(path: pathlib.Path, frames_T: np.ndarray, box_3: np.ndarray, size: int) -> np.ndarray:
    """A training clip, `T h h 3` float32, normalised.

    Args:
      path: of the video.
      frames_T: source frames.
      box_3: top, left and side of the crop, in pixels of the video.
      size: h, pixels.
    """
    images = decode_span(path, frames_T.min(), frames_T.max())
    clip_THWC = np.stack(images)[np.minimum(frames_T - frames_T.min(), len(images) - 1)]
    clip_THWC = (clip_THWC.astype(np.float32) / 255 - PIXEL_MEAN) / PIXEL_STD
    # Whole frames are scaled, and the crop is cut from them.
    height, width = clip_THWC.shape[1:3]
    scale = size / box_3[2]
    scaled = [cv2.resize(image, None, fx=scale, fy=scale) for image in clip_THWC]
    top = min(round(box_3[0] * scale), round(height * scale) - size)
    left = min(round(box_3[1] * scale), round(width * scale) - size)
    return np.stack([image[top : top + size, left : left + size] for image in scaled])
