"""Readers: the same clips however many there are, and what happens when processes are killed."""

import contextlib
import dataclasses
import errno
import os
import pathlib
import re
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import psutil
import pytest

from configs.demo import get_config
from data.format.records import DamagedVideos
from mg_jax.input.clips import ClipSource, NothingLeft, ViewSource
from mg_jax.input.datasets import open_source
from mg_jax.input.messages import DAMAGED, DONE, FAILED, TASK, Answer, Task, unpacked
from mg_jax.input.readers import ReaderError, Readers
from mg_jax.input.sampling import Augmentation, Views, sample_clips
from mg_jax.input.shared_memory import arrays_in, size_of
from mg_jax.recipe import schedule_from_config
from tests import runs
from tests.damaged import DamagedFrames


@pytest.fixture(scope="module")
def split(data_dir):
    config = get_config()
    config.data.dir = str(data_dir)
    return open_source(config).train


@pytest.fixture(scope="module")
def grids():
    return tuple(schedule_from_config(get_config()).grids_from(0))


def source_of(split, grids):
    videos = split.videos, split.frames, split.multi_label
    return ClipSource(*videos, Augmentation(0, True, False), grids)


def in_this_process(source, shape, first, count):
    """A batch without readers, and the rows of the videos that were damaged."""
    fields, rows = source.fields(shape, count), set()
    batch = arrays_in(np.zeros(size_of(fields), np.uint8), fields)
    for task in source.tasks(shape, count, readers=3):
        source.read(shape, first, task, batch, lambda row, *_: rows.add(row))
    return batch, rows


@pytest.mark.parametrize("count", [1, 2, 5])
def test_any_number_of_readers_reads_the_same_bits_and_counts_the_same_damage(split, grids, count):
    videos = split.videos, DamagedFrames(split, (5, 11)), split.multi_label
    source = ClipSource(*videos, Augmentation(0, True, False), grids)
    damaged = DamagedVideos(len(split.videos), 0.5)
    stream = Readers(count).stream(source, 1 << 22, damaged)
    rows = set()
    for shape in range(len(grids)):
        # Longer than the number of tasks divides, so that parts are of different lengths.
        expected, damaged_rows = in_this_process(source, shape, 100 * shape, 50)
        rows |= damaged_rows
        found = stream.read(shape, 100 * shape, 50)
        for name, array in expected.items():
            np.testing.assert_array_equal(found[name], array)
    assert damaged.rows == rows == {5, 11}


def test_where_no_other_video_is_left_the_first_damaged_one_is_named(split, grids):
    frames = DamagedFrames(split, range(len(split.videos)))
    source = ClipSource(
        split.videos, frames, split.multi_label, Augmentation(0, True, False), grids
    )
    row = sample_clips(split.videos, grids[0], source.augmentation, 0, 1).rows_B[0]
    with pytest.raises(NothingLeft, match=f"video {re.escape(split.videos.ids[row])} is damaged"):
        in_this_process(source, 0, 0, 8)


@pytest.mark.parametrize("error", [ValueError, RuntimeError, IndexError])
def test_an_error_of_our_own_is_no_damage_and_ends_the_run_with_its_traceback(split, grids, error):
    frames = DamagedFrames(split, range(len(split.videos)), error)
    source = ClipSource(
        split.videos, frames, split.multi_label, Augmentation(0, True, False), grids
    )
    damaged = DamagedVideos(len(split.videos), 0.5)
    with pytest.raises(RuntimeError, match=rf"(?s)Traceback.*{error.__name__}: cut off"):
        Readers(1).stream(source, 1 << 22, damaged).read(0, 0, 16)
    assert not damaged.rows


