"""Programs are compiled before they are needed, and nothing is on the thread that trains."""

import threading

import jax
import pytest

from mg_jax.runtime import parallel
from mg_jax.runtime.stops import Stops
from mg_jax.training.log import open_log
from mg_jax.training.loop import _iterate, _programs_ahead
from mg_jax.training.run import open_run
from mg_jax.workdir.trained_on import stretch_of


@pytest.fixture
def config(config):
    config.run.compile_ahead = True
    return config


def test_with_time_to_compile_ahead_training_never_waits_nor_compiles(
    config, tmp_path, monkeypatch
):
    one_device = jax.sharding.Mesh(jax.devices()[:1], (parallel.AXIS,))
    monkeypatch.setattr(parallel, "make_mesh", lambda: one_device)
    run, state = open_run(config, tmp_path, Stops(), trains=True)
    videos = run.data.train.videos, run.data.evaluation.videos
    run.trained_on = run.trained_on.continued(stretch_of(config, *videos))
    ahead, threads = _programs_ahead(run, 0), []

    def listen(event, duration, **_):
        if "compile" in event or "trace" in event:
            threads.append(threading.current_thread().name)

    jax.monitoring.register_event_duration_secs_listener(listen)
    log = open_log(tmp_path, 0, run.schedule.iterations, evaluated=False)
    try:
        for program in ahead:
            run.executables.get(program)
        assert {name.split("_")[0] for name in threads} == {"compiler"}
        threads.clear()
        _iterate(run, state, log)
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
        log.close()
        run.close()
    assert threads == []
    assert run.executables.compiled == ahead


def test_programs_are_asked_for_in_the_order_in_which_the_run_needs_them(config, tmp_path):
    run, _ = open_run(config, tmp_path, Stops(), trains=True)
    ahead = _programs_ahead(run, 0)
    resumed = _programs_ahead(run, 9, evaluates=True)
    run.close()
    # Two cycles over the grids of three stages; an evaluation ends each of the first two phases.
    kinds = [program.kind for program in ahead]
    assert kinds == ["train"] * 2 + ["statistics", "views"] + ["train"] * 2 + [
        "statistics",
        "views",
    ]
    # An evaluation that was cut off comes before the iterations that follow it.
    assert [program.kind for program in resumed][:3] == ["statistics", "views", "train"]
    assert resumed[0] == ahead[2]
