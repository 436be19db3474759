"""From videos of all kinds to frames on disk, whatever comes in between."""

import csv
import os
import pathlib
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
import types
import zlib

import av
import cv2
import numpy as np
import pytest
import simplejpeg
from PIL import Image

from data.jpeg import encode_jpeg
from data.video_frames import VideoError, read_frames
from mg_jax import frames as stored_frames
from mg_jax.datasets import frame_records, is_prepared, open_data_set, prepare, video_table
from tests import runs, videos

NAME = "video_folder/mine"


def read(path, short_side=256, quality=90, **settings):
    return read_frames(path, short_side, quality, **settings)


# Frames


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
    assert (table.num_frames.tolist(), table.frame_step, len(records)) == ([10], 4, 3)
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


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
def test_videos_are_turned_as_opencv_turns_them(tmp_path, rotation):
    path = videos.write(tmp_path / "video.mp4", 2, (64, 32), rotation=rotation)
    frames = read(path, quality=95)
    assert (frames.width, frames.height) == ((32, 64) if rotation % 180 else (64, 32))
    _, expected_HWC = cv2.VideoCapture(str(path)).read()
    error = np.abs(videos.pixels(frames.jpegs[0]) - expected_HWC[..., ::-1]).mean()
    assert error < 4


def test_turned_videos_are_scaled_by_their_short_side(tmp_path):
    path = videos.write(tmp_path / "video.mp4", 2, (64, 32), rotation=90)
    frames = read(path, short_side=16)
    assert (frames.width, frames.height) == (16, 32)


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
    assert b"K\xf6ln" in path.read_bytes()
    assert videos.numbers(read(path).jpegs) == [0, 1, 2, 3]


# JPEGs


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


# Broken videos


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


@pytest.mark.parametrize("kind", BROKEN)
def test_a_video_that_cannot_be_read_raises_with_its_reason(tmp_path, kind):
    path = tmp_path / "video.mp4"
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
    assert table.num_frames.tolist() == [3 + i % 5 for i in range(27)]
    assert table.first_frame.tolist() == [0, *np.cumsum(table.num_frames)[:-1]]
    assert len(frames) == table.num_frames.sum()
    for first, count in zip(table.first_frame, table.num_frames, strict=True):
        assert videos.numbers(frames.jpegs(first + np.arange(count))) == list(range(count))

    names = [f"run/{i:02d}_{kind}.mp4" for i, kind in enumerate(BROKEN)]
    rows = skipped(config)
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


