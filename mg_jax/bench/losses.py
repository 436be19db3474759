"""Losses of a schedule's iterations on this machine's devices, beside another process's.

    python -m mg_jax.bench.losses CONFIG.json ITERATIONS RESULT.json

is that other process: on the CPU, or on the same devices once more. Clips are made for it: their
colour tells the class. Float32 is multiplied as such, so that what differs is the order of sums,
and errors. Needs neither TensorFlow nor data.
"""

import hashlib
import itertools
import json
import os
import pathlib
import subprocess
import sys
from concurrent import futures
from typing import Any

import jax
import numpy as np

from mg_jax.errors import UserError
from mg_jax.grid import Grid
from mg_jax.input.prepared import with_classes
from mg_jax.machine.atomic_file import write_json
from mg_jax.machine.cores import usable_cores
from mg_jax.machine.progress import shown
from mg_jax.recipe import check_devices, schedule_from_config
from mg_jax.runtime import parallel
from mg_jax.runtime.state import TrainState
from mg_jax.training.arguments import step_arguments
from mg_jax.training.programs import compile_lowered, lower_program, train_program
from mg_jax.training.state import create_state
from mg_jax.workdir.config import stored_config

# Compilations beside each other: on a GPU each takes memory to time kernels.
_COMPILERS = 4
_DRAWN_LABELS = 0.25

# What the other process's environment has: which devices, and that it compiles for itself.
_BESIDE = {
    "cpu": {"JAX_PLATFORMS": "cpu"},
    "again": {"JAX_ENABLE_COMPILATION_CACHE": "false"},
}


def measure(config, workdir: pathlib.Path, iterations: int, beside: str) -> dict[str, Any]:
    """Trains on the devices and, meanwhile, in another process; prints how the losses differ.

    Args:
      config: of a run.
      workdir: keeps the other process's half.
      iterations: from the schedule's start.
      beside: cpu, or again for the same devices.

    Raises:
      UserError: if the other process fails.
    """
    config = with_classes(config)
    given, theirs = workdir / "losses_config.json", workdir / f"losses_{beside}.json"
    write_json(given, json.loads(config.to_json()))
    theirs.unlink(missing_ok=True)
    command = [sys.executable, "-m", "mg_jax.bench.losses", given, str(iterations), theirs]
    with subprocess.Popen(command, env={**os.environ, **_BESIDE[beside]}) as child:
        try:
            found = train(config, iterations)
            status = child.wait()
        except BaseException:
            child.kill()
            raise
    if status:
        raise UserError(f"the other process ended with status {status}; it says above why")
    result = _compare(found, json.loads(theirs.read_text()), beside)
    print(format_line(result))
    return result


def _compare(ours: dict[str, Any], theirs: dict[str, Any], beside: str) -> dict[str, Any]:
    rows = zip(ours["losses"], theirs["losses"], strict=True)
    rows = [{**row, "beside": other["loss"]} for row, other in rows]
    pairs = [(row["loss"], row["beside"]) for row in rows]
    apart = [abs(a - b) for a, b in pairs]
    grids = [row["grid"] for row in rows]
    return {
        "jax": jax.__version__,
        "device": jax.devices()[0].device_kind,
        "beside": beside,
        "iterations": len(rows),
        "grids": len(set(grids)),
        "changes": sum(a != b for a, b in itertools.pairwise(grids)),
        "first_apart": apart[0],
        "most_apart": max(apart),
        "same_bits": ours["state_sha256"] == theirs["state_sha256"],
        "loss_first": pairs[0],
        "loss_last": tuple(np.mean(pairs[-20:], 0).tolist()),
        "losses": rows,
    }


def format_line(result: dict[str, Any]) -> str:
    """What was trained, and how the losses differ."""
    return (
        f"{result['iterations']} iterations on {result['grids']} grids, {result['changes']} "
        f"changes of grid: loss {format_losses(result)}; apart by {format_apart(result)}"
    )


