"""Sources that change: videos that are mended, added, removed or labelled anew."""

import dataclasses
import locale
import multiprocessing
import pathlib

import pytest

from data.listing.states import states_of
from data.listing.videos import Action, Listing, Video
from data.preparation.parts import Stored, write_part
from data.preparation.resuming import resumed_parts
from data.preparation.together import alone
from data.preparation.workers import Tally
from mg_jax.errors import UserError
from mg_jax.input.datasets import open_data_set
from mg_jax.input.prepared import is_prepared
from mg_jax.tools.prepare import prepare
from tests import videos
from tests.builders import contents
from tests.preparations import NAME, changed, listed, parts_folder, records


def node(path):
    """Which file this is, and when it was written."""
    return path.stat().st_ino, path.stat().st_mtime_ns


def write_source(folder, count, broken=()):
    for i in range(count):
        path = folder / "train" / "run" / f"{i:02d}.mp4"
        videos.write(path, 3 + i % 5)
        if i in broken:
            path.write_bytes(b"no video at all")
    return folder


def test_a_preparation_that_stopped_takes_up_what_was_mended_and_keeps_the_rest(tmp_path, capsys):
    source = write_source(tmp_path / "source", 40, broken=(33, 35))
    config = videos.config_for(source, NAME, max_broken=0.03)
    with pytest.raises(UserError, match=r"2 of 40 videos cannot be read") as raised:
        prepare(config)
    for i in (33, 35):
        assert f"{source}/train/run/{i}.mp4: Invalid data" in str(raised.value)
    kept = {path.name: node(path) for path in parts_folder(config).glob("*.array_record")}
    assert sorted(kept) == ["train-00000.array_record", "train-00001.array_record"]
    videos.write(source / "train" / "run" / "33.mp4", 4)
    videos.write(source / "train" / "run" / "10_more.mp4", 5)  # in the first part
    videos.write(source / "train" / "run" / "36.mp4", 9)
    capsys.readouterr()
    prepare(config)
    assert "1 of 4 parts are there" in capsys.readouterr().out
    folder = pathlib.Path(open_data_set(config).data_path)
    nodes = {node(path) for path in folder.glob("*train_frames*")}
    assert kept["train-00001.array_record"] in nodes
    assert kept["train-00000.array_record"] not in nodes
    assert [row["id"] for row in listed(config, "skipped.csv")] == ["run/35.mp4"]
    undisturbed = changed(config)
    undisturbed.data.dir += "_undisturbed"
    prepare(undisturbed)
    assert contents(config, "train") == contents(undisturbed, "train")
    assert len(contents(config, "train")) == 40


def test_parts_of_other_files_are_never_taken_for_these(tmp_path):
    source = write_source(tmp_path / "source", 20, broken=(19,))
    config = videos.config_for(source, NAME, max_broken=0.0)
    with pytest.raises(UserError, match=r"1 of 20 videos cannot be read"):
        prepare(config)
    videos.write(source / "train" / "run" / "03.mp4", 11)
    (source / "train" / "run" / "05.mp4").unlink()
    videos.write(source / "train" / "run" / "19.mp4", 8)
    prepare(config)
    found = contents(config, "train")
    assert len(found) == 19
    assert found["run/03.mp4"] == ([0], 11)
    assert found["run/19.mp4"] == ([0], 8)


@pytest.fixture
def finished(tmp_path):
    """A data set of five videos, one of them skipped, and its source."""
    source = write_source(tmp_path / "source", 5, broken=(4,))
    config = videos.config_for(source, NAME, max_broken=0.5)
    prepare(config)
    return source, config


def test_changes_of_the_source_are_told_and_taken_up_with_a_flag(finished, capsys):
    source, config = finished
    before = records(config)
    capsys.readouterr()
    prepare(config)
    assert "since" not in capsys.readouterr().out

    run = source / "train" / "run"
    videos.write(run / "04.mp4", 9)
    videos.write(run / "05.mp4", 8)
    (run / "01.mp4").unlink()
    (source / "train" / "jump").mkdir()
    (run / "02.mp4").rename(source / "train" / "jump" / "02.mp4")
    prepare(config)
    printed = capsys.readouterr().out
    assert "2 videos added: train jump/02.mp4, train run/05.mp4" in printed
    assert "2 videos removed: train run/01.mp4, train run/02.mp4" in printed
    assert "1 videos with a changed file: train run/04.mp4" in printed
    assert "--config.prepare.renew=True" in printed
    assert records(config) == before

    prepare(changed(config, renew=True))
    expected = {"jump/02.mp4": ([0], 5)}
    expected |= {f"run/{i:02d}.mp4": ([1], n) for i, n in ((0, 3), (3, 6), (4, 9), (5, 8))}
    assert contents(config, "train") == expected
    folder = pathlib.Path(config.data.dir)
    assert not (folder / ".renewing").exists()
    assert [path.name for path in (folder / NAME).iterdir()] == ["2.0.0"]
    capsys.readouterr()
    prepare(config)
    assert "since" not in capsys.readouterr().out


