"""Metrics of training: read one iteration late, checked, averaged and logged."""

import collections
import math
import time

import jax
import numpy as np

from mg_jax.grid import Grid
from mg_jax.input.pipeline import DeviceBatches
from mg_jax.runtime import memory
from mg_jax.runtime.executables import Executables
from mg_jax.runtime.memory import DEVICE_AHEAD
from mg_jax.training.run_log import RunLog
from mg_jax.workdir.diverged import Diverged

# Share of the time that devices wait for input; more of it is worth a word.
_MUCH_WAITING = 0.1
# Consecutive log lines before a warning.
_LINES = 3


class Meter:
    """Reads metrics one iteration late, so that the devices never wait for the host.

    `add` and `drain` raise Diverged if the loss, a parameter or a statistic is not finite.
    """

    def __init__(self, log: RunLog, every: int, batches: DeviceBatches, executables: Executables):
        """Starts a window.

        Args:
          log: to write to.
          every: log every so many iterations.
          batches: counts the seconds of waiting for input.
          executables: counts the seconds of waiting for the compiler.
        """
        self._log = log
        self._every = every
        self._pending = collections.deque()
        self._window: list[dict[str, float]] = []
        self._by_grid: dict[Grid, list[float]] = collections.defaultdict(list)
        # Of the last iterations: each waits for the batch of a later one.
        self._waits = collections.deque()
        self._batches = batches
        self._executables = executables
        self._waited = 0  # lines one after the other that tell of much waiting
        self.restart()

    def restart(self) -> None:
        """Starts a new window of throughput, after a pause in training."""
        self._start = time.perf_counter()
        self._wait_s = self._seen_s = self._batches.wait_s
        self._stall_s = self._executables.stall_s
        self._clips = 0

    def add(self, step: int, grid: Grid, rate: float, metrics: dict[str, jax.Array]) -> None:
        """Takes the metrics of iteration `step`, still being computed; reads the previous ones.

        Args:
          step: index of the iteration.
          grid: that it trains on.
          rate: its learning rate.
          metrics: scalars on the devices; `loss` and `finite` are among them.
        """
        self._waits.append(self._batches.wait_s - self._seen_s)
        self._seen_s = self._batches.wait_s
        waited_s = self._waits.popleft() if len(self._waits) > DEVICE_AHEAD else 0.0
        self._pending.append((step, grid, rate, metrics, waited_s))
        while len(self._pending) > 1:
            self._read(*self._pending.popleft())

    def drain(self) -> None:
        """Reads and logs everything left; the devices are idle afterwards."""
        while self._pending:
            step, grid, rate, *_ = last = self._pending.popleft()
            self._read(*last)
        if self._window:
            self._write(step, grid, rate)

    def _read(self, step, grid, rate, metrics, waited_s) -> None:
        metrics = {name: float(value) for name, value in metrics.items()}
        finite = metrics.pop("finite")
        if not math.isfinite(metrics["loss"]):
            raise Diverged(
                step + 1,
                f"the loss is {metrics['loss']} at step {step} on grid {grid}, learning rate "
                f"{rate}",
            )
        if not finite:
            raise Diverged(
                step + 1,
                f"parameters or statistics are not finite after {step + 1} iterations, the last on "
                f"{grid}, learning rate {rate}",
            )
        self._window.append(metrics)
        self._by_grid[grid].append(waited_s)
        self._clips += grid.batch
        self._log.advance(step + 1)
        if (step + 1) % self._every == 0:
            self._write(step, grid, rate)

    def _write(self, step, grid, rate) -> None:
        """Logs the means of the window, at every checkpoint too, so that none spans a restart.

        Throughput leaves out the wait for the compiler.
        """
        stall_s = self._executables.stall_s - self._stall_s
        seconds = time.perf_counter() - self._start - stall_s
        names = self._window[0]
        scalars = {
            **{name: float(np.mean([row[name] for row in self._window])) for name in names},
            "learning_rate": float(rate),
            "clips": grid.batch,
            "frames": grid.frames,
            "size": grid.size,
            "clips_per_s": self._clips / seconds,
            "input_wait_share": (self._batches.wait_s - self._wait_s) / seconds,
            **memory.in_use_gb(),
        }
        self._log.scalars(step + 1, scalars)
        self._say_once(seconds / len(self._window))
        self._window.clear()
        self._by_grid.clear()
        self.restart()

    def _say_once(self, iteration_s: float) -> None:
        """Says on which grids the input limits the run, when it does for a while.

        Args:
          iteration_s: mean seconds of an iteration; by Eq. 1 those on all grids take about as long.
        """
        if self._waited == _LINES:
            return
        shares = {grid: np.mean(waits) / iteration_s for grid, waits in self._by_grid.items()}
        starving = [
            f"on {grid} the devices wait {share:.0%} of the time (they get "
            f"{grid.batch / iteration_s:,.0f} clips/s and could take "
            f"{grid.batch / iteration_s / max(1 - share, 0.01):,.0f})"
            for grid, share in shares.items()
            if share > _MUCH_WAITING
        ]
        self._waited = self._waited + 1 if starving else 0
        if self._waited == _LINES:
            self._log.say(
                f"the input limits training: {', '.join(starving)}. More cores for readers would "
                "help; python -m mg_jax.bench --what=input says how many"
            )
