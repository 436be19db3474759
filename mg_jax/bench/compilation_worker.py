"""Compiles the programs of a config one by one, with the modules of the checkout it is started in.

    python FILE CONFIG

CONFIG is a pickled config. Each line of the input is a JSON object that asks for something, and so
is each answer: {"list": true} for the distinct programs of the config's schedules, {"compile":
{...}} for what compiling one costs, cold, {"run": N} for N iterations of the one compiled last.

It is run by another checkout's benchmark too, so it uses little of mg_jax, and nothing of its own.
"""

import dataclasses
import json
import pickle
import re
import sys
import time
from typing import Any

import jax
import numpy as np
from jax.experimental import serialize_executable

from mg_jax.bench.step import random_batch
from mg_jax.input.sampling import all_views, centre_view
from mg_jax.machine import environment
from mg_jax.recipe import schedules_of
from mg_jax.runtime import parallel
from mg_jax.runtime.executables import Program
from mg_jax.training import programs
from mg_jax.training.state import create_state

# Instructions of a compiled program that launch nothing.
_FREE = {"parameter", "constant", "tuple", "get-tuple-element", "bitcast", "iota"}


class Worker:
    """The programs of a config, and the one compiled last."""

    def __init__(self, config):
        """Compiles and draws the initial state."""
        self._config = config
        self._mesh = parallel.make_mesh()
        self._state = create_state(config, self._mesh)
        self._shapes = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), jax.block_until_ready(self._state)
        )
        self._step, self._batch = None, None

    def answer(self, order: dict[str, Any]) -> Any:
        """What one line asks for."""
        if "list" in order:
            return self._list()
        if "compile" in order:
            return self._compile(Program(**order["compile"]))
        return self._run(order["run"])

    def _list(self) -> list[dict[str, Any]]:
        found = []
        for schedule in schedules_of(self._config).values():
            found += map(programs.train_program, schedule.grids_from(0))
            found += [programs.statistics_program(phase.grids[-1]) for phase in schedule.phases]
        views = (centre_view, all_views)
        found += [programs.views_program(self._config, v(self._config), self._mesh) for v in views]
        return [dataclasses.asdict(program) for program in dict.fromkeys(found)]

    def _compile(self, program: Program) -> dict[str, float]:
        jax.clear_caches()
        start, began = time.process_time(), time.perf_counter()
        lowered = programs.lower_program(self._config, self._mesh, self._shapes, program)
        lowered_at = time.process_time()
        compiled = lowered.compile(compiler_options=_options(self._config, self._mesh))
        cost = {
            "lower_cpu_s": lowered_at - start,
            "compile_cpu_s": time.process_time() - lowered_at,
            "seconds": time.perf_counter() - began,
            "load_cpu_s": self._load_cpu_s(compiled),
            "lines": len(lowered.as_text().splitlines()),
            "kernels": _kernels(compiled.as_text()),
        }
        if program.kind == "train":
            self._step, self._batch = compiled, random_batch(self._config, self._mesh, program)
        return cost

    def _load_cpu_s(self, compiled: jax.stages.Compiled) -> float:
        """What it costs to make the program again from what `kept_programs` packs and writes."""
        parts = serialize_executable.serialize(compiled)
        start = time.process_time()
        devices = list(self._mesh.devices.flat)
        serialize_executable.deserialize_and_load(*parts, execution_devices=devices)
        return time.process_time() - start

    def _run(self, iterations: int) -> dict[str, float]:
        arguments = _arguments(self._config, self._mesh)
        jax.block_until_ready((self._state, self._batch))
        start, began = time.process_time(), time.perf_counter()
        for _ in range(iterations):
            self._state, _ = self._step(self._state, self._batch, arguments)
        jax.block_until_ready(self._state)
        seconds = time.process_time() - start, time.perf_counter() - began
        return dict(zip(("cpu_s", "seconds"), (s / iterations for s in seconds), strict=True))


def _arguments(config, mesh) -> Any:
    try:
        from mg_jax.training.arguments import step_arguments
    except ImportError:  # of an older checkout
        return parallel.replicate(np.float32(0), mesh)
    return step_arguments(config, 0.0, mesh)


def _options(config, mesh) -> dict[str, Any] | None:
    try:
        from mg_jax.runtime import xla_options
    except ImportError:  # of an older checkout
        return None
    deterministic = config.run.deterministic
    return xla_options.for_run(parallel.platform(mesh), deterministic=deterministic) or None


def _kernels(text: str) -> int:
    """Instructions of a compiled program's entry that launch something."""
    entry = text[text.index("\nENTRY") :]
    return sum(op not in _FREE for op in re.findall(r"^ +\S+ = .*? ([a-z][\w-]*)\(", entry, re.M))


def main(path: str) -> None:
    """Answers until the input ends."""
    with open(path, "rb") as file:
        worker = Worker(pickle.load(file))
    print(json.dumps("ready"), flush=True)
    for line in sys.stdin:
        print(json.dumps(worker.answer(json.loads(line))), flush=True)


if __name__ == "__main__":
    environment.set_defaults()
    main(*sys.argv[1:])
