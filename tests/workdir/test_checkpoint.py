"""Which checkpoints a work directory keeps, and what an evaluation adds to one."""

import errno
import threading
import time

import jax
import numpy as np
import pytest

from mg_jax.runtime import parallel
from mg_jax.runtime.state import TrainState
from mg_jax.workdir import checkpoint
from mg_jax.workdir.checkpoint import Checkpoints, read_best
from mg_jax.workdir.config import WorkdirError, steps_in, write_config
from tests import tiny


@pytest.fixture
def workdir(tmp_path):
    write_config(tmp_path, tiny.get_config(), ["a", "b"])
    return tmp_path


def state_at(step):
    """A small state whose arrays tell its step."""
    arrays = {"w": np.full(3, step, np.float32)}
    state = TrainState(np.int32(step), arrays, {"mean": arrays["w"]}, {"trace": arrays["w"]})
    return parallel.replicate(state, parallel.make_mesh())


def write(workdir, scores, keep):
    """Saves a checkpoint at each step of `scores` and adds the evaluation, where there is one."""
    checkpoints = Checkpoints(workdir, keep, read_only=False)
    for step, top1 in scores.items():
        state = state_at(step)
        checkpoints.save(state, step, {"train_s": float(step)})
        if top1 is not None:
            precise = jax.tree.map(lambda x: x + 0.5, state.batch_stats)
            clocks = {"train_s": float(step), "eval_s": 7.0}
            checkpoints.add_evaluation(step, {"loss": 1.0, "top1": top1}, precise, clocks)
    checkpoints.close()


def test_without_a_checkpoint_nobody_asks_for_a_state(workdir):
    checkpoints = Checkpoints(workdir, keep=1, read_only=True)
    assert checkpoints.restore(None, parallel.make_mesh(), repair=False) is None
    checkpoints.close()


def test_a_save_needs_no_program_however_many_devices_hold_the_state(workdir):
    checkpoints = Checkpoints(workdir, keep=1, read_only=False)
    state = state_at(1)
    mesh = parallel.make_mesh()
    # Each of the eight devices could write a part of it.
    arrays = parallel.replicate({"w": np.arange(8 * 24, dtype=np.float32).reshape(8, 24)}, mesh)
    compiled = []

    def listen(event, _, **details):
        if event.endswith("backend_compile_duration"):
            compiled.append(details.get("fun_name"))

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        checkpoints.save(state.replace(params=arrays), 1, {"train_s": 1.0})
        checkpoints.add_evaluation(1, {"loss": 1.0, "top1": 0.5}, arrays, {"train_s": 1.0})
        checkpoints.close()
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
    assert compiled == []
    variables = read_best(workdir).variables
    for part in ("params", "batch_stats"):
        np.testing.assert_array_equal(variables[part]["w"], arrays["w"])


@pytest.mark.parametrize(
    ("scores", "keep", "kept"),
    [
        ({1: None, 2: None, 3: None, 4: None}, 2, {3, 4}),
        ({1: 0.9, 2: None, 3: 0.5, 4: None, 5: None}, 2, {1, 4, 5}),
        # The last is the best: the one that was goes once the score is known.
        ({1: 0.7, 2: None, 3: None, 4: 0.8}, 2, {3, 4}),
        ({1: 0.7, 2: 0.6, 3: 0.9}, 1, {3}),
        ({1: 0.7, 2: 0.6, 3: 0.7}, 1, {3}),  # of equal ones the last
    ],
)
def test_the_newest_and_the_best_are_kept_though_scores_come_after_the_save(
    workdir, scores, keep, kept
):
    write(workdir, scores, keep)
    assert steps_in(workdir / "checkpoints") == kept


def test_scores_of_an_earlier_session_count(workdir):
    write(workdir, {1: 0.9, 2: None}, 1)
    write(workdir, {3: None, 4: 0.5}, 1)
    assert steps_in(workdir / "checkpoints") == {1, 4}
    best = read_best(workdir)
    assert (best.step, best.evaluated) == (1, True)


