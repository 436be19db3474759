"""Whole runs on real videos: real processes, killed for real."""

import gzip
import json
import re
import shutil

import numpy as np
import pytest

from mg_jax.errors import UserError
from mg_jax.recipe import schedule_from_config
from mg_jax.runtime.stops import Stops
from mg_jax.training.evaluate_checkpoint import evaluate_checkpoint
from mg_jax.training.loop import train
from tests import runs, tiny


def best_step(workdir):
    """The last of the steps with the best top-1 of the evaluations."""
    evaluations = [line for line in runs.log(workdir) if line["kind"] == "eval"]
    return max(evaluations, key=lambda line: (line["top1"], line["step"]))["step"]


def kept_steps(workdir):
    return {int(path.name) for path in (workdir / "checkpoints").glob("[0-9]*")}


def test_a_run_leaves_summary_log_events_and_checkpoints(undisturbed):
    workdir, output = undisturbed
    schedule = schedule_from_config(tiny.get_config())
    summary = runs.summary(workdir)
    assert summary["iterations"] == schedule.iterations >= 30
    assert summary["clips"] == schedule.clips
    assert summary["epochs"] == schedule.clips / 48
    parts = [summary[key] for key in ("train_s", "compile_s", "eval_s")]
    assert summary["wall_clock_s"] == pytest.approx(sum(parts))
    assert min(parts) > 0
    assert set(summary["metrics"]) == {"loss", "top1", "top5"}
    assert len(runs.losses(workdir)) == schedule.iterations
    evaluated = {line["step"] for line in runs.log(workdir) if line["kind"] == "eval"}
    saved = {*range(5, schedule.iterations, 5), schedule.iterations, *evaluated}
    assert kept_steps(workdir) == {*sorted(saved)[-3:], best_step(workdir)}
    assert f"{summary['metrics']['top1']:.1%}" in output.splitlines()[-1]


def test_the_log_tells_grid_rate_and_throughput_of_the_schedule(undisturbed):
    schedule = schedule_from_config(tiny.get_config())
    for line in runs.log(undisturbed[0]):
        if line["kind"] != "train":
            continue
        grid = schedule.grid(line["step"] - 1)
        assert (line["clips"], line["frames"], line["size"]) == (
            grid.batch,
            grid.frames,
            grid.size,
        )
        assert line["learning_rate"] == pytest.approx(schedule.learning_rate(line["step"] - 1))
        assert line["clips_per_s"] > 0
        assert 0 <= line["input_wait_share"] <= 1


def test_tensorboard_holds_the_same_scalars_once_each(undisturbed):
    found = {}
    for path in undisturbed[0].glob("events.out.tfevents.*"):
        for step, tag, value in read_events(path):
            assert (step, tag) not in found
            found[step, tag] = value
    for line in runs.log(undisturbed[0]):
        for name, value in line.items():
            if name not in ("step", "kind"):
                tag = f"{line['kind']}/{name}"
                assert found[line["step"], tag] == pytest.approx(value, rel=1e-6)


def read_events(path):
    """(step, tag, value) of a TensorBoard file."""
    import tensorflow as tf

    for event in tf.compat.v1.train.summary_iterator(str(path)):
        for value in event.summary.value:
            yield event.step, value.tag, value.simple_value


def test_one_program_for_each_grid_is_compiled_over_the_whole_schedule(undisturbed):
    schedule = schedule_from_config(tiny.get_config())
    trained = len(list(schedule.grids_from(0)))
    # Beside training: statistics on two base grids, views for one clip and for all.
    assert runs.summary(undisturbed[0])["programs"] == trained + 2 + 2


def test_a_finished_run_evaluates_to_the_same_metrics(undisturbed, flags, copy):
    output = runs.run(copy, *flags, mode="eval")
    metrics = runs.summary(undisturbed[0])["metrics"]
    found = f"top-1 {metrics['top1']:.1%}, loss {metrics['loss']:.3f}"
    assert f": {found}; see {copy}/evaluation.json" in output
    assert json.loads((copy / "evaluation.json").read_text())["metrics"] == metrics


def refused(work, config, workdir):
    """The message with which a run is refused; nothing is started."""
    with pytest.raises(UserError) as raised:
        work(config, workdir, Stops())
    return str(raised.value)


