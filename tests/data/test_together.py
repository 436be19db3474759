"""Several processes that prepare one data set together: real ones, killed for real."""

import contextlib
import dataclasses
import errno
import fcntl
import os
import pathlib
import re
import shutil
import signal
import types

import pytest

from data.listing.states import states_of
from data.listing.videos import Action, Listing, Video
from data.preparation.parts import Stored
from data.preparation.provenance import SOURCES, write_sources
from data.preparation.resuming import PLAN, resumed_parts
from data.preparation.together import alone, joined
from mg_jax.machine.launcher import Process
from mg_jax.tools.prepare import prepare
from tests import runs, videos
from tests.preparations import NAME, changed, message_of, parts_folder

# As --mode=prepare, without the libraries that only training needs, which take ten times as long.
PROGRAM = """
import pathlib, sys
from absl import logging
from data.preparation.prepare import settings_from_config
from data.video_folder.video_folder_dataset_builder import Builder
from mg_jax.errors import UserError
from mg_jax.input.prepared import is_prepared
from mg_jax.machine.launcher import launched_process
from tests import videos

logging.set_verbosity(logging.ERROR)
config = videos.config_for(pathlib.Path(sys.argv[1]), "video_folder/mine", max_broken=0.02)
builder = Builder(pathlib.Path(config.data.dir), "mine", settings_from_config(config))
try:
    builder.prepare_together(launched_process(None, None), lambda: is_prepared(config))
except UserError as error:
    sys.exit(f"error: {error}")
"""


def start(source, index, count):
    """Starts a process as Open MPI does."""
    variables = {"OMPI_COMM_WORLD_SIZE": str(count), "OMPI_COMM_WORLD_RANK": str(index)}
    return runs.launch("-c", PROGRAM, str(source), PYTHONUNBUFFERED="1", **variables)


def contents_of(config):
    """All files of the prepared data sets, by name."""
    folder = pathlib.Path(config.data.dir) / "video_folder"
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def written_by(output):
    """How many videos a process says that it has prepared."""
    return int(re.search(r"has prepared (\d+) of 96 videos", output)[1])


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """Six parts of sixteen videos."""
    folder = tmp_path_factory.mktemp("together") / "source"
    originals = [videos.write(folder.parent / f"{n}.mp4", n, (160, 120)) for n in range(20, 24)]
    (folder / "train" / "run").mkdir(parents=True)
    for i in range(96):
        shutil.copy(originals[i % 4], folder / "train" / "run" / f"{i:02d}.mp4")
    return folder


@pytest.fixture(scope="module")
def by_one(source):
    """All files of the data set that one process has prepared."""
    config = videos.config_for(source, NAME)
    config.data.dir += "_by_one"
    prepare(config)
    return contents_of(config)


@pytest.fixture(scope="module")
def scene(source):
    """Two processes, of which one is killed and started again, and a third one that comes late."""
    config = videos.config_for(source, NAME)
    folder = parts_folder(config)
    first, killed = (start(source, i, 2) for i in range(2))
    writes = f"*.{killed.pid}.tmp"
    runs.wait_until(lambda: list(folder.glob(f"*array_record{writes}")), [first, killed])
    os.kill(killed.pid, signal.SIGSTOP)
    (half,) = folder.glob(f"*array_record{writes}")
    (part,) = re.findall(r"train-\d+", half.name)
    others = {f"train-{i:05d}" for i in range(6)} - {part}
    runs.wait_until(lambda: {p.stem for p in folder.glob("train-*.json")} >= others, [first])
    late = start(source, 2, 3)
    said = iter(late.stdout.readline, "")
    assert any("process 2 of 3 waits for 1 parts that others prepare" in line for line in said)
    is_there = pathlib.Path(config.data.dir, "video_folder", "mine", "2.0.0").exists()
    killed.kill()
    killed.communicate()
    again = start(source, 1, 2)
    ends = [runs.ended(process) for process in (first, again, late)]
    return types.SimpleNamespace(config=config, ends=ends, is_there=is_there)


def test_the_data_set_is_byte_for_byte_that_of_one_process(scene, by_one):
    assert contents_of(scene.config) == by_one


def test_nothing_counts_before_all_parts_are_whole_and_nothing_else_is_left(scene):
    assert not scene.is_there
    folders = list(parts_folder(scene.config).parent.iterdir())
    assert [folder.name for folder in folders] == ["2.0.0"]


def test_all_processes_end_well_and_say_what_they_did(scene):
    assert [status for status, _ in scene.ends] == [0, 0, 0], scene.ends
    (first, again, late) = (output for _, output in scene.ends)
    assert "96 videos of folder train" in first
    for output in (again, late):
        assert "is understood as" not in output
    assert 0 < written_by(first) + written_by(late) <= 96


def test_nothing_is_written_twice(source, by_one):
    config = videos.config_for(source, NAME)
    shutil.rmtree(config.data.dir, ignore_errors=True)
    ends = [runs.ended(process) for process in [start(source, i, 2) for i in range(2)]]
    assert [status for status, _ in ends] == [0, 0], ends
    assert sum(written_by(output) for _, output in ends) == 96
    assert contents_of(config) == by_one


