"""Whatever happens to a stored frame, it is a crop or a damaged frame."""

import contextlib

import numpy as np
import pytest
from PIL import Image

from data.format.crop import crop
from data.format.jpeg import DamagedFrame, encode_jpeg

SHAPE = (40, 50)


@pytest.fixture(scope="module")
def jpegs():
    """Two frames of noise."""
    pixels = np.random.default_rng(0).integers(0, 256, (2, *SHAPE, 3), np.uint8)
    return [encode_jpeg(Image.fromarray(image_HWC), 90) for image_HWC in pixels]


def cut(jpegs, size):
    out = np.empty((1, len(jpegs), size, size, 3), np.uint8)
    crop(out, jpegs, SHAPE, np.array([[3, 5, 33]]))


@pytest.mark.parametrize("size", [33, 16])
def test_a_frame_that_is_cut_off_is_damaged(jpegs, size):
    whole, other = jpegs
    cut([whole, other], size)
    for length in [*range(0, len(other), 7), len(other) - 1]:
        for pair in ([whole, other[:length]], [other[:length], whole], [other[:length]]):
            with pytest.raises(DamagedFrame):
                cut(pair, size)


@pytest.mark.parametrize("size", [33, 16])
def test_a_frame_of_another_size_is_damaged(jpegs, size):
    other = encode_jpeg(Image.new("RGB", (70, 40)), 90)
    with pytest.raises(DamagedFrame):
        cut([*jpegs, other], size)


@pytest.mark.parametrize("size", [33, 16])
def test_changed_bytes_raise_nothing_else(jpegs, size):
    rng = np.random.default_rng(1)
    damaged = 0
    for at in range(len(jpegs[0])):
        content = bytearray(jpegs[0])
        content[at] ^= int(rng.integers(1, 256))
        with contextlib.suppress(DamagedFrame):
            cut([bytes(content)], size)
            damaged -= 1
        damaged += 1
    assert damaged > 100
