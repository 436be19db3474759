"""Everything to measure on the day a GPU is at hand, in under eight minutes.

    python -m mg_jax.bench.gpu_check --workdir=DIR [--small] [--minutes=8] [--parts=NAME,NAME]

runs parts of `python -m mg_jax.bench` one after the other, each in a process of its own, so that
one that fails or takes all memory costs the others nothing; prints one table and writes
DIR/gpu_check.json. Needs neither the internet nor TensorFlow nor data. With --small the same parts
run at a size for two CPU cores, to try them out.
"""

import dataclasses
import importlib.util
import json
import os
import pathlib
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from absl import app, flags

from mg_jax.bench.losses import format_apart, format_losses
from mg_jax.grid import format_grid
from mg_jax.machine.atomic_file import write_json
from mg_jax.tools import command_line

_WORKDIR = flags.DEFINE_string("workdir", "work/gpu_check", "Keeps results and programs.")
_SMALL = flags.DEFINE_bool("small", False, "Small networks and clips, for a CPU.")
_MINUTES = flags.DEFINE_float(
    "minutes", 8, "A part that has not ended by then is stopped, later ones are left out."
)
_PARTS = flags.DEFINE_list("parts", None, "Only these parts; by default all.")

# Of what a part has printed, this many lines are shown and kept where it fails.
_LAST_LINES = 15

Row = tuple[str, str]  # what, and how much of it


@dataclasses.dataclass(frozen=True)
class Part:
    """One command of the benchmark.

    Attributes:
      name: of the part.
      arguments: of `python -m mg_jax.bench`; its result is what --what names.
      rows: lines of the table from the result.
    """

    name: str
    arguments: tuple[str, ...]
    rows: Callable[[dict[str, Any]], Iterator[Row]]


def parts(*, small: bool) -> list[Part]:
    """All parts, those first that matter most."""
    slowfast = _recipe("kinetics_slowfast", small, batch=32)
    i3d = _recipe("kinetics_i3d", small, batch=32)
    iterations = "--iterations=3" if small else "--iterations=20"
    peer = ("--peer=torch",) if importlib.util.find_spec("torch") else ()
    # Rate and warm-up are the demo's; the whole schedule in 200 iterations. Fewer grids, since each
    # is compiled twice.
    losses = ("--config=configs/demo.py", "--config.schedule.scale=0.1252")
    if small:
        losses += ("--config.multigrid.shapes=((1, 1),)", "--config.model.name=i3d")
        losses += ("--config.model.width=8", "--iterations=6")
    else:
        losses += ("--config.multigrid.shapes=((4, 2), (2, 1), (1, 1))", "--iterations=200")
    losses += ("--config.multigrid.short_shapes=2",)
    repeated = ("--beside=again", "--config.run.deterministic=True")
    return [
        Part("slowfast", ("--what=step", *slowfast, iterations, *peer), _step_rows),
        Part("i3d", ("--what=step", *i3d, iterations), _step_rows),
        Part("profile", ("--what=profile", *slowfast), _profile_rows),
        Part("losses", ("--what=losses", *losses), _losses_rows),
        Part("repeated", ("--what=losses", *losses, *repeated), _losses_rows),
        Part("kernels", ("--what=kernels", *slowfast, "--clips=8"), _kernels_rows),
    ]


def _recipe(name: str, small: bool, batch: int) -> tuple[str, ...]:
    """A recipe's base grid alone, in bfloat16."""
    config = (f"--config=configs/{name}.py:baseline", "--config.model.dtype=bfloat16")
    if not small:
        return (*config, f"--config.batch={batch}")
    less = ("batch=8", "size=32", "frames=8", "model.depth=14", "model.width=8", "sub_batch=4")
    return (*config, *(f"--config.{setting}" for setting in less))


def _step_rows(result: dict[str, Any]) -> Iterator[Row]:
    row = result["grids"][0]
    yield (
        f"{format_grid(row['grid'])}, {result['model']['dtype']}",
        f"{1e3 * row['iteration_s']:.1f} ms ({1e3 * row['iteration_s_p10']:.1f} - "
        f"{1e3 * row['iteration_s_p90']:.1f}), {row['clips_per_s']:.1f} clips/s",
    )
    held = row["allocator_peak_bytes"]
    by_allocator = f"{held / 1e9:.2f} GB by the allocator" if held else "the allocator does not say"
    yield "memory", f"{row['memory_bytes'] / 1e9:.2f} GB planned, {by_allocator}"
    yield "compilation", f"{row['lower_s'] + row['compile_s']:.0f} s"
    if "peer" in row:
        peer = row["peer"]
        yield (
            f"PyTorch {peer['torch']}" + (", compiled" if peer["compiled"] else ""),
            f"{1e3 * peer['iteration_s']:.1f} ms, {peer['clips_per_s']:.1f} clips/s: "
            f"{row['of_ours']:.2f} of our time",
        )
    else:
        yield "PyTorch", "not measured"


