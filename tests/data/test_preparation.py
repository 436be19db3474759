"""Broken videos, and the disk space that a data set will take."""

import pathlib
import re
import shutil
import types
import zlib

import av
import numpy as np
import pytest

from data.preparation.video_frames import VideoError
from mg_jax.errors import UserError
from mg_jax.input.datasets import frame_records, open_data_set, video_table
from mg_jax.input.prepared import is_prepared
from mg_jax.tools.prepare import prepare
from tests import videos
from tests.preparations import NAME, changed, listed, parts_folder, read, records, write_noise


def write_without_frames(path):
    with av.open(str(path), "w", format="matroska") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height = 32, 24
        container.start_encoding()


def write_cut_off(path):
    videos.write(path)
    path.write_bytes(path.read_bytes()[:300])


def write_folder_without_images(path):
    videos.write_lines(path / "notes.txt", "no image")


def write_folder_with_broken_jpeg(path):
    image = videos.write_folder(path, 3) / "00002.jpg"
    image.write_bytes(image.read_bytes()[:200])


def write_folder_with_broken_png(path):
    chunk = b"IHDR" + bytes(5)  # 13 are due
    crc = zlib.crc32(chunk).to_bytes(4, "big")
    image = videos.write_folder(path, 3, name="{}.png") / "2.png"
    image.write_bytes(image.read_bytes()[:8] + (5).to_bytes(4, "big") + chunk + crc)


BROKEN = {
    "empty": lambda path: path.touch(),
    "text": lambda path: videos.write_lines(path, *["not a video"] * 50),
    "sound": videos.write_sound_only,
    "zero_length": write_without_frames,
    "cut_off": write_cut_off,
    "no_images": write_folder_without_images,
    "broken_jpeg": write_folder_with_broken_jpeg,
    "broken_png": write_folder_with_broken_png,
}


@pytest.mark.parametrize("kind", [*BROKEN, "missing"])
def test_a_video_that_cannot_be_read_raises_with_its_reason(tmp_path, kind):
    path = tmp_path / "video.mp4"
    if kind != "missing":
        BROKEN[kind](path)
    with pytest.raises(VideoError, match=r"\w"):
        read(path)


@pytest.fixture
def mixed(tmp_path):
    """Sources of 27 good videos, each in front of a broken one as long as there are any."""
    folder = tmp_path / "source" / "train" / "run"
    folder.mkdir(parents=True)
    for i in range(27):
        videos.write(folder / f"{i:02d}.mp4", 3 + i % 5)
    for i, (kind, write) in enumerate(BROKEN.items()):
        write(folder / f"{i:02d}_{kind}.mp4")
    return tmp_path / "source"


def test_broken_videos_are_skipped_listed_and_counted(mixed, capsys):
    config = videos.config_for(mixed, NAME, max_broken=0.25)
    prepare(config)
    data_set = open_data_set(config)
    table, frames = video_table(data_set, "train"), frame_records(data_set, "train")
    assert table.ids.tolist() == [f"run/{i:02d}.mp4" for i in range(27)]
    assert table.source_frames.tolist() == [3 + i % 5 for i in range(27)]
    assert table.first_frame.tolist() == [0, *np.cumsum(table.source_frames)[:-1]]
    assert len(frames) == table.source_frames.sum()
    for first, count in zip(table.first_frame, table.source_frames, strict=True):
        assert videos.numbers(frames.jpegs(first + np.arange(count))) == list(range(count))

    names = [f"run/{i:02d}_{kind}.mp4" for i, kind in enumerate(BROKEN)]
    rows = listed(config, "skipped.csv")
    assert [row["id"] for row in rows] == names
    assert {row["split"] for row in rows} == {"train"}
    reasons = {row["id"]: row["reason"] for row in rows}
    assert reasons[names[2]] == "no video stream"
    assert reasons[names[5]] == "no frames"
    assert all(reasons.values())
    assert data_set.info.metadata["skipped"] == len(names)
    printed = capsys.readouterr().out
    assert f"skipped {mixed}/train/run/02_sound.mp4: no video stream" in printed
    assert "27 train" in printed
    assert f"{len(names)} videos skipped, see {data_set.data_path}/skipped.csv" in printed


