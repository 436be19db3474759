"""Opens a work directory: everything that training and evaluation share."""

import contextlib
import dataclasses
import json
import pathlib
import time
from collections.abc import Callable
from typing import Any, Literal

import jax
from jax.sharding import Mesh

from mg_jax.input.datasets import DataSource, open_source, stored
from mg_jax.input.prepared import with_class_count
from mg_jax.input.sampling import all_views, check_views
from mg_jax.machine.progress import say, waiting
from mg_jax.recipe import check_devices, schedule_from_config
from mg_jax.runtime import hosts, parallel
from mg_jax.runtime.executables import Executables, Program
from mg_jax.runtime.program_cache import cache_run_programs
from mg_jax.runtime.state import AveragedState, TrainState
from mg_jax.runtime.stops import Stops
from mg_jax.schedule import Schedule
from mg_jax.training.programs import create_executables
from mg_jax.training.state import create_state, init_variables, state_shapes
from mg_jax.training_settings import check_parts
from mg_jax.weights.load import Loaded, load_weights
from mg_jax.workdir.checkpoint import Checkpoints
from mg_jax.workdir.checkpoint_record import state_checksums
from mg_jax.workdir.class_files import check_class_files
from mg_jax.workdir.config import (
    check_classes,
    check_config,
    check_has_checkpoint,
    check_init_from,
    has_checkpoint,
    shared_settings,
)
from mg_jax.workdir.lock import locked_workdir
from mg_jax.workdir.trained_on import TrainedOn, check_videos, read_trained_on


@dataclasses.dataclass
class Clocks:
    """Seconds a run has taken, summed over its restarts.

    Attributes:
      train_s: iterations, including waiting for input and writing checkpoints.
      compile_s: waiting for the compiler.
      eval_s: evaluation, including precise BN.
    """

    train_s: float = 0.0
    compile_s: float = 0.0
    eval_s: float = 0.0

    @property
    def wall_clock_s(self) -> float:
        """The sum of all clocks."""
        return self.train_s + self.compile_s + self.eval_s


@dataclasses.dataclass
class Session:
    """An open work directory with everything that training and evaluation need.

    Attributes:
      config: of the run, with the data set's number of classes.
      workdir: of the run.
      schedule: what the config describes.
      mesh: all devices.
      data: the videos to train on and to evaluate on.
      executables: the compiled programs.
      checkpoints: of the work directory.
      clocks: seconds that the run has taken so far.
      stops: tells of signals to stop.
      opened: what closing the session gives back, the lock of the work directory among it.
      trained_on: which videos the run has been trained on, from which iteration on.
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
    opened: contextlib.ExitStack
    trained_on: TrainedOn

    @contextlib.contextmanager
    def timed(self, clock: Literal["train_s", "eval_s"]):
        """Adds a block's time to a clock, but its waits for the compiler to `compile_s`."""
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
        """The compiled program of `key`; shows a message while it waits for the compiler.

        Args:
          key: of the program.
          note: what the message adds; by default how many programs are left, if several.

        Raises:
          KeyboardInterrupt: after Ctrl-C while it waits, if this is the only process.
          Preempted: after SIGTERM, likewise.
        """
        if self.executables.ready(key):
            return self.executables.get(key)
        if hosts.is_first():
            say(f"compiling {key}{note() if note else self._programs_left(key)}")
        with waiting("compiling", show=hosts.is_first()) as tick:
            program = self.executables.get(key, lambda: (tick(), self.stops.check_alone()))
        if hosts.is_first():
            say(f"program {key} {self.executables.format_origin(key)}")
        return program

    def _programs_left(self, key: Program) -> str:
        self.executables.request([key])
        pending = self.executables.pending
        return self.executables.format_left(pending) if pending > 1 else ""

    def close(self) -> None:
        """Drops programs that are not compiled yet; waits until checkpoints are written."""
        self.opened.close()


def open_session(
    config, workdir: pathlib.Path, stops: Stops, *, trains: bool
) -> tuple[Session, TrainState]:
    """Checks everything that can be checked, then restores or creates the state.

    To train, it locks the work directory and renames checkpoints that cannot be read. If one of
    several processes fails, or would train something else than the others, all fail.

    Args:
      config: of the run.
      workdir: of the run.
      stops: already listening for signals.
      trains: False to evaluate only.

    Raises:
      UserError: for invalid settings, data that are missing or differ from before, or a work
        directory of another run; before anything is written.
      KeyboardInterrupt: after Ctrl-C.
      Preempted: after SIGTERM.
    """
    with contextlib.ExitStack() as opened:
        return _open(config, workdir, stops, opened, trains=trains)