def test_other_labels_are_told(tmp_path, capsys):
    source = tmp_path / "source"
    for name in ("a.mp4", "b.mp4"):
        videos.write(source / name)
    videos.write_lines(source / "train.csv", "a.mp4 run", "b.mp4 jump")
    config = videos.config_for(source, NAME)
    prepare(config)
    videos.write_lines(source / "train.csv", "a.mp4 run", "b.mp4 run")
    capsys.readouterr()
    prepare(config)
    assert "1 videos with other labels: train b.mp4" in capsys.readouterr().out


def test_a_renewal_that_fails_leaves_the_data_set_and_goes_on(finished, capsys):
    source, config = finished
    before = records(config)
    videos.write(source / "train" / "run" / "05.mp4", 8)
    with pytest.raises(UserError, match=r"1 of 6 videos cannot be read"):
        prepare(changed(config, renew=True, max_broken=0.0))
    assert records(config) == before
    capsys.readouterr()
    prepare(config)
    assert "cut off" in capsys.readouterr().out
    videos.write(source / "train" / "run" / "04.mp4", 9)
    prepare(changed(config, renew=True, max_broken=0.0))
    assert len(contents(config, "train")) == 6


def test_a_video_that_may_be_read_now_is_tried_again(tmp_path):
    video = Video("a.mp4", videos.write(tmp_path / "a.mp4"), (Action(0),))
    listing, stored = Listing(["run"], {"train": [video]}), Stored(256, 90, 1)
    state = states_of(listing)["train"][0]
    for broken in ("may not be read", ""):
        states = {"train": [dataclasses.replace(state, broken=broken)]}
        (part,) = resumed_parts(listing, states, tmp_path, stored, False)
        assert not part.is_whole(tmp_path)
        write_part(part, Tally(multiprocessing.get_context()), tmp_path, stored)
        assert part.is_whole(tmp_path)


def test_renewing_one_data_set_leaves_the_renewal_of_another(finished):
    _, config = finished
    other = changed(config)
    other.data.name = f"{NAME}_too"
    prepare(other)
    for one in (config, other):
        with pytest.raises(UserError, match=r"1 of 5 videos cannot be read"):
            prepare(changed(one, renew=True, max_broken=0.0))
    renewing = pathlib.Path(config.data.dir) / ".renewing"
    prepare(changed(config, renew=True))
    assert not (renewing / NAME).exists()
    assert any((renewing / other.data.name).rglob("preparation.json"))
    prepare(changed(other, renew=True))
    assert not renewing.exists()


def test_a_renewal_that_another_process_is_at_is_left_alone(finished):
    _, config = finished
    renewing = pathlib.Path(config.data.dir) / ".renewing" / NAME
    with alone(renewing):
        for renew in (False, True):
            with pytest.raises(UserError, match=r"another process is preparing .*renewing"):
                prepare(changed(config, renew=renew))
        assert renewing.exists()
    prepare(config)
    assert not renewing.exists()


def test_without_a_source_nothing_is_renewed(finished):
    _, config = finished
    before = records(config)
    for flag in ("renew", "dry_run"):
        with pytest.raises(UserError, match=r"prepare.source is not set"):
            prepare(changed(config, source="", **{flag: True}))
    assert records(config) == before
    assert not (pathlib.Path(config.data.dir) / ".renewing").exists()


@pytest.mark.parametrize("killed", ["before", "between"])
def test_a_renewal_that_was_killed_at_the_swap_is_finished(finished, killed):
    source, config = finished
    videos.write(source / "train" / "run" / "04.mp4", 9)
    newer = changed(config)
    newer.data.dir = str(pathlib.Path(config.data.dir) / ".renewing" / NAME)
    prepare(newer)
    if killed == "between":
        folder = pathlib.Path(open_data_set(config).data_path)
        folder.rename(pathlib.Path(newer.data.dir) / "old")
        assert not is_prepared(config)
    prepare(config)
    assert contents(config, "train")["run/04.mp4"] == ([0], 9)
    assert not pathlib.Path(newer.data.dir).exists()


def test_lists_beside_a_data_set_are_utf8_whatever_the_locale(tmp_path, capsys):
    source = write_source(tmp_path / "source", 1)
    videos.write_files(source / "train" / "run", "\u00e9.mp4")
    config = videos.config_for(source, NAME, max_broken=0.5)
    before = locale.setlocale(locale.LC_CTYPE)
    locale.setlocale(locale.LC_CTYPE, "C")
    try:
        prepare(config)
    finally:
        locale.setlocale(locale.LC_CTYPE, before)
    assert [row["id"] for row in listed(config, "skipped.csv")] == ["run/\u00e9.mp4"]
    assert "skipped" in capsys.readouterr().out