def skipped(config):
    """The rows of skipped.csv."""
    with (pathlib.Path(open_data_set(config).data_path) / "skipped.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_more_broken_videos_than_allowed_stop_the_preparation(mixed):
    config = videos.config_for(mixed, NAME, max_broken=0.05, workers=2)
    message = r"[2-8] of 35 videos cannot be read, more than the share prepare.max_broken=0.05; "
    for workers in (2, 1):  # it does not help to try again
        config.prepare.workers = workers
        with pytest.raises(
            ValueError, match=message + r"the reasons are in .*/skipped.csv; delete"
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


def changed(config, **prepare):
    config = config.copy_and_resolve_references()
    config.prepare.update(prepare)
    return config


def records(config):
    """All that a data set holds."""
    data_set = open_data_set(config)
    return {split: list(data_set.as_data_source(split)) for split in data_set.info.splits}


def test_the_number_of_workers_changes_nothing(mixed):
    config = videos.config_for(mixed, NAME, max_broken=0.25)
    several = changed(config, workers=2)
    several.data.dir += "_by_two"
    prepare(config)
    prepare(several)
    assert records(several) == records(config)
    assert skipped(several) == skipped(config)


def test_a_split_of_broken_videos_alone_is_refused(tmp_path):
    for split, suffix in (("train", ".mp4"), ("validation", ".avi")):
        (tmp_path / "source" / split / "run").mkdir(parents=True)
        (tmp_path / "source" / split / "run" / f"b{suffix}").touch()
    videos.write(tmp_path / "source" / "train" / "run" / "a.mp4")
    config = videos.config_for(tmp_path / "source", NAME, max_broken=1.0)
    with pytest.raises(ValueError, match=r"no video of split 'validation' could be read; see .*\*"):
        prepare(config)
    assert not is_prepared(config)


# Disk space


def write_noise(path, seed, count=16):
    """Frames of 128 x 96 pixels that take some space, about 7 KB each."""
    rng = np.random.default_rng(seed)
    path.mkdir(parents=True)
    for i in range(count):
        pixels = rng.integers(0, 256, (48, 64, 3), np.uint8)
        Image.fromarray(pixels).resize((128, 96)).save(path / f"{i}.jpg", quality=95)


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
        with pytest.raises(ValueError, match=message):
            prepare(config)
    assert not is_prepared(config)
    prepare(config)
    assert is_prepared(config)


# Preparations that are cut off


def parts_folder(config):
    return pathlib.Path(config.data.dir) / "video_folder" / "mine" / "2.0.0.parts"


def whole_parts(config):
    return {path.stem for path in parts_folder(config).glob("*-*.json")}


def files(config):
    """The files of finished parts: name, node and time of the last change."""
    stats = {path: path.stat() for path in parts_folder(config).glob("*-*.array_record")}
    return {path.name: (stat.st_ino, stat.st_mtime_ns) for path, stat in stats.items()}


def flags(config, workers):
    return (
        f"--config.data.name={config.data.name}",
        f"--config.data.dir={config.data.dir}",
        f"--config.data.eval_split={config.data.eval_split}",
        f"--config.prepare.source={config.prepare.source}",
        f"--config.prepare.workers={workers}",
    )


def children(pid):
    """Process numbers of a process's children."""
    paths = pathlib.Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for path in paths for child in path.read_text().split()]


def is_worker(pid):
    """Whether that is a running worker of a pool; what has ended has no command line."""
    try:
        return b"spawn_main" in pathlib.Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_until(condition):
    for _ in range(2400):
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError("nothing happened for two minutes")


def message_of(function, *arguments):
    """The message with which a call is refused."""
    with pytest.raises(ValueError, match=r"\w") as raised:
        function(*arguments)
    return str(raised.value)


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """A preparation of six parts that was killed when all but one were done, and what followed.

    One video is a named pipe: the worker that opens it waits.
    """
    source = tmp_path_factory.mktemp("killed") / "source"
    originals = [videos.write(source.parent / f"{count}.mp4", count) for count in range(3, 10)]
    for split, count in (("train", 80), ("validation", 10)):
        (source / split / "run").mkdir(parents=True)
        for i in range(count):
            shutil.copy(originals[i % len(originals)], source / split / "run" / f"{i:02d}.mp4")
    config = videos.config_for(source, NAME)
    undisturbed = changed(config)
    undisturbed.data.dir = str(source.parent / "undisturbed")
    prepare(undisturbed)

    path = source / "train" / "run" / "40.mp4"
    video = path.rename(source.parent / "40.mp4")
    os.mkfifo(path)
    command = {"config": "configs/video_folder.py", "mode": "prepare"}
    process = runs.start(None, *flags(config, workers=2), **command)
    all_but_one = {f"train-{i:05d}" for i in (0, 1, 3, 4)} | {"validation-00000"}
    try:
        wait_until(lambda: whole_parts(config) == all_but_one or process.poll() is not None)
        assert process.poll() is None, process.communicate()[0]
        workers = list(filter(is_worker, children(process.pid)))
        # With other settings, so that it is refused if not for the first, and does not wait too.
        second = message_of(prepare, changed(config, quality=80))
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    path.unlink()
    video.rename(path)
    left = files(config)
    refused = [message_of(open_data_set, config), message_of(prepare, changed(config, quality=80))]
    more = videos.write(source / "train" / "run" / "more.mp4")
    refused.append(message_of(prepare, config))
    more.unlink()
    yield types.SimpleNamespace(
        config=config,
        workers=workers,
        second=second,
        left=left,
        refused=refused,
        printed=runs.run(None, *flags(config, workers=2), **command),
        undisturbed=undisturbed,
    )
    for worker in filter(is_worker, workers):
        os.kill(worker, signal.SIGKILL)


def test_of_two_preparations_at_once_the_second_is_refused(killed):
    assert re.search(r"another process is preparing .*2.0.0.parts; wait for it", killed.second)


def test_workers_end_with_their_parent(killed):
    assert len(killed.workers) == 2
    wait_until(lambda: not any(map(is_worker, killed.workers)))


def test_a_killed_preparation_leaves_no_data_set_to_open(killed):
    assert "no prepared data set in" in killed.refused[0]


def test_a_killed_preparation_does_not_go_on_with_other_settings_or_videos(killed):
    message = "holds a preparation that was cut off and had other {}; go on with what it had, or"
    assert message.format("quality") in killed.refused[1]
    assert message.format("videos") in killed.refused[2]


def test_a_killed_preparation_goes_on_without_redoing_what_is_there(killed):
    assert len(killed.left) == 5
    assert "5 of 6 parts are there" in killed.printed
    assert "16 videos will take" in killed.printed
    folder = pathlib.Path(open_data_set(killed.config).data_path)
    stats = [path.stat() for path in folder.glob("*frames.array_record*")]
    assert len(stats) == 6
    assert set(killed.left.values()) < {(stat.st_ino, stat.st_mtime_ns) for stat in stats}


def test_a_killed_preparation_ends_with_the_records_of_an_undisturbed_one(killed):
    assert records(killed.config) == records(killed.undisturbed)
    assert len(video_table(open_data_set(killed.config), "train")) == 80


def test_nothing_but_the_data_set_is_left_at_the_end(killed):
    folders = list(parts_folder(killed.config).parent.iterdir())
    assert [folder.name for folder in folders] == ["2.0.0"]


# Full disks


@pytest.fixture
def growing(tmp_path):
    """A config whose first part takes 300 KB and the second one a megabyte."""
    for i in range(32):
        write_noise(tmp_path / "source" / "train" / "run" / f"{i:02d}", i, 1 if i < 16 else 8)
    return videos.config_for(tmp_path / "source", NAME)


def test_a_full_disk_ends_with_a_message_and_the_same_command_goes_on(growing):
    limited = 'ulimit -f 600; exec "$0" main.py --config=configs/video_folder.py "$@"'
    process = subprocess.run(
        ["bash", "-c", limited, sys.executable, "--mode=prepare", *flags(growing, workers=1)],
        cwd=runs.ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.returncode == 1, process.stdout
    assert "Traceback" not in process.stdout
    error = process.stdout.splitlines()[-1]
    assert re.match(r"error: .*2.0.0.parts cannot be written to: .*File too large", error)
    assert "and the same command goes on from there" in error
    assert not is_prepared(growing)
    left = {path.name for path in parts_folder(growing).iterdir()}
    whole = {"train-00000.json", "train-00000.array_record"}
    assert left == {"lock", "preparation.json"} | whole
    prepare(growing)
    assert len(video_table(open_data_set(growing), "train")) == 32
    assert not parts_folder(growing).exists()


def limited_to(size, function, *arguments):
    """Calls a function that cannot write more than so many bytes to a file."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        return function(*arguments)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.fixture
def long_names(tmp_path):
    """A config of two parts of 128 KB each, and of class names that take 200 KB."""
    source = tmp_path / "source"
    names = [f"{k:0500d}" for k in range(400)]
    videos.write_lines(source / "classes.txt", *names)
    videos.write_lines(source / "train.csv", *(f"{i}.mp4 {names[i]}" for i in range(20)))
    for i in range(20):
        videos.write(source / f"{i}.mp4", 2)
    (source / "7.mp4").write_bytes(b"broken")
    return videos.config_for(source, NAME, max_broken=0.1)


def test_a_disk_that_fills_up_at_the_very_end_loses_nothing(long_names):
    message = limited_to(150_000, message_of, prepare, long_names)
    assert "the same command goes on from there" in message
    assert not is_prepared(long_names)
    left = files(long_names)
    assert len(left) == 2
    prepare(long_names)
    folder = pathlib.Path(open_data_set(long_names).data_path)
    stats = [path.stat() for path in folder.glob("*frames.array_record*")]
    assert {(stat.st_ino, stat.st_mtime_ns) for stat in stats} == set(left.values())


def test_videos_that_were_skipped_before_count_when_a_preparation_goes_on(long_names):
    limited_to(150_000, message_of, prepare, long_names)
    message = message_of(prepare, changed(long_names, max_broken=0.0))
    assert "1 of 20 videos cannot be read, more than the share prepare.max_broken=0" in message
    assert not is_prepared(long_names)


def test_parts_whose_frames_are_gone_are_made_again(long_names):
    limited_to(150_000, message_of, prepare, long_names)
    (parts_folder(long_names) / "train-00001.array_record").unlink()
    prepare(long_names)
    undisturbed = changed(long_names)
    undisturbed.data.dir += "_undisturbed"
    prepare(undisturbed)
    assert records(long_names) == records(undisturbed)