def _open(
    config, workdir: pathlib.Path, stops: Stops, opened: contextlib.ExitStack, *, trains: bool
) -> tuple[Session, TrainState]:
    hosts.check_device_counts()
    hosts.check_same(shared_settings(config), "Start the same command on every host")
    schedule = schedule_from_config(config)
    mesh = parallel.make_mesh()
    check_devices(schedule, mesh.size)
    check_parts(config, schedule, mesh.size)
    hosts.on_all(lambda: check_views(all_views(config)))
    data = hosts.on_all(lambda: open_source(config))
    _check_same_data(config, data)
    config = with_class_count(config, len(data.classes))
    trained_on = _check_workdir(config, workdir, data, trains=trains)
    weights = None
    if not trains:
        hosts.on_first(lambda: check_has_checkpoint(workdir))
    elif not hosts.on_first(lambda: has_checkpoint(workdir)):
        weights = hosts.on_all(lambda: _weights(config, data))
    stops.check_alone()
    if trains:
        hosts.on_first(lambda: opened.enter_context(locked_workdir(workdir)))
        hosts.check_shared(workdir)
    platform = parallel.platform(mesh)
    cache_run_programs(config.run.cache_dir, workdir, platform, writes_alone=trains)
    checkpoints = Checkpoints(workdir, config.run.keep, read_only=not trains)
    opened.callback(checkpoints.close)
    state, clocks = _state(config, mesh, checkpoints, weights, repair=trains)
    executables = create_executables(config, mesh, state, data.class_files.weights)
    opened.callback(executables.close)
    stops.check_now()
    pieces = executables, checkpoints, clocks, stops, opened.pop_all(), trained_on
    return Session(config, workdir, schedule, mesh, data, *pieces), state


def _check_workdir(config, workdir: pathlib.Path, data: DataSource, *, trains: bool) -> TrainedOn:
    """Checks that the work directory's checkpoints, if any, belong to config and data.

    Returns:
      Which videos the run was trained on; without stretches if that is not known.
    """
    # Evaluating alone may use another split.
    free = () if trains else ("data.eval_split",)
    hosts.on_first(lambda: check_config(workdir, config, free=free))
    hosts.on_first(lambda: check_classes(workdir, data.classes))
    if trains:
        hosts.on_first(lambda: check_class_files(workdir, dataclasses.asdict(data.class_files)))
    if trains and not config.run.accept_other_videos:
        hosts.on_first(
            lambda: check_videos(workdir, config, data.train.videos, data.evaluation.videos)
        )
    rows = hosts.on_first(lambda: (read_trained_on(workdir) or TrainedOn()).rows())
    return TrainedOn.of_rows(rows)


def _state(
    config, mesh: Mesh, checkpoints: Checkpoints, weights: Loaded | None, *, repair: bool
) -> tuple[TrainState, Clocks]:
    """The newest checkpoint's state and clocks, or a new state, started from weights if given."""
    restored = checkpoints.restore(lambda: state_shapes(config), mesh, repair=repair)
    if restored is not None:
        state, clocks = restored[0], Clocks(**restored[1])
    else:  # some processes may have weights and others not; _check_same_state finds it
        fresh, clocks = create_state(config, mesh), Clocks()
        state = hosts.on_all(lambda: start_from(weights, fresh, mesh) if weights else fresh)
    _check_same_state(state, config, restored=restored is not None)
    return state, clocks


def _check_same_data(config, data: DataSource) -> None:
    """Checks that all processes have prepared the same videos in the same way."""
    parts = {
        "names of classes": json.dumps(data.classes),
        "flip pairs and class weights": json.dumps(dataclasses.asdict(data.class_files)),
        "how frames are stored": hosts.on_all(lambda: str(stored(config))),
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
    """Checks that all processes train or evaluate the same weights."""
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
    """The weights of config.init_from, if it is set."""
    if not config.init_from:
        return None
    check_init_from(config)
    shapes = jax.eval_shape(lambda: init_variables(config))
    return load_weights(pathlib.Path(config.init_from).expanduser(), shapes, data.classes, config)


def start_from(weights: Loaded, state: TrainState, mesh: Mesh) -> TrainState:
    """A state with its variables replaced by weights; prints what became of every tensor."""
    hosts.print_once(weights.account)
    variables = weights.variables(
        lambda: jax.device_get({"params": state.params, "batch_stats": state.batch_stats})
    )
    if isinstance(state, AveragedState):
        variables["average"] = variables["params"]
    return state.replace(**parallel.replicate(variables, mesh))
