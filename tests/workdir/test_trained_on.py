"""A run is bound to its videos: other ones are refused, or taken on and counted right."""

import dataclasses
import gzip
import json
import shutil

import numpy as np
import pytest
from array_record.python.array_record_module import ArrayRecordReader, ArrayRecordWriter

from data.format.video_table import Actions, VideoTable
from mg_jax.errors import UserError
from mg_jax.input.datasets import open_source
from mg_jax.recipe import schedule_from_config
from mg_jax.report.comparison import compared_with_first
from mg_jax.report.groups import check_comparable, group_runs
from mg_jax.report.runs import TRAINING_VIDEOS, read_runs
from mg_jax.runtime.stops import Stops
from mg_jax.training.session import open_session
from mg_jax.workdir.config import WorkdirError
from mg_jax.workdir.trained_on import (
    TrainedOn,
    check_videos,
    read_trained_on,
    stretch_of,
    write_trained_on,
)
from tests import runs, tiny


def table(*names, label=(), frames=30):
    """Videos of 30 frames with the label 1, or those of `label`."""
    count = len(names)
    labels = np.array(label or [1] * count, np.int32)
    return VideoTable(
        ids=np.array(names),
        first_frame=frames * np.arange(count),
        source_frames=np.full(count, frames),
        height=np.full(count, 40),
        width=np.full(count, 40),
        actions=Actions(np.arange(count), labels, np.zeros(count, int), np.full(count, frames)),
        classes=4,
    )


EVALUATION = table("x", "y")


@pytest.fixture
def bound(tmp_path):
    """A work directory with a checkpoint of a run on four videos."""
    (tmp_path / "checkpoints" / "10").mkdir(parents=True)
    train = table("a", "b", "ü/日本 c", "d")
    now = stretch_of(tiny.get_config(), train, EVALUATION)
    write_trained_on(tmp_path, TrainedOn().continued(now), train, EVALUATION)
    return tmp_path


OTHER = {
    "new": (table("a", "b", "ü/日本 c", "d", "e"), r"4 videos and has 5: 1 \('e'\) new\."),
    "gone": (table("a", "b", "d"), r"4 videos and has 3: 1 \('ü/日本 c'\) gone\."),
    "labels": (
        table("a", "b", "ü/日本 c", "d", label=(1, 1, 0, 1)),
        r"4 .* has 4: 1 \('ü/日本 c'\) with other labels or lengths\.",
    ),
    "lengths": (
        table("a", "b", "ü/日本 c", "d", frames=31),
        r"4 .* has 4: 4 \('a', 'b', .*, \.\.\.\) with",
    ),
    "order": (
        table("b", "a", "ü/日本 c", "d"),
        r"4 .* has 4: the same ones, ordered or stored otherw",
    ),
}


@pytest.mark.parametrize("what", OTHER)
def test_other_videos_are_refused_by_name(bound, what):
    videos, message = OTHER[what]
    with pytest.raises(WorkdirError, match=f"split 'train' had {message}") as refused:
        check_videos(bound, tiny.get_config(), videos, EVALUATION)
    assert "--config.run.accept_other_videos=True" in str(refused.value)


def test_other_videos_to_evaluate_on_are_refused_too(bound):
    with pytest.raises(WorkdirError, match=r"split 'validation' had 2 videos and has 1: 1 \('y'\)"):
        check_videos(bound, tiny.get_config(), table("a", "b", "ü/日本 c", "d"), table("x"))


def test_the_same_videos_in_frames_of_another_size_pass(bound):
    same = dataclasses.replace(table("a", "b", "ü/日本 c", "d"), height=np.full(4, 64))
    check_videos(bound, tiny.get_config(), same, EVALUATION)


@pytest.mark.parametrize("content", [None, b"", b"no gzip", gzip.compress(b"3\n", mtime=0)])
def test_without_the_lists_counts_and_what_differs_are_said(bound, content):
    for path in (bound / "videos").iterdir():
        path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(WorkdirError, match="4 videos and has 1, with other ids, frame counts, la"):
        check_videos(bound, tiny.get_config(), table("a"), EVALUATION)


def test_work_directories_without_checkpoints_or_record_are_bound_to_nothing(bound):
    (bound / "data.json").rename(bound / "elsewhere")
    check_videos(bound, tiny.get_config(), table("z"), EVALUATION)
    (bound / "elsewhere").rename(bound / "data.json")
    (bound / "checkpoints" / "10").rmdir()
    check_videos(bound, tiny.get_config(), table("z"), EVALUATION)