def _losses_rows(result: dict[str, Any]) -> Iterator[Row]:
    changes = f"{result['iterations']} iterations, {result['changes']} changes of grid"
    yield changes, f"loss {format_losses(result)}"
    yield "apart", format_apart(result)


def _profile_rows(result: dict[str, Any]) -> Iterator[Row]:
    total = result["measured_s"]
    yield (
        "all kernels",
        f"{1e3 * total:.2f} ms, at least {1e3 * result['at_least_s']:.2f} by count",
    )
    for row in result["kernels"][:5]:
        name = row["layer"] or row["name"]
        yield (
            f"{row['kind']}, {name}",
            f"{1e3 * row['measured_s']:.3f} ms, at least {1e3 * row['at_least_s']:.3f}",
        )


def _kernels_rows(result: dict[str, Any]) -> Iterator[Row]:
    faster = [row for row in result["blocks"] if row["of_ours"] < 0.9]
    for row in faster:
        yield row["block"], f"{row['form']} takes {row['of_ours']:.2f} of our form's time"
    if not faster:
        yield "all blocks", "no form takes less than 0.9 of ours"


def run(chosen: list[Part], workdir: pathlib.Path, seconds: float) -> dict[str, dict[str, Any]]:
    """Runs parts and prints what each says.

    Args:
      chosen: in this order.
      workdir: holds a folder for each part, and the programs that they compile.
      seconds: for all of them.

    Returns:
      By part its result, or `error`, and the seconds that it took.
    """
    end, found = time.monotonic() + seconds, {}
    environment = {"JAX_COMPILATION_CACHE_DIR": str(workdir / "programs"), **os.environ}
    for part in chosen:
        start = time.monotonic()
        folder = workdir / part.name
        what = part.arguments[0].removeprefix("--what=")
        path = folder / f"{what}.json"
        path.unlink(missing_ok=True)
        command = [sys.executable, "-m", "mg_jax.bench", *part.arguments, f"--workdir={folder}"]
        print(f"\n== {part.name}: {' '.join(command[1:])}", flush=True)
        error = _run(command, environment, end - start)
        result = {"error": error} if error else json.loads(path.read_text())
        found[part.name] = {**result, "took_s": time.monotonic() - start}
    return found


def _run(command: list[str], environment: dict[str, str], seconds: float) -> str:
    """What is wrong with a command after so many seconds at most; nothing if it went well."""
    if seconds <= 0:
        return "left out: no time was left"
    try:
        done = subprocess.run(
            command,
            env=environment,
            timeout=seconds,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
    except subprocess.TimeoutExpired:
        return f"stopped after {seconds:.0f} s: no time was left"
    if done.returncode:
        last = done.stdout.splitlines()[-_LAST_LINES:]
        return "\n".join([f"ended with status {done.returncode}", *last])
    print(done.stdout, end="", flush=True)
    return ""


def format_table(chosen: list[Part], found: dict[str, dict[str, Any]]) -> str:
    """A line for each thing that was measured, and for what went wrong."""
    lines = [f"{'part':<10} {'what':<44} measured"]
    for part in chosen:
        result = found[part.name]
        rows = [("", result["error"])] if "error" in result else list(part.rows(result))
        name = part.name
        for what, value in rows:
            lines.append(f"{name:<10} {what:<44} {value}")
            name = ""
    return "\n".join(lines)


def main(argv: list[str]) -> None:
    """Measures by the flags; the status is 1 where a part is missing."""
    if len(argv) > 1:
        sys.exit(f"error: unexpected arguments {argv[1:]}")
    every = {part.name: part for part in parts(small=_SMALL.value)}
    names = list(every) if _PARTS.value is None else _PARTS.value
    if unknown := set(names) - every.keys():
        sys.exit(f"error: --parts={','.join(sorted(unknown))}: there are {', '.join(every)}")
    workdir = pathlib.Path(_WORKDIR.value).expanduser()
    workdir.mkdir(parents=True, exist_ok=True)
    chosen = [every[name] for name in names]
    with command_line.signals_as_statuses():
        found = run(chosen, workdir, 60 * _MINUTES.value)
    path = workdir / "gpu_check.json"
    write_json(path, {"small": _SMALL.value, "parts": found})
    took = sum(result["took_s"] for result in found.values())
    print(f"\n{format_table(chosen, found)}\n\n{took / 60:.1f} minutes; see {path}")
    if any("error" in result for result in found.values()):
        sys.exit(1)


if __name__ == "__main__":
    app.run(main)