def test_a_mirrored_clip_has_the_class_that_its_own_swaps_with(split, grids):
    plain = source_of(split, grids)
    swapped = dataclasses.replace(plain, mirrored=(2, 1, 0, 3))
    before, after = (in_this_process(source, 0, 0, 40)[0] for source in (plain, swapped))
    flip_B, label_B = before["flip_B"], before["label"]
    expected_B = np.where(flip_B & (label_B % 2 == 0) & (label_B < 3), 2 - label_B, label_B)
    assert not np.array_equal(expected_B, label_B)
    np.testing.assert_array_equal(after["label"], expected_B)
    several = dataclasses.replace(swapped, multi_label=True)
    label_BK = in_this_process(several, 0, 0, 40)[0]["label"]
    np.testing.assert_array_equal(label_BK, np.eye(4)[expected_B])


def test_views_are_the_same_in_however_many_parts_a_video_is_read(split):
    views = Views(clips=40, crops=3, frames=8, stride=2, size=32, short_side=36)
    source = ViewSource(split.videos, split.frames, views)
    assert len(source.tasks(0, 2, readers=2)) == 2 * 3
    found = Readers(2).stream(source, 1 << 24, split.damaged).read(0, 3, 2)["clips"]
    expected, _ = in_this_process(source, 0, 3, 2)
    np.testing.assert_array_equal(found, expected["clips"])


def test_readers_start_without_jax_and_tensorflow_and_within_a_second_of_work():
    program = (
        "import mg_jax.input.reader, sys, time\n"
        "assert not {'jax', 'tensorflow'} & sys.modules.keys(), sys.modules.keys()\n"
        "print(time.process_time())"
    )
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=runs.ROOT, capture_output=True, text=True, check=True)
    assert float(done.stdout) < 1


def test_a_reader_that_is_killed_ends_what_waits_and_what_comes_later(split, grids):
    readers = Readers(2)
    stream = readers.stream(source_of(split, grids), 1 << 22, split.damaged)
    stream.read(0, 0, 16)
    failures = []

    def read_on():
        try:
            while True:
                stream.read(0, 0, 16)
        except ReaderError as error:
            failures.append(str(error))

    threads = [threading.Thread(target=read_on) for _ in range(3)]
    for thread in threads:
        thread.start()
    os.kill(readers.pids[1], signal.SIGKILL)
    for thread in threads:
        thread.join(60)
    assert len(failures) == 3
    assert all(f"{readers.pids[1]} was killed by SIGKILL" in text for text in failures)
    assert all("run.readers" in text for text in failures)
    with pytest.raises(ReaderError):
        stream.read(0, 0, 16)


def test_readers_end_with_what_holds_them(split, grids):
    readers = Readers(2)
    stream = readers.stream(source_of(split, grids), 1 << 22, split.damaged)
    stream.read(0, 0, 16)
    pids = readers.pids
    assert all(map(psutil.pid_exists, pids))
    del readers, stream
    assert not any(map(psutil.pid_exists, pids))


