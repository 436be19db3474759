"""Preparations that are cut off, and full disks."""

import os
import pathlib
import re
import resource
import shutil
import signal
import subprocess
import sys
import types

import pytest

from mg_jax.input.datasets import open_data_set, video_table
from mg_jax.input.prepared import is_prepared
from mg_jax.tools.prepare import prepare
from tests import runs, videos
from tests.preparations import NAME, changed, message_of, parts_folder, records, write_noise


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
        runs.wait_until(lambda: whole_parts(config) == all_but_one, [process])
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
    runs.wait_until(lambda: not any(map(is_worker, killed.workers)), [])


def test_a_killed_preparation_leaves_no_data_set_to_open(killed):
    assert "no prepared data set in" in killed.refused[0]


def test_a_killed_preparation_does_not_go_on_with_other_settings(killed):
    message = "holds a preparation that was cut off and had other quality; go on with what it had"
    assert message in killed.refused[1]


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
