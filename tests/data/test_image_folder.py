"""Folders of images: their order, and images of other than three times 8 bits."""

import numpy as np
import pytest
from PIL import Image

from data.listing.image_folder import image_files
from data.preparation.video_file import VideoError
from tests import videos
from tests.preparations import read


def stored(folder):
    """Grey values of the stored frames, float, and the remarks."""
    frames = read(folder, quality=95)
    return [videos.pixels(jpeg).mean(-1) for jpeg in frames.jpegs], frames.remarks


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "video").mkdir()
    return tmp_path / "video"


RAMP = np.tile(np.linspace(0, 1, 64), (48, 1))


def test_16_bits_become_8_over_their_whole_range(folder):
    for i, share in enumerate((1.0, 0.25)):
        values = np.rint(RAMP * 65535 * share).astype(np.uint16)
        Image.fromarray(values).save(folder / f"{i}.png")
    (bright, dark), remarks = stored(folder)
    np.testing.assert_allclose(bright, RAMP * 255, atol=3)
    np.testing.assert_allclose(dark, RAMP * 255 / 4, atol=3)
    assert remarks == ()


def test_16_bits_that_hold_little_are_remarked_upon(folder):
    Image.fromarray(np.rint(RAMP * 1000).astype(np.uint16)).save(folder / "0.png")
    (image,), (remark,) = stored(folder)
    assert image.max() < 8
    assert "1000 of 65535" in remark


@pytest.mark.parametrize(
    ("first", "second", "black", "white"),
    [
        (RAMP, RAMP / 2, 0, 1),
        (RAMP * 200, RAMP * 255, 0, 255),
        (RAMP * 40_000, RAMP * 10_000, 0, 65535),
        (RAMP * 3 - 1, RAMP, -1, 2),
    ],
)
def test_floats_become_8_bits_by_one_range_of_the_whole_folder(folder, first, second, black, white):
    for i, values in enumerate((first, second)):
        Image.fromarray(values.astype(np.float32)).save(folder / f"{i}.tif")
    images, (remark,) = stored(folder)
    for image, values in zip(images, (first, second), strict=True):
        np.testing.assert_allclose(image, (values - black) / (white - black) * 255, atol=3)
    assert f"{black:.4g} ... {white:.4g}" in remark


def test_32_bit_integers_become_8_bits_by_one_range_of_the_whole_folder(folder):
    for peak, trough, black, white in (
        (200, 0, 0, 255),
        (40_000, 0, 0, 65535),
        (1_000_000, 0, 0, 1_000_000),
        (2**31 - 1, -(2**31), -(2**31), 2**31 - 1),
    ):
        values = np.rint(RAMP * (peak - trough) + trough)
        for i, share in enumerate((1, 0.5)):
            Image.fromarray((values * share).astype(np.int32)).save(folder / f"{i}.tif")
        images, (remark,) = stored(folder)
        for image, share in zip(images, (1, 0.5), strict=True):
            expected = (values * share - black) / (white - black) * 255
            np.testing.assert_allclose(image, expected, atol=3)
        assert f"{black:.4g} ... {white:.4g}" in remark


def test_images_without_any_value_are_black(folder):
    Image.fromarray(np.full((48, 64), np.nan, np.float32)).save(folder / "0.tif")
    (image,), _ = stored(folder)
    assert image.max() == 0


@pytest.mark.filterwarnings("ignore")
def test_damaged_headers_are_videos_that_cannot_be_read(folder):
    """Pillow answers some of them with a TypeError."""
    path = folder / "0.tif"
    Image.new("RGB", (16, 12), "red").save(path)
    whole, refused = path.read_bytes(), 0
    for at in range(60, 160):
        path.write_bytes(whole[:at] + b"\x07" + whole[at + 1 :])
        try:
            assert len(stored(folder)[0]) == 1
        except VideoError as error:
            assert str(error)
            refused += 1
    assert refused > 20


def test_missing_values_of_floats_are_black(folder):
    values = RAMP.astype(np.float32)
    values[:16] = np.nan
    Image.fromarray(values).save(folder / "0.tif")
    (image,), _ = stored(folder)
    assert image[:14].max() < 16
    np.testing.assert_allclose(image[32:], RAMP[32:] * 255, atol=3)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"])
def test_all_kinds_of_images_show_what_they_hold(folder, mode):
    grey = Image.fromarray(np.where(RAMP > 0.5, 255, 0).astype(np.uint8))
    if mode == "I;16":
        image = Image.fromarray(np.where(RAMP > 0.5, 65535, 0).astype(np.uint16))
    else:
        image = grey.convert("RGB").convert(mode)
    image.save(folder / ("0.tif" if mode == "CMYK" else "0.png"))
    (pixels,), remarks = stored(folder)
    assert np.abs(pixels - np.asarray(grey)).mean() < 2
    assert remarks == ()


@pytest.mark.parametrize(
    "names",
    [
        ["frame_2.png", "frame_10.jpg", "frame_11.jpeg"],
        ["9.jpeg", "10.jpg", "100.bmp"],
        ["cam2_t9.png", "cam2_t10.jpg", "cam10_t1.png"],
        ["000001.jpg", "000002.jpeg", "000010.JPG"],
        ["a.jpg", "b.png", "c1.jpeg"],
    ],
)
def test_order_is_that_of_the_numbers_whatever_the_suffix(folder, names):
    for name in reversed(names):
        (folder / name).touch()
    assert [path.name for path in image_files(folder)] == names


def test_images_of_other_sizes_and_doubles_are_remarked_upon(folder):
    videos.write_folder(folder, 2, (64, 48), name="{}.jpg")
    Image.new("RGB", (32, 48)).save(folder / "1.png")
    frames = read(folder)
    assert (len(frames.jpegs), frames.width, frames.height) == (3, 64, 48)
    assert {videos.pixels(jpeg).shape for jpeg in frames.jpegs} == {(48, 64, 3)}
    assert any("first, 64 x 48: 1" in remark for remark in frames.remarks)
    assert any("suffix" in remark and remark.endswith(": 1") for remark in frames.remarks)
