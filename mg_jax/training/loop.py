"""The training loop."""

import contextlib
import dataclasses
import pathlib
from typing import Any

import jax
import numpy as np

from mg_jax.input.pipeline import DeviceBatches, clip_batches
from mg_jax.input.sampling import all_views, centre_view, training_augmentation
from mg_jax.machine.atomic_file import write_json
from mg_jax.runtime import hosts
from mg_jax.runtime.state import TrainState
from mg_jax.runtime.stops import Preempted, Stops
from mg_jax.training.arguments import step_arguments
from mg_jax.training.average import to_evaluate
from mg_jax.training.compile_ahead import compile_ahead
from mg_jax.training.evaluation import evaluate, with_precise_statistics
from mg_jax.training.loggers import check_loggers
from mg_jax.training.meter import Meter
from mg_jax.training.profile import Profile
from mg_jax.training.programs import train_program
from mg_jax.training.run_log import RunLog, open_log
from mg_jax.training.session import Session, open_session
from mg_jax.training.summary import describe_end, describe_start, summarize
from mg_jax.training.upcoming import describe_upcoming, evaluation_steps, upcoming_programs
from mg_jax.training_settings import changes_pixels
from mg_jax.workdir.class_files import write_class_files
from mg_jax.workdir.config import write_config
from mg_jax.workdir.diverged import DIVERGED, Diverged
from mg_jax.workdir.finished import SUMMARY, read_summary
from mg_jax.workdir.trained_on import stretch_of, write_trained_on


def train(config, workdir: pathlib.Path, stops: Stops) -> dict[str, Any]:
    """Trains, or continues, the run of a work directory and writes its `summary.json`.

    Args:
      config: of the run.
      workdir: of the run.
      stops: already listening for signals.

    Returns:
      The summary.

    Raises:
      UserError: for invalid settings, data that are missing or differ from before, or a work
        directory of another run, before anything is written; for a coming grid that needs more
        memory than there is, after a checkpoint.
      CheckpointError: if a checkpoint could not be written; the last good one stays.
      Diverged: if the loss is not finite; the last good checkpoint stays, and `diverged.json`.
      KeyboardInterrupt: after Ctrl-C; the newest checkpoint stays.
      Preempted: after SIGTERM; with a checkpoint, unless it comes before the first iteration.
    """
    check_loggers(config.run.loggers)
    session, state = open_session(config, workdir, stops, trains=True)
    with contextlib.closing(session):
        done, end = int(state.step), session.schedule.iterations
        finished = hosts.on_first(lambda: read_summary(workdir) if done == end else None)
        if finished is not None:
            hosts.print_once(f"{workdir} is finished; --mode=eval evaluates it again")
            return finished
        metrics = _train(session, state)
    summary = summarize(session, metrics)
    hosts.on_first(lambda: write_json(workdir / SUMMARY, summary))
    hosts.print_once(describe_end(summary, workdir))
    return summary


def _train(session: Session, state: TrainState) -> dict[str, float]:
    """Trains to the end; returns the metrics of the last evaluation."""
    start, end, workdir = int(state.step), session.schedule.iterations, session.workdir
    videos = session.data.train.videos, session.data.evaluation.videos
    before = session.trained_on
    session.trained_on = before.continued(stretch_of(session.config, *videos, start))
    hosts.on_first(lambda: _mark_started(session))
    evaluated = session.checkpoints.evaluated(start)
    loggers = session.config.run.loggers
    log = hosts.on_all(lambda: open_log(workdir, start, end, evaluated, loggers))
    with contextlib.closing(log):
        log.say(describe_start(session, start, known=bool(before.stretches)))
        try:
            return _iterate(session, state, log)
        except Diverged as error:
            if hosts.is_first():
                write_json(workdir / DIVERGED, {"step": error.step, "reason": error.reason})
            error.args = (
                f"{error}; see {workdir / 'log.jsonl'}; a smaller "
                "--config.schedule.learning_rate, in another --workdir, may help",
            )
            raise


def _mark_started(session: Session) -> None:
    """Writes which config and videos the work directory belongs to; removes what says it ended."""
    workdir = session.workdir
    write_config(workdir, session.config, session.data.classes)
    write_class_files(workdir, dataclasses.asdict(session.data.class_files))
    videos = session.data.train.videos, session.data.evaluation.videos
    write_trained_on(workdir, session.trained_on, *videos)
    for ending in (DIVERGED, SUMMARY):
        (workdir / ending).unlink(missing_ok=True)