def test_a_work_directory_of_another_config_is_refused_naming_the_keys(config, copy):
    before = sorted((p, p.stat().st_mtime_ns) for p in copy.rglob("*"))
    config.schedule.learning_rate, config.multigrid.short_cycle = 0.5, False
    message = refused(train, config, copy)
    assert "holds checkpoints of another config" in message
    assert "schedule.learning_rate is 1e-05 there and 0.5 here" in message
    assert "multigrid.short_cycle is True there and False here" in message
    assert before == sorted((p, p.stat().st_mtime_ns) for p in copy.rglob("*"))


def test_more_views_than_memory_holds_are_refused_before_training(config, tmp_path):
    config.eval.clips = 1_000_000_000
    for work in (train, evaluate_checkpoint):
        message = refused(work, config, tmp_path / "run")
        assert "the views of a video take 24,576,000 MB, eval.clips=1000000000" in message
    assert not (tmp_path / "run").exists()


def test_what_only_concerns_running_and_evaluating_may_change(flags, copy):
    shutil.rmtree(runs.newest_checkpoint(copy))
    changes = ["--config.run.keep=2", "--config.run.log_every=7", "--config.eval.crops=3"]
    output = runs.run(copy, *flags, *changes)
    assert "continuing" in output
    assert len(kept_steps(copy) - {best_step(copy)}) <= 2 <= len(kept_steps(copy))


def test_a_finished_run_is_left_alone(undisturbed, flags, copy):
    output = runs.run(copy, *flags)
    assert f"{copy} is finished" in output
    assert runs.log(copy) == runs.log(undisturbed[0])


def test_nothing_is_written_where_there_is_nothing_to_evaluate(config, tmp_path):
    message = refused(evaluate_checkpoint, config, tmp_path / "none")
    assert "none is not there; train there first: main.py --config=CONFIG --workdir=" in message
    assert not (tmp_path / "none").exists()


def test_checkpoints_of_which_none_can_be_read_are_kept_and_named(config, copy):
    steps = sorted(path.name for path in (copy / "checkpoints").glob("[0-9]*"))
    for path in (copy / "checkpoints").rglob("*"):
        if path.is_file():
            path.write_bytes(b"")
    message = refused(train, config, copy)
    count = len(steps)
    assert f"none of the {count} checkpoints in {copy}/checkpoints can be read" in message
    assert "; put them back from a copy" in message
    assert steps == sorted(path.name for path in (copy / "checkpoints").glob("[0-9]*"))


def test_a_checkpoint_that_was_never_finished_is_none(config, tmp_path):
    (tmp_path / "cut" / "checkpoints" / "5.orbax-checkpoint-tmp-17").mkdir(parents=True)
    message = refused(evaluate_checkpoint, config, tmp_path / "cut")
    assert "cut holds no checkpoint; train there first" in message


def test_slowfast_trains_and_evaluates_as_well_and_leaves_a_trace(flags, tmp_path):
    settings = [
        "--config.model.name=slowfast",
        "--config.model.fast_stage_frames=((3,),(3,))",
        "--config.schedule.steps=(1,)",
        "--config.schedule.iterations=3",
        "--config.schedule.warmup_iterations=0",
        "--config.eval.times=1",
        "--config.run.profile_steps=(1,3)",
    ]
    output = runs.run(tmp_path, *flags, *settings, config="tests/tiny.py:baseline")
    assert f"trace of iterations 1 to 2 in {tmp_path}/profile" in output
    (trace,) = (tmp_path / "profile").rglob("*.trace.json.gz")
    events = json.loads(gzip.decompress(trace.read_bytes()))["traceEvents"]
    numbers = [event.get("args", {}).get("step_num") for event in events]
    assert sorted(filter(None, numbers)) == ["1", "2"]
    assert "3 iterations, top-1" in output.splitlines()[-1]
    assert all(np.isfinite(list(runs.losses(tmp_path).values())))
    assert all(np.all(np.isfinite(array)) for array in runs.final_arrays(tmp_path))


def test_a_run_that_diverges_stops_and_keeps_the_last_good_checkpoint(flags, tmp_path):
    workdir = tmp_path / "diverged"
    changes = [
        "--config.schedule.learning_rate=1e39",  # more than float32 holds, after a healthy warm-up
        "--config.eval.times=1",
        "--config.run.checkpoint_every=1",
    ]
    output = runs.run(workdir, *flags, *changes, expect=1)
    assert "error: diverged: parameters or statistics are not finite after" in output
    assert f"; see {workdir}/log.jsonl; a smaller --config.schedule.learning_rate" in output
    assert re.search(r"on (grid )?\d+ x \d x \d+\^2", output)
    for array in runs.final_arrays(workdir):
        assert np.all(np.isfinite(array))