@pytest.mark.parametrize("content", ["[{", '[{"from_step": 0}]', "[3]", "[]", "{}", "3"])
def test_a_damaged_record_is_named(bound, content):
    (bound / "data.json").write_text(content)
    with pytest.raises(WorkdirError, match=r"data\.json is damaged"):
        read_trained_on(bound)


@pytest.mark.parametrize(
    "damage",
    [
        lambda row: row["train"]["fingerprints"].pop("labels"),
        lambda row: row["evaluation"]["fingerprints"].update(ids=3),
        lambda row: row["train"].update(fingerprints=[]),
        lambda row: row["train"].update(videos=0),
        lambda row: row.update(from_step=7),
        lambda row: row.update(from_step="0"),
        lambda row: row.pop("data"),
    ],
)
def test_a_record_that_lacks_something_is_damaged(bound, damage):
    rows = json.loads((bound / "data.json").read_text())
    damage(rows[0])
    (bound / "data.json").write_text(json.dumps(rows))
    with pytest.raises(WorkdirError, match=r"data\.json is damaged"):
        read_trained_on(bound)


def test_a_damaged_record_ends_an_evaluation_before_it_begins(undisturbed, flags, tmp_path):
    workdir = shutil.copytree(undisturbed[0], tmp_path / "run")
    (workdir / "data.json").write_text("[]")
    config = tiny.get_config()
    config.data.dir = flags[0].partition("=")[2]
    with pytest.raises(WorkdirError, match=r"data\.json is damaged"):
        open_session(config, workdir, Stops(), trains=False)


def test_videos_are_those_of_the_newest_checkpoint(bound):
    four, five = table("a", "b", "ü/日本 c", "d"), table("a", "b", "ü/日本 c", "d", "e")
    config = tiny.get_config()
    # Taken on after the checkpoint of step 10, and no checkpoint written since.
    taken_on = read_trained_on(bound).continued(stretch_of(config, five, EVALUATION, 10))
    write_trained_on(bound, taken_on, five, EVALUATION)
    check_videos(bound, config, four, EVALUATION)
    with pytest.raises(WorkdirError, match=r"4 videos and has 5: 1 \('e'\) new"):
        check_videos(bound, config, five, EVALUATION)
    (bound / "checkpoints" / "11").mkdir()
    check_videos(bound, config, five, EVALUATION)
    with pytest.raises(WorkdirError, match=r"5 videos and has 4: 1 \('e'\) gone"):
        check_videos(bound, config, four, EVALUATION)


def stretch(videos, from_step):
    return stretch_of(tiny.get_config(), table(*map(str, range(videos))), EVALUATION, from_step)


def test_epochs_count_each_iteration_over_the_videos_of_its_time():
    schedule = schedule_from_config(tiny.get_config())
    trained_on = TrainedOn().continued(stretch(48, 0)).continued(stretch(6, 20))
    clips = [schedule.grid(i).batch for i in range(schedule.iterations)]
    for step in (0, 7, 20, 21, schedule.iterations):
        expected = sum(c / (48 if i < 20 else 6) for i, c in enumerate(clips[:step]))
        assert trained_on.epochs(schedule, step) == pytest.approx(expected)


def test_what_was_cut_off_has_not_taken_place():
    first = TrainedOn().continued(stretch(48, 0))
    second = first.continued(stretch(50, 20))
    assert [s.from_step for s in second.stretches] == [0, 20]
    # From the checkpoint before, and with the videos that it had.
    assert second.continued(stretch(48, 15)) == first
    assert second.continued(stretch(50, 25)) == second
    assert second.continued(stretch(50, 0)) == TrainedOn((stretch(50, 0),))


@pytest.fixture
def fewer_videos(data_dir, tmp_path):
    """The small moving_shapes without its last two training videos."""
    folder = shutil.copytree(data_dir / "moving_shapes", tmp_path / "data" / "moving_shapes")
    (path,) = folder.rglob("moving_shapes-train.array_record-*")
    records = ArrayRecordReader(str(path)).read_all()
    writer = ArrayRecordWriter(str(path), "group_size:1")
    for record in records[:-2]:
        writer.write(record)
    writer.close()
    (path,) = folder.rglob("dataset_info.json")
    info = json.loads(path.read_text())
    (split,) = (split for split in info["splits"] if split["name"] == "train")
    assert split["shardLengths"] == ["48"]
    split["shardLengths"] = ["46"]
    path.write_text(json.dumps(info))
    return folder.parent


