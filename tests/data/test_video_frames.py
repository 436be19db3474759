"""Frames of video files and folders of images, and the JPEGs they are stored as."""

import re

import cv2
import numpy as np
import pytest
import simplejpeg
from PIL import Image

from data.format import crop as stored_frames
from data.format.jpeg import encode_jpeg
from mg_jax.input.datasets import frame_records, open_data_set, video_table
from mg_jax.tools.prepare import prepare
from tests import videos
from tests.preparations import NAME, read

CONTAINERS = {
    ".mp4": "libx264",
    ".mov": "mpeg4",
    ".mkv": "ffv1",
    ".avi": "mpeg4",
    ".webm": "libvpx-vp9",
    ".mpg": "mpeg2video",
    ".wmv": "wmv2",
    ".flv": "flv",
}


@pytest.mark.parametrize("suffix", CONTAINERS)
def test_every_frame_is_read_once_and_in_order_from(tmp_path, suffix):
    path = tmp_path / f"video{suffix}"
    videos.write(path, 20, (64, 48), codec=CONTAINERS[suffix])
    frames = read(path)
    assert videos.numbers(frames.jpegs) == list(range(20))
    assert (frames.width, frames.height, frames.source_frames) == (64, 48, 20)
    assert frames.fps == pytest.approx(25, rel=1e-3)


@pytest.mark.parametrize("step", [1, 2, 3, 7])
@pytest.mark.parametrize("count", [1, 6, 7, 8])
def test_every_kth_frame_is_kept_and_all_are_counted(tmp_path, step, count):
    for path in (
        videos.write(tmp_path / "video.mp4", count),
        videos.write_folder(tmp_path / "folder", count),
    ):
        frames = read(path, step=step)
        assert videos.numbers(frames.jpegs) == list(range(0, count, step))
        assert frames.source_frames == count


def test_steps_reach_the_stored_data_set(tmp_path):
    videos.write(tmp_path / "source" / "train" / "run" / "a.mp4", 10)
    config = videos.config_for(tmp_path / "source", NAME, frame_step=4)
    prepare(config)
    data_set = open_data_set(config)
    (video,) = data_set.as_data_source("train")
    assert (video["num_frames"], video["source_frames"], video["ends"]) == (3, 10, [10])
    table, records = video_table(data_set, "train"), frame_records(data_set, "train")
    assert (table.source_frames.tolist(), table.frame_step, len(records)) == ([10], 4, 3)
    # The nearest that is stored: of 0, 4 and 8.
    wanted = table.records(np.array([0]), np.arange(-1, 11)[None])[0]
    nearest = [0, 0, 0, 4, 4, 4, 4, 8, 8, 8, 8, 8]
    assert videos.numbers(records.jpegs(wanted)) == nearest


@pytest.mark.parametrize(
    ("size", "stored"),
    [((64, 48), (43, 32)), ((48, 64), (32, 43)), ((32, 32), (32, 32)), ((40, 24), (40, 24))],
)
def test_short_sides_are_scaled_down_and_never_up(tmp_path, size, stored):
    for path in (
        videos.write(tmp_path / "video.mp4", 2, size),
        videos.write_folder(tmp_path / "folder", 2, size),
    ):
        frames = read(path, short_side=32)
        assert (frames.width, frames.height) == stored
        red, green, _ = np.moveaxis(videos.pixels(frames.jpegs[0]), -1, 0)
        assert red.shape == (frames.height, frames.width)
        np.testing.assert_allclose(red.mean(0), np.linspace(0, 255, stored[0]), atol=20)
        np.testing.assert_allclose(green.mean(1), np.linspace(0, 255, stored[1]), atol=20)


@pytest.mark.parametrize(
    ("codec", "pix_fmt"), [("libx264", "yuv444p"), ("mpeg4", "yuv420p"), ("ffv1", "yuv420p")]
)
@pytest.mark.parametrize("size", [(33, 47), (47, 33), (17, 101)])
def test_odd_sizes_are_kept(tmp_path, codec, pix_fmt, size):
    path = videos.write(tmp_path / "video.mkv", 3, size, codec=codec, pix_fmt=pix_fmt)
    frames = read(path)
    assert (frames.width, frames.height) == size
    assert videos.numbers(frames.jpegs) == [0, 1, 2]


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
@pytest.mark.parametrize("seed", range(5))
def test_a_variable_rate_becomes_the_mean_rate_with_the_frame_on_screen(tmp_path, suffix, seed):
    rng = np.random.default_rng(seed)
    gaps = rng.choice([20, 40, 300], 15, p=[0.3, 0.5, 0.2])
    gaps[seed] = 600  # one at least stands still
    times = np.cumsum([0, *gaps]).tolist()
    path = videos.write(tmp_path / f"video{suffix}", 16, times_ms=times)
    frames = read(path)
    ticks = np.arange(16) * times[-1] / 15
    on_screen = np.searchsorted(times, ticks + 1e-3, "right") - 1
    assert videos.numbers(frames.jpegs) == on_screen.tolist()
    assert frames.fps == pytest.approx(15_000 / times[-1], rel=1e-3)
    assert frames.source_frames == 16