def format_losses(result: dict[str, Any]) -> str:
    """The first loss and the mean of the last twenty, and that of the other process."""
    (first, _), (last, other) = result["loss_first"], result["loss_last"]
    where = {"cpu": "on the CPU", "again": "once more"}[result["beside"]]
    return f"{first:.4f} to {last:.4f}, {where} to {other:.4f}"


def format_apart(result: dict[str, Any]) -> str:
    """How far the losses are apart, and of the same devices whether the last states are."""
    bits = "the same" if result["same_bits"] else "other"
    states = f"; the last state has {bits} bits" if result["beside"] == "again" else ""
    return f"{result['first_apart']:.1e} at first, {result['most_apart']:.1e} at most{states}"


def train(config, iterations: int) -> dict[str, Any]:
    """Trains for the schedule's first iterations.

    Args:
      config: of a run.
      iterations: how many, or as many as the schedule has.

    Returns:
      `losses`, the grid and loss of each, and the `state_sha256` of what is trained at the end.
    """
    mesh, schedule = parallel.make_mesh(), schedule_from_config(config)
    check_devices(schedule, mesh.size)
    iterations = min(iterations, schedule.iterations)
    with jax.default_matmul_precision("highest"):
        state, losses = create_state(config, mesh), []

        def compiled(grid: Grid) -> jax.stages.Compiled:
            with jax.default_matmul_precision("highest"):  # is each thread's own
                lowered = lower_program(config, mesh, state, train_program(grid))
                return compile_lowered(config, mesh, lowered)

        grids = list(dict.fromkeys(map(schedule.grid, range(iterations))))
        with futures.ThreadPoolExecutor(min(_COMPILERS, usable_cores())) as pool:
            made = shown(pool.map(compiled, grids), "compiling", "program", len(grids))
            programs = dict(zip(grids, made, strict=True))
        for step in shown(range(iterations), "training", "it", iterations):
            grid = schedule.grid(step)
            batch = parallel.shard(_batch(config, grid, schedule.position(step)), mesh)
            arguments = step_arguments(config, schedule.learning_rate(step), mesh)
            state, metrics = programs[grid](state, batch, arguments)
            losses.append((str(grid), metrics["loss"]))
    return {
        "losses": [{"grid": grid, "loss": float(loss)} for grid, loss in losses],
        "state_sha256": _digest(state),
    }


def _digest(state: TrainState) -> str:
    digest = hashlib.sha256()
    for leaf in jax.tree.leaves(jax.device_get(state)):
        digest.update(np.ascontiguousarray(leaf).tobytes())
    return digest.hexdigest()


def _batch(config, grid: Grid, position: int) -> dict[str, np.ndarray]:
    """Clips whose channels are as bright as their class tells, under noise.

    A quarter of the labels are drawn, so that the loss does not end at zero.
    """
    rng = np.random.default_rng(position)
    B, T, H = grid.batch, grid.frames, grid.size
    label_B = (position + np.arange(B)) % config.model.num_classes
    bright_B3 = np.random.default_rng(0).integers(0, 128, (config.model.num_classes, 3))[label_B]
    clips = rng.integers(0, 128, (B, T, H, H, 3)) + bright_B3[:, None, None, None]
    drawn_B = rng.integers(0, config.model.num_classes, B)
    label_B = np.where(rng.random(B) < _DRAWN_LABELS, drawn_B, label_B)
    label = label_B.astype(np.int32)
    if config.data.multi_label:
        label = np.eye(config.model.num_classes, dtype=np.uint8)[label_B]
    return {
        "clips": clips.astype(np.uint8),
        "flip": rng.integers(0, 2, B).astype(bool),
        "label": label,
    }


if __name__ == "__main__":
    _, given, count, result = sys.argv
    write_json(pathlib.Path(result), train(stored_config(pathlib.Path(given)), int(count)))
