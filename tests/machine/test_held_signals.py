"""Signals that are held back while a library must not be interrupted."""

import signal

import pytest

from mg_jax.machine.held_signals import held_signals


class Terminated(BaseException):
    """What the handler of SIGTERM raises here."""


@pytest.fixture
def sigterm_raises():
    def handler(number, frame):
        raise Terminated

    previous = signal.signal(signal.SIGTERM, handler)
    yield handler
    signal.signal(signal.SIGTERM, previous)


def test_a_signal_waits_until_it_is_asked_for(sigterm_raises):
    with held_signals() as deliver:
        deliver()
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(Terminated):
            deliver()
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            deliver()
        deliver()
    assert signal.getsignal(signal.SIGTERM) is sigterm_raises
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_signal_that_nobody_asked_for_is_handled_at_the_end(sigterm_raises):
    reached = False
    with pytest.raises(Terminated), held_signals():
        signal.raise_signal(signal.SIGTERM)
        reached = True
    assert reached
    assert signal.getsignal(signal.SIGTERM) is sigterm_raises
