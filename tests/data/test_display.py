"""What a player shows of video files: turned, mirrored, with square pixels, of the right stream."""

import fractions

import av
import numpy as np
import pytest
from PIL import Image

from data.preparation.video_frames import VideoError
from tests import videos
from tests.preparations import read

EIGHT = [
    (1, 0, 0, 1),
    (-1, 0, 0, 1),
    (1, 0, 0, -1),
    (-1, 0, 0, -1),
    (0, 1, -1, 0),
    (0, -1, 1, 0),
    (0, 1, 1, 0),
    (0, -1, -1, 0),
]


def shown(image_HWC, matrix):
    """Each pixel put where the matrix says."""
    a, b, c, d = matrix
    height, width, _ = image_HWC.shape
    q_HW, p_HW = np.indices((height, width))
    x_HW, y_HW = a * p_HW + c * q_HW, b * p_HW + d * q_HW
    x_HW, y_HW = x_HW - x_HW.min(), y_HW - y_HW.min()
    out_HWC = np.zeros((y_HW.max() + 1, x_HW.max() + 1, 3))
    out_HWC[y_HW, x_HW] = image_HWC
    return out_HWC


@pytest.mark.parametrize("matrix", EIGHT)
def test_videos_are_turned_and_mirrored_as_their_matrix_says(tmp_path, matrix):
    path = videos.write(tmp_path / "video.mp4", 2, (64, 32), matrix=matrix)
    frames = read(path, quality=95)
    expected_HWC = shown(np.asarray(next(videos.images(64, 32, 1)), float), matrix)
    assert (frames.height, frames.width) == expected_HWC.shape[:2]
    assert frames.remarks == ()
    assert np.abs(videos.pixels(frames.jpegs[0]) - expected_HWC).mean() < 5


def test_turned_videos_are_scaled_by_their_short_side(tmp_path):
    path = videos.write(tmp_path / "video.mp4", 2, (64, 32), matrix=(0, 1, -1, 0))
    frames = read(path, short_side=16)
    assert (frames.width, frames.height) == (16, 32)


def test_an_oblique_matrix_is_taken_for_the_nearest_and_remarked_upon(tmp_path):
    path = videos.write(tmp_path / "video.mp4", 2, (64, 32), matrix=(2, 10, -10, 2))
    frames = read(path)
    assert (frames.width, frames.height) == (32, 64)
    (remark,) = frames.remarks
    assert "2 10 -10 2" in remark


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".avi"])
@pytest.mark.parametrize(
    ("aspect", "size"), [((64, 45), (91, 48)), ((8, 9), (56, 48)), ((1, 1), (64, 48))]
)
def test_pixels_become_square(tmp_path, suffix, aspect, size):
    path, codec = tmp_path / f"video{suffix}", "mpeg4" if suffix == ".avi" else "libx264"
    videos.write(path, 2, (64, 48), codec=codec, aspect=fractions.Fraction(*aspect))
    frames = read(path)
    assert (frames.width, frames.height, frames.remarks) == (*size, ())
    red_W = videos.pixels(frames.jpegs[0])[..., 0].mean(0)
    np.testing.assert_allclose(red_W, np.linspace(0, 255, size[0]), atol=20)


def test_pixels_become_square_before_videos_are_turned(tmp_path):
    path = tmp_path / "video.mp4"
    videos.write(path, 2, (64, 48), aspect=fractions.Fraction(4, 3), matrix=(0, 1, -1, 0))
    frames = read(path)
    assert (frames.width, frames.height) == (48, 85)
    red_H = videos.pixels(frames.jpegs[0])[..., 0].mean(1)  # clockwise: columns become rows
    np.testing.assert_allclose(red_H, np.linspace(0, 255, 85), atol=20)


def test_pixels_of_a_senseless_aspect_are_taken_for_square_and_remarked_upon(tmp_path):
    path = videos.write(tmp_path / "video.mp4", 2, (64, 48), aspect=fractions.Fraction(20, 1))
    frames = read(path)
    assert (frames.width, frames.height) == (64, 48)
    assert any("20:1" in remark for remark in frames.remarks)


def write_thumbnail_first(path, count=12):
    """A still of red in a track of its own, then the video."""
    with av.open(str(path), "w") as container:
        still = container.add_stream("mjpeg", rate=25)
        still.width, still.height, still.pix_fmt = 320, 240, "yuvj420p"
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        red = Image.new("RGB", (320, 240), (255, 0, 0))
        container.mux(still.encode(av.VideoFrame.from_image(red)))
        container.mux(still.encode())
        for image in videos.images(64, 48, count):
            container.mux(stream.encode(av.VideoFrame.from_image(image)))
        container.mux(stream.encode())


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov"])
def test_a_thumbnail_in_front_is_not_the_video(tmp_path, suffix):
    path = tmp_path / f"video{suffix}"
    write_thumbnail_first(path)
    assert videos.numbers(read(path).jpegs) == list(range(12))


@pytest.mark.parametrize("name", ["a:b.mp4", "concat:x.mp4", "http:.mp4", "50%d.mp4", "a b?#.mp4"])
def test_a_path_is_a_path_whatever_is_in_it(tmp_path, monkeypatch, name):
    videos.write(tmp_path / "video.mp4", 4).rename(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    for path in (tmp_path / name, (tmp_path / name).relative_to(tmp_path)):
        assert videos.numbers(read(path).jpegs) == [0, 1, 2, 3]
    with pytest.raises(VideoError, match="No such file"):
        read(tmp_path / f"no {name}")
