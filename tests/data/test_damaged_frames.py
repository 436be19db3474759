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
    for length in [*range(0, len(other), 7), len(other) - 2, len(other) - 1]:
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
    for at in range(len(jpegs[0])):
        content = bytearray(jpegs[0])
        content[at] ^= int(rng.integers(1, 256))
        with contextlib.suppress(DamagedFrame):
            cut([bytes(content)], shape, size)
            damaged -= 1
        damaged += 1
    assert damaged > 100


# At full, full, half, quarter and eighth size.
@pytest.mark.parametrize("size", [40, 33, 19, 10, 5])
@pytest.mark.parametrize("box", [[20, 36, 40], [0, 3, 40], [17, 33, 41]])
def test_few_frames_are_decoded_whole_and_give_the_pixels_of_their_blocks(size, box):
    shape = (60, 76)
    pixels = np.random.default_rng(2).integers(0, 256, (20, *shape, 3), np.uint8)
    jpegs = [encode_jpeg(Image.fromarray(image_HWC), 90) for image_HWC in pixels]

    def cropped(jpegs):
        out = np.empty((1, len(jpegs), size, size, 3), np.uint8)
        crop(out, jpegs, shape, np.array([box]))
        return out[0]

    alone = np.concatenate([cropped([jpeg]) for jpeg in jpegs])
    np.testing.assert_array_equal(alone, cropped(jpegs))
    # Only what is cut into blocks needs to know how long each is.
    unknown = [jpeg[:6] + bytes(2 * 4 * 5) + jpeg[6 + 2 * 4 * 5 :] for jpeg in jpegs]
    np.testing.assert_array_equal(cropped(unknown[:1]), alone[:1])
    with pytest.raises(DamagedFrame):
        cropped(unknown)


def test_a_damaged_size_takes_no_memory():
    jpeg = encode_jpeg(Image.new("RGB", SHAPES[0][::-1]), 90)
    sizes = jpeg.index(b"\xff\xc0") + 5
    huge = jpeg[:sizes] + 2 * b"\xf0\x00" + jpeg[sizes + 4 :]
    with pytest.raises(DamagedFrame, match="does not have 40 x 50 pixels"):
        cut([huge], SHAPES[0], 33)
