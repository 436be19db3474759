"""Two results of `--what=program`, side by side, and a picture of one."""

import json
import pathlib
from typing import Any

from matplotlib.figure import Figure

from mg_jax.accelerators.hlo_kinds import KINDS
from mg_jax.bench.program import grid_name
from mg_jax.errors import UserError

_COLUMNS = (
    ("kernels", "kernels", 1),
    ("bytes_per_clip", "GB/clip", 1e9),
    ("at_least_s", "ms at least", 1e-3),
    ("memory_bytes", "memory GB", 1e9),
    ("temp_bytes", "temporary GB", 1e9),
)


def read_result(path: pathlib.Path) -> dict[str, Any]:
    """A result that `--what=program` has written.

    Raises:
      UserError: if it is none.
    """
    try:
        result = json.loads(path.read_text("utf-8"))
        if all("bytes_per_clip" in row and "kinds" in row for row in result["grids"]):
            return result
    except OSError as error:
        raise UserError(f"--against={path} cannot be read ({error.strerror})") from error
    except (ValueError, KeyError, TypeError):
        pass
    raise UserError(f"--against={path} is no program.json of --what=program")


def format_comparison(result: dict[str, Any], other: dict[str, Any]) -> str:
    """What changed from `other` to `result`: each grid of both, and the base grid's kinds."""
    lines = [
        f"against {other['gpus'] * other['hosts']} x {other['gpu']}, JAX {other['jax']}; "
        "by count, as above:",
        f"{'clips x frames x size^2 / bn':<29} "
        + " ".join(f"{title:>26}" for _, title, _ in _COLUMNS),
    ]
    before = {grid_name(row): row for row in other["grids"]}
    shared = [(row, before[grid_name(row)]) for row in result["grids"] if grid_name(row) in before]
    if not shared:
        return f"{lines[0]}\nno grid is in both"
    for row, old in shared:
        cells = (_change(old[key] / unit, row[key] / unit) for key, _, unit in _COLUMNS)
        lines.append(f"{grid_name(row)} " + " ".join(f"{cell:>26}" for cell in cells))
    row, old = shared[0]
    lines += ["", f"{grid_name(row)} {'kernels':>26} {'GB':>26}"]
    for kind in KINDS:
        new_kind, old_kind = (r["kinds"].get(kind, {"launches": 0, "bytes": 0}) for r in (row, old))
        if new_kind["launches"] or old_kind["launches"]:
            kernels = _change(old_kind["launches"], new_kind["launches"])
            moved = _change(old_kind["bytes"] / 1e9, new_kind["bytes"] / 1e9)
            lines.append(f"{kind:<29} {kernels:>26} {moved:>26}")
    return "\n".join(lines)


def _change(before: float, after: float) -> str:
    ratio = f" ({after / before:.3f}x)" if before else ""
    return f"{before:,.4g} to {after:,.4g}{ratio}"


def plot(result: dict[str, Any], workdir: pathlib.Path) -> pathlib.Path:
    """Draws the least time by kind of kernel and the memory, by grid; returns the PNG's path."""
    rows = result["grids"]
    names = [grid_name(row).strip().replace(" x ", "×").replace("^2", "²") for row in rows]
    figure = Figure(figsize=(11, 1.8 + 0.35 * len(rows)), layout="constrained")
    time_axes, memory_axes = figure.subplots(1, 2, sharey=True, width_ratios=(3, 1))
    left = [0.0] * len(rows)
    for place, kind in enumerate(KINDS):
        values = [1e3 * row["kinds"].get(kind, {"at_least_s": 0})["at_least_s"] for row in rows]
        time_axes.barh(range(len(rows)), values, left=left, color=f"C{place}", label=kind)
        left = [a + b for a, b in zip(left, values, strict=True)]
    time_axes.set_xlabel(f"ms per iteration on {result['gpu']}, at least, by count")
    time_axes.legend(fontsize="x-small", ncols=5, loc="lower left", bbox_to_anchor=(0, 1))
    memory = [row["memory_bytes"] / 1e9 for row in rows]
    bars = memory_axes.barh(range(len(rows)), memory, color="#4c78a8")
    memory_axes.bar_label(bars, fmt="%.3g", padding=3)
    memory_axes.margins(x=0.2)
    memory_axes.locator_params(axis="x", nbins=4)
    memory_axes.set_xlabel("GB on each device")
    time_axes.set_yticks(range(len(rows)), names)
    time_axes.invert_yaxis()
    for axes in (time_axes, memory_axes):
        axes.spines[["top", "right"]].set_visible(False)
    path = workdir / "program.png"
    figure.savefig(path, dpi=150)
    return path