def _iterate(session: Session, state: TrainState, log: RunLog) -> dict[str, float]:
    """Trains, saves and evaluates to the end; returns the metrics of the last evaluation."""
    config, executables, checkpoints = session.config, session.executables, session.checkpoints
    start, end = int(state.step), session.schedule.iterations
    evaluations = evaluation_steps(end, config.eval.times)
    saves = evaluations | set(range(0, end, config.run.checkpoint_every))
    compile_ahead(session, start)
    with session.timed("train_s"):
        batches = _train_batches(session, start)
    meter = Meter(log, config.run.log_every, batches, executables)
    profile = Profile(session.workdir / "profile", tuple(config.run.profile_steps))
    saved, evaluated = start, None
    try:
        for step in range(start, end + 1):  # iterations done
            profile.end(step, state)  # evaluations and checkpoints are not in the trace
            if step in saves and step > saved:
                saved = _save(session, state, step, meter)
                executables.check()
            if step in evaluations and not checkpoints.evaluated(step):
                evaluated = _evaluate(session, state, step, log)
                meter.restart()
            if step < end:
                session.stops.check()
                checkpoints.check()
                profile.start(step, state)
                with jax.profiler.StepTraceAnnotation("iteration", step_num=step):
                    state = _train_step(session, state, step, batches, meter)
    except Preempted:
        if step > saved:
            _save(session, state, step, meter)
        raise
    finally:
        profile.close()
    return _final_evaluation(session, state, evaluated, log)


def _train_step(
    session: Session, state: TrainState, step: int, batches: DeviceBatches, meter: Meter
) -> TrainState:
    """Starts iteration `step` on the devices and returns the state that it will leave."""
    schedule, executables = session.schedule, session.executables
    grid, rate = schedule.grid(step), np.float32(schedule.learning_rate(step))
    with session.timed("train_s"):
        if step == schedule.phase(step).start:
            executables.retain(upcoming_programs(session, step))
        program = session.program(train_program(grid), lambda: describe_upcoming(session, step))
        batch = next(batches)
        arguments = step_arguments(session.config, rate, session.mesh)
        state, metrics = program(state, batch, arguments)
        batches.prefetch(metrics["loss"])
        meter.add(step, grid, rate, metrics)
    return state


def _save(session: Session, state: TrainState, step: int, meter: Meter) -> int:
    """Logs what is left to log and starts writing a checkpoint; returns its step."""
    with session.timed("train_s"):
        meter.drain()
        session.checkpoints.save(state, step, dataclasses.asdict(session.clocks))
    return step


@dataclasses.dataclass(frozen=True)
class _Evaluated:
    """What an evaluation of the centre views has found.

    Attributes:
      batch_stats: precise statistics.
      metrics: as `evaluate` returns them.
      is_final: it is the final evaluation as well, whose scores it has kept.
    """

    batch_stats: Any
    metrics: dict[str, float]
    is_final: bool


def _evaluate(session: Session, state: TrainState, step: int, log: RunLog) -> _Evaluated:
    """Evaluates one centre view while the step's checkpoint is written, then adds to it.

    The last one is the final evaluation as well where the config has no other view.
    """
    views, is_last = centre_view(session.config), step == session.schedule.iterations
    is_final = is_last and views == all_views(session.config)
    with session.timed("eval_s"):
        state = with_precise_statistics(session, state)
        metrics = evaluate(session, state, views, keep=is_final)
    # The log comes first: a run that is killed in between evaluates and logs again.
    _log_evaluation(session, log, step, metrics, "eval")
    with session.timed("train_s"):
        clocks = dataclasses.asdict(session.clocks)
        session.checkpoints.add_evaluation(step, metrics, state.batch_stats, clocks)
    return _Evaluated(state.batch_stats, metrics, is_final)


def _final_evaluation(
    session: Session, state: TrainState, evaluated: _Evaluated | None, log: RunLog
) -> dict[str, float]:
    """Metrics over all views of the config; measures precise statistics if there are none yet.

    Args:
      session: config, devices, programs and data.
      state: after the last iteration.
      evaluated: what the evaluation after the last iteration has found; None where the run was
        stopped since.
      log: where the metrics are written.
    """
    if evaluated is not None and evaluated.is_final:
        metrics = evaluated.metrics
    else:
        with session.timed("eval_s"):
            if evaluated is None:
                state = with_precise_statistics(session, state)
            else:
                state = to_evaluate(state).replace(batch_stats=evaluated.batch_stats)
            metrics = evaluate(session, state, all_views(session.config), keep=True)
    _log_evaluation(session, log, session.schedule.iterations, metrics, "test")
    return metrics


def _log_evaluation(
    session: Session, log: RunLog, step: int, metrics: dict[str, float], kind: str
) -> None:
    """Logs metrics with the epochs and the seconds that the run has taken so far."""
    epochs = session.trained_on.epochs(session.schedule, step)
    log.scalars(step, {**metrics, "epochs": epochs, **dataclasses.asdict(session.clocks)}, kind)


def _train_batches(session: Session, start: int) -> DeviceBatches:
    """The batches of the iterations from `start` on."""
    schedule, split = session.schedule, session.data.train
    dataset = clip_batches(
        split,
        training_augmentation(session.config.data, session.config.seed),
        list(schedule.grids_from(start)),
        ((schedule.grid(i), schedule.position(i)) for i in range(start, schedule.iterations)),
        positions=changes_pixels(session.config.augment),
    )
    return DeviceBatches(dataset, session.mesh, split.damaged)
