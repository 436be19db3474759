"""Whatever happens to a stored frame, it is a crop or a damaged frame."""

import contextlib

import numpy as np
import pytest
from PIL import Image

from data.format.crop import crop
from data.format.jpeg import DamagedFrame, encode_jpeg

# Frames of 12 blocks are decoded whole, of 36 the blocks under the crop.
SHAPES = (40, 50), (40, 180)


@pytest.fixture(scope="module", params=SHAPES, ids=["whole", "blocks"])
def shape(request):
    """Height and width of the frames."""
    return request.param


@pytest.fixture(scope="module")
def jpegs(shape):
    """Two frames of noise."""
    pixels = np.random.default_rng(0).integers(0, 256, (2, *shape, 3), np.uint8)
    return [encode_jpeg(Image.fromarray(image_HWC), 90) for image_HWC in pixels]


def cut(jpegs, shape, size):
    out = np.empty((1, len(jpegs), size, size, 3), np.uint8)
    crop(out, jpegs, shape, np.array([[3, 5, 33]]))


@pytest.mark.parametrize("size", [33, 16])
def test_a_frame_that_is_cut_off_is_damaged(jpegs, shape, size):
    whole, other = jpegs
    cut([whole, other], shape, size)
    for length in [*range(0, len(other), 17), len(other) - 1]:
        for pair in ([whole, other[:length]], [other[:length], whole], [other[:length]]):
            with pytest.raises(DamagedFrame):
                cut(pair, shape, size)


@pytest.mark.parametrize("size", [33, 16])
def test_a_frame_of_another_size_is_damaged(jpegs, shape, size):
    other = encode_jpeg(Image.new("RGB", (70, 40)), 90)
    with pytest.raises(DamagedFrame):
        cut([*jpegs, other], shape, size)


@pytest.mark.parametrize("size", [33, 16])
def test_changed_bytes_raise_nothing_else(jpegs, shape, size):
    rng = np.random.default_rng(1)
    damaged = 0
    # The first bytes say how the rest is to be read.
    for at in [*range(2000), *range(2000, len(jpegs[0]), 3)]:
        content = bytearray(jpegs[0])
        content[at] ^= int(rng.integers(1, 256))
        with contextlib.suppress(DamagedFrame):
            cut([bytes(content)], shape, size)
            damaged -= 1
        damaged += 1
    assert damaged > 100


@pytest.mark.parametrize(("height", "width", "side"), [(48, 64, 40), (48, 80, 47), (64, 48, 20)])
@pytest.mark.parametrize("shrunk", [1, 2, 4])
def test_a_frame_that_is_decoded_whole_has_the_pixels_of_its_blocks(height, width, side, shrunk):
    pixels = np.random.default_rng(2).integers(0, 256, (20, height, width, 3), np.uint8)
    jpegs = [encode_jpeg(Image.fromarray(image_HWC), 90) for image_HWC in pixels]
    size, boxes = side // shrunk, np.array([[1, 3, side]])
    together = np.empty((1, len(jpegs), size, size, 3), np.uint8)
    crop(together, jpegs, (height, width), boxes)  # so many are cut into blocks
    for t, jpeg in enumerate(jpegs):
        alone = np.empty((1, 1, size, size, 3), np.uint8)
        crop(alone, [jpeg], (height, width), boxes)
        np.testing.assert_array_equal(alone[0, 0], together[0, t])
