"""Programs are compiled before they are needed, and when makes no difference to a run."""

import re
import threading

import jax
import numpy as np
import pytest

from mg_jax.runtime import parallel
from mg_jax.runtime.stops import Stops
from mg_jax.training.compile_ahead import when_to_compile
from mg_jax.training.loop import _iterate
from mg_jax.training.run_log import open_log
from mg_jax.training.session import open_session
from mg_jax.training.upcoming import upcoming_programs
from mg_jax.workdir.trained_on import stretch_of
from tests import runs


@pytest.fixture
def config(config):
    config.run.compile_ahead = "background"
    return config


def test_with_time_to_compile_ahead_training_never_waits_nor_compiles(
    config, tmp_path, monkeypatch
):
    one_device = jax.sharding.Mesh(jax.devices()[:1], (parallel.AXIS,))
    monkeypatch.setattr(parallel, "make_mesh", lambda: one_device)
    session, state = open_session(config, tmp_path, Stops(), trains=True)
    videos = session.data.train.videos, session.data.evaluation.videos
    session.trained_on = session.trained_on.continued(stretch_of(config, *videos))
    programs, threads = upcoming_programs(session, 0), []

    def listen(event, duration, **_):
        if "compile" in event or "trace" in event:
            threads.append(threading.current_thread().name)

    jax.monitoring.register_event_duration_secs_listener(listen)
    log = open_log(tmp_path, 0, session.schedule.iterations, False, ["jsonl"])
    try:
        for program in programs:
            session.executables.get(program)
        assert {name.split("_")[0] for name in threads} <= {"lowering", "compiling"}
        assert threads or session.executables.found == len(programs)
        threads.clear()
        _iterate(session, state, log)
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
        log.close()
        session.close()
    assert threads == []
    assert session.executables.compiled == programs


def test_programs_are_asked_for_in_the_order_in_which_the_run_needs_them(config, tmp_path):
    session, _ = open_session(config, tmp_path, Stops(), trains=True)
    programs = upcoming_programs(session, 0)
    # As after a checkpoint of step 9 that was not evaluated.
    resumed = upcoming_programs(session, 9)
    session.close()
    # Two cycles over the grids of three stages; an evaluation ends each of the first two phases.
    kinds = [program.kind for program in programs]
    assert kinds == ["train"] * 2 + ["statistics", "views"] + ["train"] * 2 + [
        "statistics",
        "views",
    ]
    # An evaluation that was cut off comes before the iterations that follow it.
    assert [program.kind for program in resumed][:3] == ["statistics", "views", "train"]
    assert resumed[0] == programs[2]


def test_accelerators_train_with_all_programs_compiled_and_cpus_while_they_are():
    assert [when_to_compile("auto", platform) for platform in ("cpu", "gpu", "tpu")] == [
        "background",
        "first",
        "first",
    ]
    assert when_to_compile("off", "gpu") == "off"


def test_with_all_programs_compiled_first_a_run_ends_with_the_same_bits(
    undisturbed, flags, tmp_path
):
    output = runs.run(tmp_path / "run", *flags, "--config.run.compile_ahead=first")
    before, after = output.split("programs are ready")
    assert "compiling" not in after
    assert "programs to go: " in before
    assert not re.search(r"^train ", before, re.MULTILINE)
    # Those were compiled when their turn came.
    assert undisturbed[1].rindex("compiling") > undisturbed[1].index("\ntrain ")
    assert runs.losses(tmp_path / "run") == runs.losses(undisturbed[0])
    pairs = zip(*(map(runs.final_arrays, (tmp_path / "run", undisturbed[0]))), strict=True)
    assert all(np.array_equal(ours, theirs) for ours, theirs in pairs)
