"""The same training step in plain PyTorch, to time ours against, turn by turn.

It runs in a process of its own: both would load their cuDNN otherwise, and either one's idle
threads would take the other's cores.
"""

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from configs.base import get_base
from mg_jax.errors import UserError
from mg_jax.grid import Grid
from mg_jax.training.state import state_shapes
from mg_jax.weights.layout import to_tensors
from mg_jax.workdir.config import settings

_TURNS = 3
_MODELS = ("slowfast", "i3d")
# Settings of the model that PyTorch's network has in their default alone.
_PLAIN = (
    "fusion_norm",
    "slow_frames",
    "stem_stride",
    "pool_frames",
    "pad_stem_pool",
    "drop_path",
    "non_local.instantiation",
    "non_local.pool",
    "non_local.pool_first",
)


class TorchPeer:
    """A process that trains the config's network in PyTorch.

    With channels last, autocast for bfloat16, compiled on GPUs, and on CPUs with as many threads as
    XLA has. Batch norm takes the statistics of the whole batch, which costs less than sub-batches.
    """

    def __init__(self, config):
        """Starts the process.

        Args:
          config: of a run.

        Raises:
          UserError: where PyTorch is not installed, with the line that installs it, and for models
            or optimizers that it does not have.
        """
        _check_known(config.model)
        if config.optimizer.name != "sgd":
            raise UserError(f"--peer=torch knows SGD, not optimizer.name={config.optimizer.name}")
        if importlib.util.find_spec("torch") is None:
            on_gpu = jax.default_backend() == "gpu"
            index = "" if on_gpu else " --index-url https://download.pytorch.org/whl/cpu"
            raise UserError(
                "--peer=torch needs PyTorch, which is not installed; install it with\n"
                f"{sys.executable} -m pip install torch{index}"
            )
        self._config = config
        self._process = subprocess.Popen(
            [sys.executable, "-m", "mg_jax.bench.torch_worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def measure(
        self, grid: Grid, ours: Callable[[int], np.ndarray], iterations: int
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Seconds of iterations on a grid, ours and theirs, taken in turns.

        Args:
          grid: to train on.
          ours: trains for a number of iterations and returns the seconds of each.
          iterations: of each, in all.

        Returns:
          Seconds of our iterations, and a row about PyTorch's.
        """
        self._ask({"make": self._order(grid)})
        each, mine, theirs = -(-iterations // _TURNS), [], []
        for _ in range(_TURNS):
            mine.extend(ours(each))
            answer = self._ask({"run": each})
            theirs.extend(answer.pop("seconds"))
        row = {
            "iteration_s": float(np.median(theirs)),
            "iteration_s_p10": float(np.percentile(theirs, 10)),
            "iteration_s_p90": float(np.percentile(theirs, 90)),
            "clips_per_s": grid.batch / float(np.median(theirs)),
            **answer,
        }
        return np.array(mine), row

    def close(self) -> None:
        """Ends the process."""
        self._process.stdin.close()
        self._process.wait()

    def _ask(self, order: dict[str, Any]) -> dict[str, Any]:
        try:
            self._process.stdin.write(json.dumps(order) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            status = self._process.wait()
            raise UserError(f"PyTorch's process ended with status {status}; it says above why")
        return json.loads(line)

    def _order(self, grid: Grid) -> dict[str, Any]:
        config, shapes = self._config, state_shapes(self._config)
        variables = {"params": shapes.params, "batch_stats": shapes.batch_stats}
        # Zeros that take no memory, for their shapes.
        zeros = jax.tree.map(lambda x: np.broadcast_to(np.float32(0), x.shape), variables)
        tensors = {name: value.shape for name, value in to_tensors(zeros).items()}
        optimizer = config.optimizer
        return {
            "tensors": tensors,
            "batch": grid.batch,
            "frames": grid.frames,
            "size": grid.size,
            "classes": config.model.num_classes,
            "multi_label": config.data.multi_label,
            "alpha": config.model.alpha,
            "dropout": config.model.dropout,
            "dtype": config.model.dtype,
            "momentum": optimizer.momentum,
            "nesterov": optimizer.nesterov,
            "weight_decay": optimizer.weight_decay,
            "threads": len(os.sched_getaffinity(0)),  # XLA's number
        }


def _check_known(model) -> None:
    """Checks that the model is one that is restated in PyTorch."""
    if model.name not in _MODELS:
        known = " and ".join(_MODELS)
        raise UserError(f"--peer=torch knows the models {known}, not model.name={model.name}")
    plain = settings(get_base().model)
    for name, value in settings(model).items():
        if name in _PLAIN and value != plain[name]:
            raise UserError(f"--peer=torch knows model.{name}={plain[name]} alone, not {value}")


def format_peer(row: dict[str, Any]) -> str:
    """A line about PyTorch's iteration on a grid, under ours."""
    peer = row["peer"]
    how = "compiled" if peer["compiled"] else "not compiled"
    spread = f"{1e3 * peer['iteration_s_p10']:.1f} - {1e3 * peer['iteration_s_p90']:.1f}"
    name = f"  PyTorch {peer['torch']}"
    memory = peer["allocated_bytes"]
    held = f", {memory / 1e9:.2f} GB" if memory else ""
    return (
        f"{name:<29} {1e3 * peer['iteration_s']:>8.1f} {spread:>15} {'':>8} "
        f"{peer['clips_per_s']:>8.1f}  {how}{held}; takes {row['of_ours']:.2f}x our time"
    )
