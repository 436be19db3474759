"""What the meter says of input that limits a run."""

import time
import types

import numpy as np

from mg_jax.grid import BaseGrid, Shape
from mg_jax.training.meter import Meter

GRID = BaseGrid(8, 16, 32, 8, 2, (36.0, 48.0)).at(Shape(1, 1), 1)


class Log:
    """Keeps what it is told."""

    def __init__(self):
        self.said, self.shares = [], []

    def say(self, text):
        self.said.append(text)

    def scalars(self, step, values):
        self.shares.append(values["input_wait_share"])

    def advance(self, step):
        pass


def sentences(waits, grids=(GRID,), every=1):
    """What is said in a run that waits for so large a share of each iteration, grids in turn."""
    log, batches = Log(), types.SimpleNamespace(wait_s=0.0)
    meter = Meter(log, every, batches, types.SimpleNamespace(stall_s=0.0))
    for step, share in enumerate(waits):
        start = time.perf_counter()
        time.sleep(0.01)
        batches.wait_s += share * (time.perf_counter() - start)
        grid = grids[step % len(grids)]
        meter.add(step, grid, 0.1, {"loss": np.float32(1), "finite": True})
        if every == 1:
            meter.drain()
    meter.drain()
    assert len(log.shares) == -(-len(waits) // every)
    return log.said


def test_a_run_that_its_input_limits_says_so_once_and_by_how_much():
    (text,) = sentences([0.0, 0.6, 0.6, 0.6, 0.6, 0.0, 0.6, 0.6, 0.6])
    assert str(GRID) in text
    assert "the input limits training" in text
    assert "--what=input" in text


def test_waiting_now_and_then_is_not_worth_a_word():
    assert sentences([0.6, 0.6, 0.0] * 4) == []


def test_only_the_grids_are_named_whose_batches_the_devices_wait_for():
    base = BaseGrid(8, 16, 32, 8, 2, (36.0, 48.0))
    grids = [base.at(Shape(1, 4), 1), base.at(Shape(1, 2), 1), base.at(Shape(1, 1), 1)]
    # Batches are two iterations ahead: while the second trains, that of the first is waited for.
    (text,) = sentences([0.0, 0.25, 0.0] * 9, grids, every=6)
    assert str(grids[0]) in text
    assert not any(str(grid) in text for grid in grids[1:])
