"""What compiling the programs of a config costs, against another checkout's in turns.

Each checkout's programs are compiled in a process of its own, without a cache on disk. Costs are
user + system CPU seconds, which other work on the machine disturbs less than the clock.
"""

import contextlib
import json
import os
import pathlib
import pickle
import statistics
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import jax

from mg_jax.bench import compilation_worker
from mg_jax.errors import UserError
from mg_jax.input.prepared import with_classes
from mg_jax.machine import environment
from mg_jax.machine.progress import say, shown
from mg_jax.runtime.executables import Program

_ROOT = pathlib.Path(__file__).parents[2]
_TURNS = 5


def measure(
    config, workdir: pathlib.Path, iterations: int, against: pathlib.Path | None
) -> dict[str, Any]:
    """Compiles every distinct program of the config's schedules and runs those that train.

    Args:
      config: of a run.
      workdir: keeps the config for the processes.
      iterations: of each program that trains.
      against: another checkout, whose programs take turns with these; or None.

    Raises:
      UserError: if there is no checkout.
    """
    if against is not None and not (against / "mg_jax").is_dir():
        raise UserError(f"--against={against} is no checkout: it has no folder mg_jax")
    path = (workdir / "config.pickle").resolve()
    path.write_bytes(pickle.dumps(with_classes(config)))
    with contextlib.ExitStack() as stack:
        workers = {"here": stack.enter_context(_worker(_ROOT, path))}
        if against is not None:
            workers["against"] = stack.enter_context(_worker(against.resolve(), path))
        programs = [Program(**fields) for fields in workers["here"].ask({"list": True})]
        print(_HEADER)
        rows = []
        for i, program in enumerate(shown(programs, "compiling", "program", len(programs))):
            # None is always the first.
            names = list(workers) if i % 2 else list(workers)[::-1]
            rows.append(_measure(program, {name: workers[name] for name in names}, iterations))
            say(_line(str(program), rows[-1]))
    totals = _totals(rows)
    print(_line(f"all {len(rows)}", totals))
    ratios = None if against is None else ratios_of(rows)
    if ratios is not None:
        print(_ratios_line(ratios))
    return {
        "jax": jax.__version__,
        "model": config.model.to_dict(),
        "against": None if against is None else str(against),
        "programs": rows,
        "totals": totals,
        "ratios": ratios,
    }


class _Worker:
    """A process that compiles with the modules of a checkout."""

    def __init__(self, process: subprocess.Popen):
        self._process = process
        self._read()

    def ask(self, order: dict[str, Any]) -> Any:
        """The answer to an order of `compilation_worker`."""
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return self._read()

    def _read(self) -> Any:
        line = self._process.stdout.readline()
        if not line:
            raise UserError("a process that compiles has ended; above it says why")
        return json.loads(line)


@contextlib.contextmanager
def _worker(checkout: pathlib.Path, config: pathlib.Path) -> Iterator[_Worker]:
    # What this process was told through the environment may be another checkout's own default.
    flags = os.environ.get("XLA_FLAGS", "").replace(environment.XLA_FLAG, "")
    process = subprocess.Popen(
        [sys.executable, compilation_worker.__file__, str(config)],
        cwd=checkout,
        env={**os.environ, "PYTHONPATH": str(checkout), "PYTHONSAFEPATH": "1", "XLA_FLAGS": flags},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield _Worker(process)
    finally:
        process.kill()
        process.communicate()


def _measure(program: Program, workers: dict[str, _Worker], iterations: int) -> dict[str, Any]:
    order = {"compile": vars(program)}
    row = {name: worker.ask(order) for name, worker in workers.items()}
    if program.kind == "train":
        turns = {name: [] for name in workers}
        for worker in workers.values():
            worker.ask({"run": 2})
        for _ in range(_TURNS):
            for name, worker in workers.items():
                turns[name].append(worker.ask({"run": -(-iterations // _TURNS)}))
        for name, answers in turns.items():
            for key in ("cpu_s", "seconds"):
                row[name][f"step_{key}"] = statistics.median(answer[key] for answer in answers)
    return {"program": str(program), **{name: row[name] for name in sorted(row, reverse=True)}}


def _totals(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Sums over all programs; step times are those of one iteration of each."""
    keys = rows[0]["here"] | next((r["here"] for r in rows if "step_cpu_s" in r["here"]), {})
    return {
        name: {key: sum(row[name].get(key, 0) for row in rows) for key in keys}
        for name in ("here", "against")
        if name in rows[0]
    }


def ratios_of(rows: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Each cost here relative to the other checkout's, which was measured right before or after.

    A program that other work disturbed moves the median less than the sums.

    Args:
      rows: of each program `here` and `against`, costs by the names of `compilation_worker`; those
        of iterations only where it trains.

    Returns:
      Of each cost the `median`, `smallest` and `largest` ratio among the programs.
    """
    ratios = {}
    for _, key, *_ in _COLUMNS:
        found = [row["here"][key] / row["against"][key] for row in rows if key in row["here"]]
        if found:
            ratios[key] = {
                "median": statistics.median(found),
                "smallest": min(found),
                "largest": max(found),
            }
    return ratios


_COLUMNS = (
    ("lower CPU s", "lower_cpu_s", "{:.1f}", 1),
    ("compile CPU s", "compile_cpu_s", "{:.1f}", 1),
    ("wall s", "seconds", "{:.1f}", 1),
    ("load CPU s", "load_cpu_s", "{:.2f}", 1),
    ("lines", "lines", "{:,.0f}", 1),
    ("kernels", "kernels", "{:,.0f}", 1),
    ("step CPU ms", "step_cpu_s", "{:.1f}", 1e3),
    ("step ms", "step_seconds", "{:.1f}", 1e3),
)
_HEADER = f"{'program':<44}" + "".join(f"{title:>24}" for title, *_ in _COLUMNS)


def _line(name: str, row: dict[str, Any]) -> str:
    cells = []
    for _, key, form, unit in _COLUMNS:
        if key not in row["here"]:
            cells.append("")
            continue
        new = row["here"][key]
        cell = form.format(unit * new)
        if "against" in row:
            old = row["against"][key]
            cell = f"{form.format(unit * old)} to {cell} ({new / old:.2f}x)"
        cells.append(cell)
    return f"{name:<44}" + "".join(f"{cell:>24}" for cell in cells)


def _ratios_line(ratios: dict[str, dict[str, float]]) -> str:
    cells = [
        "{median:.2f}x ({smallest:.2f} to {largest:.2f})".format(**ratios[key])
        if key in ratios
        else ""
        for _, key, *_ in _COLUMNS
    ]
    return f"{'median over programs':<44}" + "".join(f"{cell:>24}" for cell in cells)
