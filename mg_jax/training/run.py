"""What the pieces of a run share, and how a work directory is opened."""

import contextlib
import dataclasses
import json
import pathlib
import time
from collections.abc import Callable
from typing import Any, Literal

import jax
from jax.sharding import Mesh

from mg_jax.errors import UserError
from mg_jax.input.datasets import DataSource, open_source, stored
from mg_jax.input.prepared import with_class_count
from mg_jax.machine.progress import say, waiting
from mg_jax.recipe import check_devices, schedule_from_config
from mg_jax.runtime import hosts, parallel
from mg_jax.runtime.executables import Executables, Program
from mg_jax.runtime.state import TrainState
from mg_jax.runtime.stops import Stops
from mg_jax.schedule import Schedule
from mg_jax.training.programs import cache_programs, create_executables
from mg_jax.training.state import create_state, init_variables
from mg_jax.weights.load import Loaded, load_weights
from mg_jax.workdir.checkpoint import Checkpoints
from mg_jax.workdir.checkpoint_record import state_checksums
from mg_jax.workdir.config import check_classes, check_config, has_checkpoint, shared_settings
from mg_jax.workdir.lock import locked_workdir
from mg_jax.workdir.trained_on import TrainedOn, check_videos, read_trained_on


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
      trained_on: which videos from which iteration on, as the work directory tells; of a run that
        trains with those that it goes on with.
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
    trained_on: TrainedOn

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
    ) -> jax.stages.Compiled:
        """The program of `key`; shows that it waits, if it has to, for its compilation.

        Args:
          key: of the program.
          note: what else to say then; by default how many programs are to go, if several.

        Raises:
          KeyboardInterrupt: after Ctrl-C, where this process is the only one.
          Preempted: after SIGTERM, as well.
        """
        if self.executables.ready(key):
            return self.executables.get(key)
        if hosts.is_first():
            say(f"compiling {key}{note() if note else self._asked_for(key)}")
        with waiting("compiling", show=hosts.is_first()) as tick:
            return self.executables.get(key, lambda: (tick(), self.stops.check_alone()))

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


def open_run(
    config, workdir: pathlib.Path, stops: Stops, *, trains: bool
) -> tuple[Run, TrainState]:
    """Checks everything that can be checked, then restores or creates the state.

    A run that trains has its work directory to itself, and renames checkpoints that cannot be read.
    Of several processes none goes on where one of them cannot, or would train something else.

    Raises:
      UserError: for settings, data or a work directory that do not fit; before anything is
        written.
      KeyboardInterrupt: after Ctrl-C meanwhile.
      Preempted: after SIGTERM meanwhile.
    """
    hosts.check_device_counts()
    hosts.check_same(shared_settings(config), "Start the same command on every host")
    schedule = schedule_from_config(config)
    mesh = parallel.make_mesh()
    check_devices(schedule, mesh.size)
    data = hosts.together(lambda: open_source(config))
    _check_same_data(config, data)
    config = with_class_count(config, len(data.classes))
    trained_on = _check_workdir(config, workdir, data, trains=trains)
    weights = None
    if not hosts.agree(lambda: has_checkpoint(workdir)):
        if not trains:
            raise UserError(f"{workdir} holds no checkpoint to evaluate; train there first")
        weights = hosts.together(lambda: _weights(config, data))
    stops.check_alone()
    lock = contextlib.ExitStack()
    if trains:
        hosts.agree(lambda: lock.enter_context(locked_workdir(workdir)))
        hosts.check_shared(workdir)
    cache_programs(config.run.cache_dir)
    checkpoints = Checkpoints(workdir, config.run.keep, read_only=not trains)
    state, clocks = _state(config, mesh, checkpoints, weights, repair=trains)
    executables = create_executables(config, mesh, state)
    stops.check_now()
    pieces = executables, checkpoints, clocks, stops, lock, trained_on
    return Run(config, workdir, schedule, mesh, data, *pieces), state


def _check_workdir(config, workdir: pathlib.Path, data: DataSource, *, trains: bool) -> TrainedOn:
    """Makes sure that what the work directory holds, if anything, belongs to config and data.

    Returns:
      On which videos it was trained, as far as that is known.
    """
    # A finished model may be tried on another split.
    free = () if trains else ("data.eval_split",)
    hosts.agree(lambda: check_config(workdir, config, free=free))
    hosts.agree(lambda: check_classes(workdir, data.classes))
    if trains and not config.run.accept_other_videos:
        hosts.agree(
            lambda: check_videos(workdir, config, data.train.videos, data.evaluation.videos)
        )
    rows = hosts.agree(lambda: (read_trained_on(workdir) or TrainedOn()).rows())
    return TrainedOn.of_rows(rows)


def _state(
    config, mesh: Mesh, checkpoints: Checkpoints, weights: Loaded | None, *, repair: bool
) -> tuple[TrainState, Clocks]:
    """The newest checkpoint's, or a new one, with weights where they are given; the same on all."""
    state, clocks = create_state(config, mesh), Clocks()
    restored = checkpoints.restore(state, mesh, repair=repair)
    if restored is not None:
        state, clocks = restored[0], Clocks(**restored[1])
    else:  # of several processes some may have weights and some not
        fresh = state
        state = hosts.together(lambda: start_from(weights, fresh, mesh) if weights else fresh)
    _check_same_state(state, config, restored=restored is not None)
    return state, clocks


def _check_same_data(config, data: DataSource) -> None:
    """Makes sure that all processes have prepared the same videos in the same way."""
    parts = {
        "names of classes": json.dumps(data.classes),
        "how frames are stored": hosts.together(lambda: str(stored(config))),
    }
    splits = {config.data.train_split: data.train, config.data.eval_split: data.evaluation}
    for name, split in splits.items():
        for part, fingerprint in split.videos.fingerprints().items():
            parts[f"{part} of split {name!r}"] = fingerprint
    hosts.check_same(
        parts,
        f"All need the same prepared {config.data.name}: copy the folder of one host's "
        "--config.data.dir to the others, or prepare it where all of them see it",
    )


def _check_same_state(state: TrainState, config, *, restored: bool) -> None:
    """Makes sure that all processes train, or evaluate, the same weights."""
    if jax.process_count() == 1:
        return
    origin, advice = "initial weights", "All need the same versions of mg_jax and of JAX"
    if restored:
        origin, advice = "the newest checkpoint", "All need to read it from the same --workdir"
    elif hosts.total(bool(config.init_from)):
        origin = "the weights of --config.init_from"
        advice = "Give all the same file, for example from where all of them see it"
    parts = {f"{name} of {origin}": str(crc) for name, crc in state_checksums(state).items()}
    hosts.check_same(parts, advice)


def _weights(config, data: DataSource) -> Loaded | None:
    """What config.init_from holds, if it is set."""
    if not config.init_from:
        return None
    path = pathlib.Path(config.init_from).expanduser()
    shapes = jax.eval_shape(lambda: init_variables(config))
    return load_weights(path, shapes, data.classes)


def start_from(weights: Loaded, state: TrainState, mesh: Mesh) -> TrainState:
    """The state with weights in their places; says what became of every tensor."""
    hosts.say(weights.account)
    variables = weights.variables(
        lambda: jax.device_get({"params": state.params, "batch_stats": state.batch_stats})
    )
    return state.replace(**parallel.replicate(variables, mesh))