def test_more_broken_videos_than_allowed_stop_the_preparation(mixed):
    config = videos.config_for(mixed, NAME, max_broken=0.06, workers=2)
    message = r"[3-8] of 35 videos cannot be read, more than the share prepare.max_broken=0.06: "
    for workers in (2, 1):  # it does not help to try again
        config.prepare.workers = workers
        with pytest.raises(
            UserError, match=message + r".*skipped.csv. The first are\n    .*\.mp4: \w"
        ):
            prepare(config)
        assert not is_prepared(config)
        reasons = (parts_folder(config) / "skipped.csv").read_text()
        assert "train,run/" in reasons
        assert re.search(r",(No such file|Invalid data|no video stream|no frames)", reasons)
        assert not list(parts_folder(config).glob("*.tmp"))
    config.prepare.max_broken = 0.25
    prepare(config)
    assert len(video_table(open_data_set(config), "train")) == 27


def test_the_number_of_workers_changes_nothing(mixed):
    config = videos.config_for(mixed, NAME, max_broken=0.25)
    several = changed(config, workers=2)
    several.data.dir += "_by_two"
    prepare(config)
    prepare(several)
    assert records(several) == records(config)
    assert listed(several, "skipped.csv") == listed(config, "skipped.csv")


def test_a_split_of_broken_videos_alone_is_refused(tmp_path):
    for split, suffix in (("train", ".mp4"), ("validation", ".avi")):
        (tmp_path / "source" / split / "run").mkdir(parents=True)
        (tmp_path / "source" / split / "run" / f"b{suffix}").touch()
    videos.write(tmp_path / "source" / "train" / "run" / "a.mp4")
    config = videos.config_for(tmp_path / "source", NAME, max_broken=1.0)
    with pytest.raises(UserError, match=r"no video of split 'validation' could be read; see .*\*"):
        prepare(config)
    assert not is_prepared(config)


def test_disk_space_is_unknown_where_no_video_can_be_read(tmp_path, capsys):
    videos.write_files(tmp_path / "source" / "train" / "run", "a.mp4", "b.avi")
    with pytest.raises(UserError, match="2 of 2 videos cannot be read"):
        prepare(videos.config_for(tmp_path / "source", NAME, max_broken=0.5))
    assert "2 videos will take: unknown, since none of the 2 " in capsys.readouterr().out


def estimated(printed):
    """The bytes that the preparation said it would take."""
    size, unit = re.search(r"videos will take about ([\d.e+]+) (K|M)B in", printed).groups()
    return float(size) * {"K": 1e3, "M": 1e6}[unit]


@pytest.fixture(scope="module")
def noise(tmp_path_factory):
    source = tmp_path_factory.mktemp("noise") / "source"
    for i in range(32):
        write_noise(source / "train" / "run" / str(i), i)
    return source


@pytest.mark.parametrize("settings", [{}, {"frame_step": 2}, {"quality": 70}, {"short_side": 72}])
def test_disk_space_is_estimated_beforehand(noise, tmp_path, settings, capsys):
    config = videos.config_for(noise, NAME, **settings)
    config.data.dir = str(tmp_path)
    prepare(config)
    printed = capsys.readouterr().out
    folder = pathlib.Path(open_data_set(config).data_path)
    taken = sum(path.stat().st_size for path in folder.glob("*frames.array_record*"))
    assert estimated(printed) == pytest.approx(taken, rel=0.2)
    assert printed.index("will take about") < printed.index("2.0.0: 32 train")


def test_a_disk_that_is_too_small_is_refused(tmp_path, monkeypatch):
    write_noise(tmp_path / "source" / "train" / "run" / "0", 0)
    config = videos.config_for(tmp_path / "source", NAME)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda path: types.SimpleNamespace(free=50_000))
        message = r"more than the 50 KB that are free in .*; choose another --config.data.dir, or a"
        with pytest.raises(UserError, match=message):
            prepare(config)
    assert not is_prepared(config)
    prepare(config)
    assert is_prepared(config)