def test_times_rounded_to_milliseconds_are_a_constant_rate(tmp_path):
    times = [round(i * 1000 / 30) for i in range(20)]
    path = videos.write(tmp_path / "video.mkv", 20, times_ms=times)
    frames = read(path)
    assert videos.numbers(frames.jpegs) == list(range(20))
    assert frames.fps == pytest.approx(30, rel=0.01)


@pytest.mark.parametrize("name", ["{}.jpg", "frame{}.png", "img_{:05d}.webp", "{}.JPEG"])
def test_images_of_a_folder_are_in_order_of_their_numbers(tmp_path, name):
    folder = videos.write_folder(tmp_path / "folder", 12, name=name)
    videos.write_lines(folder / "notes.txt", "not an image")
    frames = read(folder, fps=12.0)
    assert videos.numbers(frames.jpegs) == list(range(12))
    assert (frames.fps, frames.source_frames) == (12, 12)


def test_titles_may_be_in_any_encoding(tmp_path):
    path = videos.write(tmp_path / "video.avi", 4, codec="mpeg4", title="Köln")
    content = path.read_bytes()
    assert "Köln".encode() in content
    path.write_bytes(content.replace("Köln".encode(), b"K\xf6ln "))  # as Latin-1 has it
    assert videos.numbers(read(path).jpegs) == [0, 1, 2, 3]


def random_image(rng, height, width):
    """Smooth on its left and rough on its right."""
    coarse = rng.integers(0, 256, (height // 24 + 2, width // 24 + 2, 3), np.uint8)
    image = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC).astype(float)
    rough = rng.normal(0, 20, (height, width, 1)) * (np.arange(width)[:, None] > width / 2)
    return np.clip(image + rough, 0, 255).astype(np.uint8)


def test_stored_jpegs_have_a_restart_marker_after_every_block(tmp_path):
    for size in ((33, 47), (64, 48), (16, 16), (15, 90)):
        path = videos.write(tmp_path / "video.mkv", 2, size, codec="ffv1")
        for jpeg in read(path).jpegs:
            blocks = -(-size[0] // 16) * -(-size[1] // 16)
            markers = re.findall(rb"\xff[\xd0-\xd7]", jpeg[jpeg.index(b"\xff\xda") :])
            assert markers == [bytes((0xFF, 0xD0 + i % 8)) for i in range(blocks - 1)]
            assert simplejpeg.decode_jpeg_header(jpeg) == (size[1], size[0], "YCbCr", "420")


def test_crops_are_those_of_fully_decoded_frames():
    rng = np.random.default_rng(0)
    for _ in range(100):
        height, width = rng.integers(17, 220, 2).tolist()
        count, squares = rng.integers(1, 4, 2)
        side = rng.integers(8, min(height, width) + 1)
        tops = rng.integers(0, height - side + 1, squares)
        lefts = rng.integers(0, width - side + 1, squares)
        size = rng.integers(side // 2 + 1, 2 * side)
        quality = int(rng.integers(1, 96))
        images = [Image.fromarray(random_image(rng, height, width)) for _ in range(count)]
        jpegs = [encode_jpeg(image, quality) for image in images]
        out_NThhC = np.zeros((squares, count, size, size, 3), np.uint8)
        boxes_N3 = np.stack([tops, lefts, np.full(squares, side)], 1)
        stored_frames.crop(out_NThhC, jpegs, (height, width), boxes_N3)
        for t, jpeg in enumerate(jpegs):
            whole_HWC = simplejpeg.decode_jpeg(jpeg, fastupsample=True)
            for n, (top, left) in enumerate(zip(tops, lefts, strict=True)):
                square_HWC = whole_HWC[top : top + side, left : left + side]
                expected_hhC = cv2.resize(square_HWC, (size, size))
                error = np.abs(out_NThhC[n, t].astype(float) - expected_hhC).mean()
                assert error < 0.1, (height, width, side, size, quality)