@pytest.fixture
def cut(undisturbed, tmp_path):
    """A copy of the finished run as it was at its last checkpoint but one, and that step."""
    workdir = shutil.copytree(undisturbed[0], tmp_path / "run")
    *_, step, last = sorted(int(p.name) for p in (workdir / "checkpoints").glob("[0-9]*"))
    shutil.rmtree(workdir / "checkpoints" / str(last))
    (workdir / "summary.json").unlink()
    return workdir, step


def test_a_run_goes_on_with_other_videos_only_where_it_is_told_to(cut, flags, fewer_videos):
    workdir, step = cut
    (record,) = json.loads((workdir / "data.json").read_text())
    assert (record["from_step"], record["train"]["videos"]) == (0, 48)
    before = {p: p.read_bytes() for p in workdir.rglob("*") if p.is_file()}
    config = tiny.get_config()
    config.data.dir = str(fewer_videos)
    message = r"split 'train' had 48 videos and has 46: 2 \('\w+', '\w+'\) gone"
    with pytest.raises(WorkdirError, match=message):
        open_session(config, workdir, Stops(), trains=True)
    assert before == {p: p.read_bytes() for p in workdir.rglob("*") if p.is_file()}

    other = [f"--config.data.dir={fewer_videos}", "--config.model.num_classes=0"]
    output = runs.run(workdir, *flags, *other, "--config.run.accept_other_videos=True")
    assert f"at step {step}, from here on with other videos, 46 to train on" in output
    first, second = json.loads((workdir / "data.json").read_text())
    assert first == record
    assert (second["from_step"], second["train"]["videos"]) == (step, 46)
    schedule = schedule_from_config(tiny.get_config())
    clips = schedule.position(step), schedule.clips - schedule.position(step)
    epochs = pytest.approx(clips[0] / 48 + clips[1] / 46)
    assert runs.summary(workdir)["epochs"] == epochs
    assert runs.log(workdir)[-1]["epochs"] == epochs
    assert read_runs([workdir])[0].epochs(schedule.iterations) == epochs
    # The number of classes that was left open is written down.
    assert json.loads((workdir / "config.json").read_text())["model"]["num_classes"] == 4


def test_an_evaluation_on_another_split_is_allowed_and_said(undisturbed, flags, tmp_path):
    workdir = shutil.copytree(undisturbed[0], tmp_path / "run")
    split = "--config.data.eval_split=train"
    output = runs.run(workdir, *flags, split, "--config.eval.clips=1", mode="eval")
    assert "evaluated on 48 videos of split 'train', which are not those" in output
    assert "statistics from" not in output
    content = json.loads((workdir / "evaluation.json").read_text())
    assert content["statistics"]["as_in_training"] is True
    data = content["data"]
    assert (data["split"], data["videos"], data["as_in_training"]) == ("train", 48, False)
    config = tiny.get_config()
    config.data.dir = flags[0].partition("=")[2]
    ids = open_source(config).train.videos.fingerprints()["ids"]
    assert data["fingerprints"]["ids"] == ids
    config.data.eval_split = "train"
    with pytest.raises(WorkdirError, match=r"eval_split is validation there and train here$"):
        open_session(config, workdir, Stops(), trains=True)


def test_precise_statistics_from_other_training_videos_are_said(
    undisturbed, flags, fewer_videos, tmp_path
):
    workdir = shutil.copytree(undisturbed[0], tmp_path / "run")
    other = [f"--config.data.dir={fewer_videos}", "--config.eval.clips=1"]
    output = runs.run(workdir, *flags, *other, mode="eval")
    assert "batch-norm statistics from 46 videos of split 'train', which are not those" in output
    assert "evaluated on" not in output
    content = json.loads((workdir / "evaluation.json").read_text())
    assert (content["statistics"]["videos"], content["statistics"]["as_in_training"]) == (46, False)
    assert content["data"]["as_in_training"] is True


def test_runs_that_were_evaluated_on_other_videos_are_not_compared(undisturbed):
    (run,) = read_runs([undisturbed[0]])
    other = dataclasses.replace(run, trained_on=TrainedOn((stretch(48, 0),)))
    with pytest.raises(UserError, match=r"evaluated on other videos \(11 and 2\); see data.json"):
        check_comparable([run, other])


def test_runs_that_were_trained_on_other_videos_are_not_averaged(undisturbed):
    (run,) = read_runs([undisturbed[0]])
    other = dataclasses.replace(run, settings={**run.settings, TRAINING_VIDEOS: "40 (3c4d)"})
    groups = group_runs([run, other, run])
    assert [len(group.runs) for group in groups] == [2, 1]
    assert list(compared_with_first(groups).differing_settings()) == [TRAINING_VIDEOS]