def test_a_failure_that_all_see_ends_all_with_its_message(source, tmp_path):
    copy = tmp_path / "source"
    shutil.copytree(source, copy)
    for name in ("03", "40", "90"):
        (copy / "train" / "run" / f"{name}.mp4").write_bytes(b"no video at all")
    for status, output in map(runs.ended, [start(copy, i, 2) for i in range(2)]):
        assert status == 1
        assert re.search(r"[23] of 96 videos cannot be read, more than .*max_broken=0.02", output)
    config = videos.config_for(copy, NAME)
    assert (parts_folder(config) / PLAN).exists()
    assert (parts_folder(config) / "skipped.csv").read_text().count("train,run/") >= 2
    # One alone goes on with what the others have left.
    prepare(changed(config, max_broken=0.1))
    assert not parts_folder(config).exists()


@pytest.fixture
def small(tmp_path):
    """A config of three videos."""
    for i in range(3):
        videos.write(tmp_path / "source" / "train" / "run" / f"{i}.mp4", 3)
    return videos.config_for(tmp_path / "source", NAME)


@contextlib.contextmanager
def at_work(folder):
    """Another process that prepares together, at least for `joined`."""
    with joined(folder, lambda others: others, lambda: True) as others:
        yield others


def test_one_alone_and_several_together_keep_out_of_each_others_way(small):
    folder = parts_folder(small)
    with at_work(folder) as others:
        assert not others
        assert "another process is preparing" in message_of(prepare, small)
        with at_work(folder) as others:
            assert others
    with alone(folder):
        message = message_of(prepare, small, Process(0, 2))
        assert "another process, started alone, is preparing" in message
    prepare(small, Process(0, 2))
    assert not folder.exists()


def test_only_what_has_changed_is_renewed(small, capsys):
    root = pathlib.Path(small.data.dir)
    prepare(small)
    before = contents_of(small)
    video = pathlib.Path(small.prepare.source, "train", "run", "1.mp4")
    videos.write(video, 7)
    node = video.stat().st_ino
    prepare(changed(small, renew=True), Process(1, 2))
    renewed = contents_of(small)
    assert renewed != before
    assert not (root / ".renewing").exists()
    assert [path.name for path in (root / NAME).iterdir()] == ["2.0.0"]
    capsys.readouterr()
    # As one does that is late, or was started again.
    prepare(changed(small, renew=True), Process(0, 2))
    assert "has prepared" not in capsys.readouterr().out
    assert contents_of(small) == renewed
    assert video.stat().st_ino == node
    prepare(changed(small, renew=True, quality=80), Process(0, 2))
    assert "has prepared 3 of 3 videos" in capsys.readouterr().out


def test_a_renewal_that_was_killed_at_the_swap_is_finished_by_the_next(small):
    prepare(small)
    videos.write(pathlib.Path(small.prepare.source, "train", "run", "1.mp4"), 7)
    newer = changed(small)
    newer.data.dir = str(pathlib.Path(small.data.dir) / ".renewing" / NAME)
    prepare(newer)
    expected = contents_of(newer)
    prepare(changed(small, renew=True), Process(1, 2))
    assert contents_of(small) == expected
    assert not pathlib.Path(newer.data.dir).exists()


def test_one_of_them_says_what_the_source_is_understood_to_be(small, capsys):
    for index, count in ((0, 1), (1, 0)):
        prepare(changed(small, dry_run=True), Process(index, 2))
        assert capsys.readouterr().out.count("is understood as") == count


def test_another_source_than_the_others_have_is_refused(tmp_path):
    video = Video("a.mp4", videos.write(tmp_path / "a.mp4"), (Action(0),))
    listing, stored = Listing(["run", "jump"], {"train": [video]}), Stored(256, 90, 1)
    states = states_of(listing)
    parts = resumed_parts(listing, states, tmp_path, stored, False)
    write_sources(tmp_path / SOURCES, listing, states)

    def joins(listing, states, stored):
        return resumed_parts(listing, states, tmp_path, stored, False, others_at_work=True)

    assert joins(listing, states, stored) == parts
    touched = {"train": [dataclasses.replace(states["train"][0], modified=1)]}
    message = message_of(joins, listing, touched, stored)
    assert "1 videos with a changed file: train a.mp4" in message
    assert "same times of change" in message
    renamed = dataclasses.replace(listing, classes=["run", "leap"])
    assert "other names of classes" in message_of(joins, renamed, states, stored)
    assert "another quality" in message_of(joins, listing, states, Stored(256, 80, 1))


def test_without_locks_processes_do_not_prepare_together(small, monkeypatch):
    def flock(file, operation):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(fcntl, "flock", flock)
    message = message_of(prepare, small, Process(0, 2))
    assert "no locks" in message
    assert "start one process alone" in message
