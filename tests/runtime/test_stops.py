"""Signals that come while another one is handled."""

from tests import runs

BURST = """
import os, signal, threading
from mg_jax.runtime.stops import Preempted, Stops

def send():
    for _ in range(20_000):
        os.kill(os.getpid(), signal.SIGTERM)

stops = Stops()
with stops.listening():
    sender = threading.Thread(target=send)
    sender.start()
    while sender.is_alive():
        sum(range(100))
    try:
        stops.check()
    except Preempted:
        print("stops once")
"""


def test_any_number_of_signals_stops_a_run_once():
    output, _ = runs.launch("-c", BURST).communicate(timeout=120)
    assert output == "stops once\n"
