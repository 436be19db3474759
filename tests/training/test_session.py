"""A work directory that is opened is closed again, however opening or training ends."""

import psutil
import pytest

from mg_jax.runtime.executables import Executables
from mg_jax.runtime.stops import Stops
from mg_jax.training import loop, session
from mg_jax.workdir.checkpoint import Checkpoints
from mg_jax.workdir.lock import locked_workdir


class Stopped(Exception):
    pass


@pytest.fixture
def closed(monkeypatch):
    """The kinds of what was closed, in order."""
    kinds = []
    for kind in (Checkpoints, Executables):

        def close(self, kind=kind, closes=kind.close):
            kinds.append(kind)
            closes(self)

        monkeypatch.setattr(kind, "close", close)
    return kinds


class StopsAtLast(Stops):
    """Stops an opening at its last check."""

    def check_now(self):
        raise Stopped


def stop(*_, **__):
    raise Stopped


def test_an_opening_that_fails_late_leaves_nothing_open(config, tmp_path, closed):
    before = set(psutil.Process().children(recursive=True))
    with pytest.raises(Stopped) as stopped:
        session.open_session(config, tmp_path, StopsAtLast(), trains=True)
    assert closed == [Executables, Checkpoints]
    assert set(psutil.Process().children(recursive=True)) <= before
    with locked_workdir(tmp_path):  # nor is the lock held
        assert stopped.tb  # though what failed is still there


def test_a_run_that_fails_before_its_first_iteration_leaves_nothing_open(
    config, tmp_path, closed, monkeypatch
):
    monkeypatch.setattr(loop, "open_log", stop)
    with pytest.raises(Stopped) as stopped:
        loop.train(config, tmp_path, Stops())
    assert closed == [Executables, Checkpoints]
    with locked_workdir(tmp_path):
        assert stopped.tb
