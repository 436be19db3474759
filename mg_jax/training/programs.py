"""The kinds of programs of a run, and how each is lowered."""

import json
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
from flax.traverse_util import flatten_dict
from jax.sharding import Mesh

from mg_jax.grid import Grid
from mg_jax.input.sampling import Views
from mg_jax.runtime import memory, parallel, xla_options
from mg_jax.runtime.executables import Executables, Program
from mg_jax.runtime.kept_programs import KeptPrograms
from mg_jax.runtime.state import TrainState
from mg_jax.runtime.xla_options import Options
from mg_jax.training import evaluation_step, step

# The settings, and the sections, that no program is made from: it takes the seed and the learning
# rate as arguments, and is made for one grid. Runs that differ in others share only what lowers to
# the same.
NOT_IN_PROGRAMS = (
    *("seed", "init_from", "frames", "size", "sub_batch", "multigrid.", "baseline.", "prepare."),
    *("data.name", "data.dir", "data.train_split", "data.eval_split", "data.max_damaged"),
    *("data.sampling", "data.stride", "data.short_sides", "data.inverse_uniform"),
    *("data.flip", "data.flip_pairs", "data.class_exponent"),
    *("schedule.videos", "schedule.scale", "schedule.learning_rate", "schedule.steps"),
    *("schedule.iterations", "schedule.decay", "schedule.cosine"),
    *("schedule.warmup_iterations", "schedule.warmup_learning_rate"),
    *("eval.times", "eval.clips", "eval.crops", "eval.size", "eval.short_side"),
    *("run.cache_dir", "run.readers", "run.compile_ahead", "run.accept_other_videos"),
    *("run.log_every", "run.loggers", "run.profile_steps", "run.checkpoint_every", "run.keep"),
)


def train_program(grid: Grid) -> Program:
    """The program that trains on a grid."""
    return Program("train", grid.batch, grid.frames, grid.size, sub_batch=grid.sub_batch)


def statistics_program(grid: Grid) -> Program:
    """The program that measures batch-norm statistics on a grid."""
    return Program("statistics", grid.batch, grid.frames, grid.size, sub_batch=grid.sub_batch)


def views_program(config, views: Views, mesh: Mesh) -> Program:
    """The program that scores test videos, with about as many clips per batch as `config.batch`."""
    videos = max(config.batch // len(views) // mesh.size, 1) * mesh.size
    return Program("views", videos, views.frames, views.size, views=len(views))


def create_executables(
    config, mesh: Mesh, state: TrainState, class_weights: Sequence[float] | None = None
) -> Executables:
    """The cache of compiled programs of a run.

    Args:
      config: of the run.
      mesh: the devices.
      state: gives shapes and dtypes.
      class_weights: of the loss of each class; None for 1.
    """
    config = config.copy_and_resolve_references()  # as it is now, whenever a program is lowered
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), state)
    text = f"{made_from(config, shapes, class_weights)}\n{mesh.axis_names}"
    kept = KeptPrograms(text, list(mesh.devices.flat), run_options(config, mesh))

    def lower(program: Program) -> Callable[[], tuple[jax.stages.Compiled, bool]]:
        return kept.lower(
            program, partial(lower_program, config, mesh, shapes, program, class_weights)
        )

    return Executables(lower, memory.limit_bytes())


def made_from(config, shapes: TrainState, class_weights: Sequence[float] | None) -> str:
    """What the programs of a run are made from besides sources and surroundings, as text.

    Args:
      config: of the run.
      shapes: of the state.
      class_weights: of the loss of each class; None for 1.
    """
    return repr((settings_in_programs(config), shapes, class_weights))


def settings_in_programs(config) -> dict[str, Any]:
    """The settings that programs are made from, by name."""
    settings = flatten_dict(json.loads(config.to_json()), sep=".")
    return {name: value for name, value in settings.items() if _is_in_programs(name)}


def _is_in_programs(setting: str) -> bool:
    section = setting.partition(".")[0] + "."
    return setting not in NOT_IN_PROGRAMS and section not in NOT_IN_PROGRAMS


def run_options(config, mesh: Mesh) -> Options:
    """The options of XLA for the programs of a run."""
    return xla_options.for_run(parallel.platform(mesh), deterministic=config.run.deterministic)


def options_here(config) -> Options:
    """The options of XLA for programs on the default devices, outside a run."""
    return xla_options.for_run(jax.default_backend(), deterministic=config.run.deterministic)


def compile_lowered(
    config, mesh: Mesh, lowered: jax.stages.Lowered, more: Options | None = None
) -> jax.stages.Compiled:
    """A program of `lower_program`, compiled as a run does.

    Args:
      config: of the run.
      mesh: the devices.
      lowered: the program.
      more: options of XLA besides those of the run.
    """
    options = {**run_options(config, mesh), **(more or {})}
    return lowered.compile(compiler_options=options or None)


def lower_program(
    config,
    mesh: Mesh,
    state: TrainState,
    program: Program,
    class_weights: Sequence[float] | None = None,
) -> jax.stages.Lowered:
    """A program, lowered for compilation.

    Args:
      config: of the run.
      mesh: the devices, which need not be there.
      state: shapes of the state.
      program: of which kind and for which shapes.
      class_weights: of the loss of each class; None for 1.
    """
    lowerings = {
        "train": partial(step.lower_train_step, class_weights=class_weights),
        "statistics": evaluation_step.lower_statistics_step,
        "views": evaluation_step.lower_views_step,
    }
    return lowerings[program.kind](config, mesh, state, program)


def batch_bytes(config, program: Program) -> int:
    """Bytes of a global batch of a program, over all devices."""
    if program.kind == "views":
        shapes = evaluation_step.views_shapes(program)
    else:
        shapes = step.batch_shapes(config, program)
    return sum(leaf.size * leaf.dtype.itemsize for leaf in shapes.values())
