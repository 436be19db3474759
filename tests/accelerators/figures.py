"""What small models cost an H100, recorded, so that no change makes GPUs slower unseen.

    python -m tests.accelerators.figures

records the figures of the installed JAX anew, in `tests/golden/gpu_programs.json`; those of other
versions stay.
"""

import json
import pathlib
from collections.abc import Callable
from typing import Any

import jax
from jax.sharding import Mesh

from mg_jax.accelerators import topology
from mg_jax.accelerators.compilation import compile_program, schedule_programs
from mg_jax.accelerators.devices import find_accelerator
from mg_jax.accelerators.hlo_costs import ProgramCosts
from mg_jax.recipe import schedule_from_config
from mg_jax.runtime.executables import Program
from tests import tiny

PATH = pathlib.Path(__file__).parent.parent / "golden" / "gpu_programs.json"

# Model, dtype, GPUs of a host, hosts, batch, and which programs. With 64 clips on eight GPUs a
# sub-batch of 8 lies on one of them, with 32 it lies on two.
CASES = (
    ("slowfast", "bfloat16", 1, 1, 8, ("train", "statistics")),
    ("i3d", "float32", 8, 1, 64, ("train", "statistics", "views")),
    ("i3d_nl", "bfloat16", 4, 2, 32, ("train",)),
)


def config_of(model: str, dtype: str = "float32", batch: int = 8):
    """A baseline on one small grid; i3d_nl is I3D with two non-local blocks."""
    config = tiny.get_config("baseline")
    config.model.num_classes = 4
    config.model.dtype = dtype
    config.model.name = model.removesuffix("_nl")
    config.model.depth, config.model.non_local.positions = 14, ((), (), (), ())
    config.model.stage_frames = ((1,), (1,), (3,), (3,))
    if model.endswith("_nl"):
        config.model.non_local.positions = ((), (0,), (0,), ())
    config.batch = batch
    config.eval.clips = 1
    return config


Compile = Callable[[Any, Mesh, Program], tuple[ProgramCosts, float]]


def costs_of(
    compile_: Compile, model: str, dtype: str, per_host: int, hosts: int, batch: int, kind: str
) -> tuple[Program, ProgramCosts]:
    """A program of a kind and its costs."""
    config = config_of(model, dtype, batch)
    mesh = topology.make_mesh(find_accelerator("h100"), per_host, hosts)
    programs = schedule_programs(config, schedule_from_config(config), mesh)
    program = next(program for program in programs if program.kind == kind)
    return program, compile_(config, mesh, program)[0]


def figures_of(compile_: Compile, *case) -> dict[str, float]:
    """What is recorded of a case and a kind of program."""
    program, costs = costs_of(compile_, *case)
    _, _, per_host, hosts, *_ = case
    clips = program.batch * max(program.views, 1)
    return {
        "kernels": costs.launches,
        "collectives": costs.by_kind().get("collective", {"launches": 0})["launches"],
        "bytes_per_clip": costs.bytes * per_host * hosts / clips,
    }


def name_of(model, dtype, per_host, hosts, batch, kind) -> str:
    """How the file calls a case."""
    return f"{kind}: {model} {dtype}, {batch} clips on {hosts} x {per_host}"


def all_cases() -> list[tuple]:
    """Each case with each kind of its programs."""
    return [(*case, kind) for *case, kinds in CASES for kind in kinds]


def main() -> None:
    """Records the figures of the installed JAX."""
    jax.config.update("jax_platforms", "cpu")
    recorded = json.loads(PATH.read_text()) if PATH.exists() else {}
    recorded[jax.__version__] = {
        name_of(*case): figures_of(compile_program, *case) for case in all_cases()
    }
    PATH.write_text(json.dumps(recorded, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