def test_a_reader_that_cannot_start_says_why(split, grids, tmp_path, monkeypatch):
    (tmp_path / "simplejpeg.py").write_text("raise ImportError('this one is broken')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    readers = Readers(2)
    stream = readers.stream(source_of(split, grids), 1 << 22, split.damaged)
    with pytest.raises(ReaderError, match=r"(?s)input reader \d+ could not start.*is broken$"):
        stream.read(0, 0, 16)


def open_files():
    """What the descriptors of this process stand for."""
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # closed since
            yield os.readlink(f"/proc/self/fd/{name}")


def test_where_a_reader_cannot_be_started_those_before_it_are_ended(split, grids, monkeypatch):
    started, popen = [], subprocess.Popen

    def two_of_three(*arguments, **options):
        if len(started) == 2:
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        started.append(popen(*arguments, **options))
        return started[-1]

    pipes, pipe, here = [], os.pipe, threading.get_ident()

    def noted():
        ends = pipe()
        if threading.get_ident() == here:
            pipes.append(os.readlink(f"/proc/self/fd/{ends[0]}"))
        return ends

    monkeypatch.setattr(subprocess, "Popen", two_of_three)
    monkeypatch.setattr(os, "pipe", noted)
    with pytest.raises(ReaderError, match=r"reader 3 of 3 cannot be started .*run\.readers"):
        Readers(3).stream(source_of(split, grids), 1 << 22, split.damaged)
    assert len(started) == 2
    assert not any(psutil.pid_exists(process.pid) for process in started)
    # Not all open files: other threads open and close theirs meanwhile.
    assert len(pipes) >= 5
    assert not set(pipes) & set(open_files())


def test_signals_to_a_whole_job_leave_its_readers_to_their_parent(split, grids):
    readers = Readers(2)
    stream = readers.stream(source_of(split, grids), 1 << 22, split.damaged)
    for number in (signal.SIGINT, signal.SIGTERM):
        for pid in readers.pids:
            os.kill(pid, number)
    stream.read(0, 0, 64)


def test_messages_arrive_as_they_were_sent_in_whatever_pieces():
    answers = [Answer(3, DONE), Answer(2**40, DAMAGED, 7, "vidéo"), Answer(4, DONE)]
    content = b"".join(answer.packed() for answer in answers)
    for cut in range(len(content)):
        first = list(unpacked(content[:cut]))
        end = first[-1][1] if first else 0
        assert [a for a, _ in first] + [a for a, _ in unpacked(content[end:])] == answers
    for kind, kept in ((DAMAGED, "first"), (FAILED, "last")):
        content = Answer(0, kind, 0, "first" + "x" * 10**6 + "last").packed()
        assert len(content) < 4096
        ((answer, _),) = unpacked(content)
        assert kept in answer.text
    task = Task(1, 2, 3, 4, 5, 6, 2**60, 8, 9, 10)
    assert Task._make(TASK.unpack(TASK.pack(*task))) == task
    assert 4096 % TASK.size == 0


# Whole runs


def readers_of(process):
    """The readers of a process that still run."""
    found = []
    for child in psutil.Process(process.pid).children(recursive=True):
        if "mg_jax.input.reader" in child.cmdline():
            found.append(child)
    return found


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_run_that_ends_early_leaves_no_process_and_no_shared_memory(flags, tmp_path, number):
    process = runs.start(tmp_path / "run", *flags, "--config.run.readers=3")
    runs.wait_for(tmp_path / "run", 8, [process])
    readers = readers_of(process)
    assert len(readers) == 3
    for pid in (process.pid, *(reader.pid for reader in readers)):
        # Memory without a name, of which nothing can be left and for which no mount needs room;
        # libraries have semaphores that were deleted at once.
        maps = pathlib.Path(f"/proc/{pid}/maps").read_text()
        assert "/memfd:mg_jax" in maps
        named = [line for line in maps.splitlines() if not line.endswith(" (deleted)")]
        assert not any("/dev/shm/" in line for line in named)
    process.send_signal(number)
    process.communicate(timeout=300)
    deadline = time.monotonic() + 20
    while any(reader.is_running() for reader in readers) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(reader.is_running() for reader in readers)


def test_a_killed_reader_ends_the_run_with_a_message_and_with_one_it_continues_to_the_same_bits(
    undisturbed, flags, tmp_path
):
    workdir = tmp_path / "run"
    process = runs.start(workdir, *flags, "--config.run.readers=2")
    runs.wait_for(workdir, 12, [process])
    readers_of(process)[0].kill()
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 1, output
    (line,) = [line for line in output.splitlines() if line.startswith("error:")]
    assert "was killed by SIGKILL" in line
    assert "continues from the newest checkpoint" in line
    assert "Traceback" not in output
    assert "continuing" in runs.run(workdir, *flags, "--config.run.readers=1")
    for a, b in zip(runs.final_arrays(workdir), runs.final_arrays(undisturbed[0]), strict=True):
        np.testing.assert_array_equal(a, b)