def test_an_evaluated_checkpoint_holds_precise_statistics_and_the_clocks_of_then(workdir):
    write(workdir, {1: None, 2: 0.5}, 2)
    best = read_best(workdir)
    np.testing.assert_array_equal(best.variables["params"]["w"], np.full(3, 2))
    np.testing.assert_array_equal(best.variables["batch_stats"]["mean"], np.full(3, 2.5))
    checkpoints = Checkpoints(workdir, keep=2, read_only=True)
    assert [checkpoints.evaluated(step) for step in (1, 2)] == [False, True]
    state, clocks = checkpoints.restore(lambda: state_at(0), parallel.make_mesh(), repair=False)
    checkpoints.close()
    assert clocks == {"train_s": 2.0, "eval_s": 7.0}
    # Training goes on with the running statistics.
    np.testing.assert_array_equal(state.batch_stats["mean"], np.full(3, 2))


def test_an_evaluation_that_was_cut_off_leaves_the_checkpoint_as_it_was(workdir, monkeypatch):
    from mg_jax.workdir import checkpoint_record

    def killed(path, content):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint_record, "write_json", killed)
        with pytest.raises(KeyboardInterrupt):
            write(workdir, {1: 0.5}, 1)
    assert not read_best(workdir).evaluated
    checkpoints = Checkpoints(workdir, keep=1, read_only=False)
    assert not checkpoints.evaluated(1)
    state, _ = checkpoints.restore(lambda: state_at(0), parallel.make_mesh(), repair=True)
    precise = jax.tree.map(lambda x: x + 0.25, state.batch_stats)
    checkpoints.add_evaluation(1, {"loss": 1.0, "top1": 0.5}, precise, {})
    checkpoints.close()
    best = read_best(workdir)
    np.testing.assert_array_equal(best.variables["batch_stats"]["mean"], np.full(3, 1.25))
    assert (best.step, best.evaluated) == (1, True)


def test_nothing_half_written_stays_though_threads_write_on_after_an_error(workdir, monkeypatch):
    write(workdir, {1: None}, 2)
    checkpoints = Checkpoints(workdir, keep=2, read_only=False)
    part = workdir / "checkpoints" / "2.orbax-checkpoint-tmp" / "state"
    written = threading.Event()

    def write_on():
        for _ in range(4):  # each time that it is gone
            while part.exists():
                time.sleep(0.005)
            part.mkdir(parents=True)
            written.set()

    def fails(*args, **kwargs):
        thread.start()
        written.wait()
        raise OSError(errno.ENOSPC, "No space left on device")

    thread = threading.Thread(target=write_on)
    monkeypatch.setattr(checkpoints._manager, "save", fails)
    with pytest.raises(checkpoint.CheckpointError, match=r"No space left.*step 1 is the newest"):
        checkpoints.save(state_at(2), 2, {})
    thread.join()
    assert {path.name for path in (workdir / "checkpoints").iterdir()} == {"1"}
    checkpoints.close()


@pytest.mark.parametrize(
    "error", [OSError(errno.EMFILE, "Too many open files"), MemoryError("no memory")], ids=repr
)
def test_what_the_machine_cannot_read_is_neither_passed_over_nor_set_aside(
    workdir, monkeypatch, error
):
    write(workdir, {1: None, 2: None}, 2)

    def fails(*args):
        raise error

    checkpoints = Checkpoints(workdir, keep=2, read_only=False)
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "check_checksums", fails)
        for read in (
            lambda: checkpoints.restore(lambda: state_at(0), parallel.make_mesh(), repair=True),
            lambda: read_best(workdir),
        ):
            with pytest.raises(WorkdirError, match=rf"checkpoints/2 .*{error.args[-1]}"):
                read()
    checkpoints.close()
    assert steps_in(workdir / "checkpoints") == {1, 2}
    assert read_best(workdir).step == 2
