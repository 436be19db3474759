"""What the pieces of a run share, and how a work directory is opened."""

import contextlib
import dataclasses
import pathlib
import time
from collections.abc import Callable
from typing import Any, Literal

import jax
from jax.sharding import Mesh

from mg_jax import hosts, parallel
from mg_jax.checkpoint import Checkpoints
from mg_jax.datasets import DataSource, open_source
from mg_jax.lock import locked
from mg_jax.parallel import Executables, Program
from mg_jax.prepared import with_class_count
from mg_jax.programs import cache_programs, create_executables
from mg_jax.progress import say, waiting
from mg_jax.recipe import check_devices, schedule_from_config
from mg_jax.schedule import Schedule
from mg_jax.stops import Stops
from mg_jax.train_step import TrainState, create_state, init_variables
from mg_jax.trained_on import TrainedOn, check_videos
from mg_jax.weights.load import Loaded, load_weights
from mg_jax.workdir import check_classes, check_config, has_checkpoint, shared_settings


@dataclasses.dataclass
class Clocks:
    """Seconds a run has spent, over all its restarts.

    Attributes:
      train_s: iterations, with waiting for input and writing checkpoints.
      compile_s: waiting for the compiler.
      eval_s: evaluation with its precise BN.
    """

    train_s: float = 0.0
    compile_s: float = 0.0
    eval_s: float = 0.0

    @property
    def wall_clock_s(self) -> float:
        """The whole."""
        return self.train_s + self.compile_s + self.eval_s


@dataclasses.dataclass
class Run:
    """An open work directory with all that training and evaluation need.

    Attributes:
      trained_on: which videos from which iteration on, once it trains.
    """

    config: Any
    workdir: pathlib.Path
    schedule: Schedule
    mesh: Mesh
    data: DataSource
    executables: Executables
    checkpoints: Checkpoints
    clocks: Clocks
    stops: Stops
    lock: contextlib.ExitStack
    trained_on: TrainedOn = dataclasses.field(default_factory=TrainedOn)

    @contextlib.contextmanager
    def timed(self, clock: Literal["train_s", "eval_s"]):
        """Books the time of a block on a clock, what it waited for the compiler on compile_s."""
        start, stall = time.perf_counter(), self.executables.stall_s
        try:
            yield
        finally:
            stall = self.executables.stall_s - stall
            self.clocks.compile_s += stall
            spent = time.perf_counter() - start - stall
            setattr(self.clocks, clock, getattr(self.clocks, clock) + spent)

    def program(
        self,
        key: Program,
        note: Callable[[], str] | None = None,
        meanwhile: Callable[[], None] = lambda: None,
    ) -> jax.stages.Compiled:
        """The program of `key`; shows that it waits, if it has to, for its compilation.

        Args:
          key: of the program.
          note: what else to say then; by default how many programs are to go, if several.
          meanwhile: called now and then while it waits; may raise.
        """
        if self.executables.ready(key):
            return self.executables.get(key)
        if hosts.is_first():
            say(f"compiling {key}{note() if note else self._asked_for(key)}")
        with waiting("compiling", show=hosts.is_first()) as tick:
            return self.executables.get(key, lambda: (tick(), meanwhile()))

    def _asked_for(self, key: Program) -> str:
        self.executables.request([key])
        pending = self.executables.pending
        return self.executables.format_left(pending) if pending > 1 else ""

    def close(self) -> None:
        """Waits until checkpoints are written; drops programs that wait for the compiler."""
        try:
            self.checkpoints.close()
        finally:
            self.executables.close()
            self.lock.close()


def open_run(config, workdir: pathlib.Path, *, trains: bool) -> tuple[Run, TrainState]:
    """Checks everything that can be checked, then restores or creates the state.

    A run that trains has its work directory to itself, and renames checkpoints that cannot be read.

    Raises:
      ValueError: for settings, data or a work directory that do not fit; before anything is
        written.
    """
    schedule = schedule_from_config(config)
    mesh = parallel.make_mesh()
    check_devices(schedule, mesh.size)
    hosts.check_same(shared_settings(config), "the config")
    data = open_source(config)
    config = with_class_count(config, len(data.classes))
    # A finished model may be tried on another split.
    check_config(workdir, config, free=() if trains else ("data.eval_split",))
    check_classes(workdir, data.classes)
    if trains and not config.run.accept_other_videos:
        hosts.agree(
            lambda: check_videos(workdir, config, data.train.videos, data.evaluation.videos)
        )
    weights = None
    if config.init_from and not has_checkpoint(workdir):
        path = pathlib.Path(config.init_from).expanduser()
        shapes = jax.eval_shape(lambda: init_variables(config))
        weights = load_weights(path, shapes, data.classes)
    lock = contextlib.ExitStack()
    if trains:
        hosts.agree(lambda: lock.enter_context(locked(workdir)))
        hosts.check_shared(workdir)
    cache_programs(config.run.cache_dir)
    state = create_state(config, mesh)
    checkpoints = Checkpoints(workdir, config.run.keep, read_only=not trains)
    restored = checkpoints.restore(state, mesh, repair=trains)
    clocks = Clocks()
    if restored is not None:
        state, clocks = restored[0], Clocks(**restored[1])
    elif weights is not None:
        state = start_from(weights, state, mesh)
    executables = create_executables(config, mesh, state)
    stops = Stops(mesh)
    run = Run(config, workdir, schedule, mesh, data, executables, checkpoints, clocks, stops, lock)
    return run, state


def start_from(weights: Loaded, state: TrainState, mesh: Mesh) -> TrainState:
    """The state with weights in their places; says what became of every tensor."""
    hosts.say(weights.account)
    variables = weights.variables(
        lambda: jax.device_get({"params": state.params, "batch_stats": state.batch_stats})
    )
    return state.replace(**parallel.replicate(variables, mesh))
