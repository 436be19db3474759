"""Signals that come while another one is handled."""

from tests import runs

BURST = """
import os, signal
from mg_jax.runtime.stops import Preempted, Stops

stops, receiver = Stops(), os.getpid()
with stops.listening():
    sender = os.fork()
    if not sender:
        for _ in range(100_000):
            os.kill(receiver, signal.SIGTERM)
        os._exit(0)
    while os.waitpid(sender, os.WNOHANG) == (0, 0):
        sum(range(100))
    try:
        stops.check()
    except Preempted:
        print("stops once")
"""


def test_any_number_of_signals_stops_a_run_once():
    output, _ = runs.launch("-c", BURST).communicate(timeout=120)
    assert output == "stops once\n"
