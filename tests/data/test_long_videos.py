"""Long videos: bounded memory, progress by frames, disk space, and nothing left of them."""

import contextlib
import os
import resource
import tracemalloc

import numpy as np
import pytest
from PIL import Image

from data.format.stored_jpegs import StoredJpegs, WriteError
from data.preparation import video_frames, workers
from data.preparation.video_frames import VideoError, read_frames
from mg_jax.errors import UserError
from mg_jax.input.datasets import frame_records, open_data_set
from mg_jax.tools.prepare import prepare
from tests import videos
from tests.preparations import NAME, parts_folder, read


def write_long_folder(folder, count):
    """One image of 256 x 256 pixels of noise, which is large as a JPEG, over and over."""
    folder.mkdir(parents=True)
    noise_HWC = np.random.default_rng(0).integers(0, 256, (256, 256, 3), np.uint8)
    image = folder.parent / f"noise_{count}.bmp"
    Image.fromarray(noise_HWC).save(image)
    for i in range(count):
        (folder / f"{i}.bmp").symlink_to(image)


def test_memory_does_not_grow_with_the_length(tmp_path):
    peaks = []
    write_long_folder(tmp_path / "3", 3)
    read(tmp_path / "3", quality=95)  # what is made once only
    for count in (250, 600):
        write_long_folder(tmp_path / str(count), count)
        tracemalloc.start()
        frames = read(tmp_path / str(count), quality=95)
        size = sum(len(jpeg) for jpeg in frames.jpegs)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert size > count * 70_000
    assert peaks[1] - peaks[0] < 2e6


def test_jpegs_on_disk_are_those_that_were_added(tmp_path):
    rng = np.random.default_rng(0)
    added = [rng.bytes(int(n)) for n in rng.integers(0, 500_000, 100)]
    jpegs = StoredJpegs(tmp_path)
    for jpeg in added:
        jpegs.append(jpeg)
    assert sum(map(len, added)) > 20e6
    assert list(jpegs) == added
    assert (len(jpegs), jpegs[-1], jpegs[7]) == (100, added[-1], added[7])
    order = rng.integers(0, 100, 150).tolist()
    jpegs.reorder(order)
    assert list(jpegs) == [added[i] for i in order]
    with pytest.raises(IndexError):
        jpegs[150]
    assert not os.listdir(tmp_path)
    jpegs.close()


@contextlib.contextmanager
def largest_file(size):
    """Writing more to a file fails, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_is_no_damage_of_the_video(tmp_path):
    write_long_folder(tmp_path / "long", 250)
    with largest_file(1_000_000), pytest.raises(WriteError, match=f"{tmp_path} cannot be written"):
        read_frames(tmp_path / "long", 256, 95, folder=tmp_path)
    assert sorted(os.listdir(tmp_path)) == ["long", "noise_250.bmp"]


def test_a_video_that_breaks_off_leaves_no_frames(tmp_path):
    write_long_folder(tmp_path / "long", 10)
    (tmp_path / "long" / "10.bmp").write_bytes(b"BM no image")
    with pytest.raises(VideoError, match=r"\w"):
        read(tmp_path / "long")
    source = tmp_path / "source" / "train" / "run"
    videos.write(source / "a.mp4", 3)
    (tmp_path / "long").rename(source / "b")
    config = videos.config_for(tmp_path / "source", NAME, max_broken=0.5)
    prepare(config)
    assert open_data_set(config).info.splits["train_frames"].num_examples == 3
    assert not parts_folder(config).exists()


def test_frames_are_counted_while_they_are_decoded(tmp_path):
    path, seen = videos.write(tmp_path / "video.mp4", 20), []
    for step in (1, 7):
        read_frames(path, 256, 90, step, saw_frame=lambda: seen.append("one"))
    assert len(seen) == 40


def test_what_goes_wrong_outside_of_decoders_is_not_blamed_on_the_video(tmp_path, monkeypatch):
    path, kept = videos.write(tmp_path / "video.mp4", 3), []

    class Kept(StoredJpegs):
        def __init__(self, folder):
            super().__init__(folder)
            kept.append(self)

    def stop():
        raise UserError("too many videos cannot be read")

    monkeypatch.setattr(video_frames, "StoredJpegs", Kept)
    with pytest.raises(UserError, match="too many"):
        read_frames(path, 256, 90, saw_frame=stop)
    monkeypatch.setattr(video_frames, "timeline", lambda times, stated: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        read_frames(path, 256, 90)
    for jpegs in kept:
        with pytest.raises(ValueError, match="closed"):
            jpegs[0]
    assert len(kept) == 2


def test_a_single_video_shows_its_progress(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(workers, "_SAY_EVERY_S", 0.0)
    videos.write(tmp_path / "source" / "train" / "run" / "a.mp4", 20)
    prepare(videos.config_for(tmp_path / "source", NAME))
    printed = capsys.readouterr().out
    lines = [line for line in printed.splitlines() if line.startswith("preparing: ")]
    assert len(lines) == 21
    for number, line in enumerate(lines[:20], 1):
        assert f" 0 of 1 videos, 0.0 a second, {number} frames, " in line
        assert line.endswith(" left")  # by the frames that the file announces
    assert lines[20].startswith("preparing: 1 of 1 videos, ")


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".avi"])
def test_disk_space_is_estimated_from_a_few_frames(tmp_path, capsys, suffix):
    """All frames are alike: what a few take tells what all take."""
    codec = "mpeg4" if suffix == ".avi" else "libx264"
    for i in range(3):
        path = tmp_path / "source" / "train" / "run" / f"{i}{suffix}"
        videos.write(path, 24, (96, 64), codec=codec)
    config = videos.config_for(tmp_path / "source", NAME, frame_step=2)
    prepare(config)
    records = frame_records(open_data_set(config), "train")
    taken = sum(map(len, records.jpegs(np.arange(len(records)))))
    printed = capsys.readouterr().out
    said = float(printed.split("will take about ")[1].split(" KB")[0]) * 1000
    assert said == pytest.approx(taken, rel=0.25)
    assert "12 frames of 96 x 64 a video" in printed
