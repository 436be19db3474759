"""The training loop."""

import dataclasses
import pathlib
from typing import Any

import numpy as np

from mg_jax.input.pipeline import DeviceBatches, clip_batches
from mg_jax.input.sampling import all_views, centre_view, training_augmentation
from mg_jax.lengths import describe_epochs
from mg_jax.machine.atomic_file import write_json
from mg_jax.metrics import format_headline
from mg_jax.runtime import hosts, parallel
from mg_jax.runtime.executables import Program
from mg_jax.runtime.state import TrainState
from mg_jax.runtime.stops import Preempted, Stops
from mg_jax.training.evaluation import evaluate, precise_batch_stats
from mg_jax.training.log import RunLog, open_log
from mg_jax.training.meter import Meter
from mg_jax.training.programs import statistics_program, train_program, views_program
from mg_jax.training.run import Run, open_run
from mg_jax.workdir.checkpoint import Evaluation
from mg_jax.workdir.config import read_json, write_config
from mg_jax.workdir.diverged import RECORD, Diverged
from mg_jax.workdir.trained_on import DATA_RECORD, stretch_of, write_trained_on


def train(config, workdir: pathlib.Path, stops: Stops) -> dict[str, Any]:
    """Trains, or continues, the run of a work directory and writes its `summary.json`.

    Args:
      config: of the run.
      workdir: of the run.
      stops: that are listening.

    Raises:
      UserError: for settings, data or a work directory that do not fit; before anything is
        written. For a coming grid that needs more memory than there is; with a checkpoint.
      CheckpointError: where a checkpoint could not be written; the last good one stays.
      Diverged: where the loss is not finite; the last good checkpoint stays, and `diverged.json`.
      KeyboardInterrupt: after Ctrl-C; what was written before stays.
      Preempted: after SIGTERM; with a checkpoint, unless it comes before the first iteration.
    """
    run, state = open_run(config, workdir, stops, trains=True)
    start, end = int(state.step), run.schedule.iterations
    finished = hosts.on_first(lambda: _summary_of(workdir) if start == end else None)
    if finished is not None:
        run.close()
        hosts.print_once(f"{workdir} is finished; --mode=eval evaluates it again")
        return finished
    before = run.trained_on
    videos = run.data.train.videos, run.data.evaluation.videos
    run.trained_on = before.continued(stretch_of(config, *videos, start))
    hosts.on_first(lambda: _begin(run))
    evaluated = run.checkpoints.evaluated(start)
    log = hosts.on_all(lambda: open_log(workdir, start, end, evaluated))
    log.say(_beginning(run, start, known=bool(before.stretches)))
    try:
        metrics = _iterate(run, state, log)
    except Diverged as error:
        if hosts.is_first():
            write_json(workdir / RECORD, {"step": error.step, "reason": error.reason})
        error.args = (
            f"{error}; see {workdir / 'log.jsonl'}; a smaller "
            "--config.schedule.learning_rate, in another --workdir, may help",
        )
        raise
    finally:
        try:
            run.close()
        finally:
            log.close()
    summary = _summary(run, metrics)
    hosts.on_first(lambda: write_json(workdir / "summary.json", summary))
    hosts.print_once(_in_words(summary, workdir))
    return summary


def _in_words(summary: dict[str, Any], workdir: pathlib.Path) -> str:
    return (
        f"{workdir}: {summary['iterations']:,} iterations, {format_headline(summary['metrics'])}, "
        f"{summary['wall_clock_s']:.0f} s, of which {summary['compile_s']:.0f} s compilation; "
        f"see {workdir / 'summary.json'}; --mode=report --runs={workdir},DIR --workdir=OUT "
        "compares runs"
    )


def _summary_of(workdir: pathlib.Path) -> dict[str, Any] | None:
    """What a run that has ended wrote; None where it has not."""
    path = workdir / "summary.json"
    return read_json(path) if path.exists() else None


def _begin(run: Run) -> None:
    """Says in the work directory whose it is, and that it has not ended."""
    write_config(run.workdir, run.config, run.data.classes)
    videos = run.data.train.videos, run.data.evaluation.videos
    write_trained_on(run.workdir, run.trained_on, *videos)
    for ending in (RECORD, "summary.json"):
        (run.workdir / ending).unlink(missing_ok=True)


def _beginning(run: Run, start: int, known: bool) -> str:
    """What to say before the first iteration.

    Args:
      run: that begins, or continues.
      start: iterations done.
      known: whether the work directory told on which videos they were trained.
    """
    videos = len(run.data.train.videos)
    epochs = describe_epochs(run.config, run.schedule, videos)
    if not start:
        iterations = f"{run.schedule.iterations:,} iterations"
        return f"training in {run.workdir}: {iterations}, {epochs}"
    text = f"continuing {run.workdir} at step {start}"
    if not known:
        text += f"; no {DATA_RECORD} tells on which videos so far, taken to be these"
    elif run.trained_on.stretches[-1].from_step == start:
        text += f", from here on with other videos, {videos:,} to train on; see {DATA_RECORD}"
    return text


def evaluate_run(config, workdir: pathlib.Path, stops: Stops) -> dict[str, float]:
    """Evaluates the newest checkpoint of a work directory and writes its `evaluation.json`.

    Args:
      config: of the run.
      workdir: of the run.
      stops: that are listening.

    Raises:
      UserError: if there is no checkpoint, or as `open_run` does.
      KeyboardInterrupt: after Ctrl-C; nothing is written.
      Preempted: after SIGTERM, as well.
    """
    run, state = open_run(config, workdir, stops, trains=False)
    try:
        state = _with_precise_statistics(run, state, int(state.step))
        metrics = evaluate(run, state, all_views(config))
    finally:
        run.close()
    path = workdir / "evaluation.json"
    videos = _videos(run, int(state.step))
    hosts.on_first(lambda: write_json(path, {"step": int(state.step), "metrics": metrics, **videos}))
    for what, role in (("data", "evaluated on"), ("statistics", "batch-norm statistics from")):
        if videos[what]["as_in_training"] is False:
            hosts.print_once(
                f"{role} {videos[what]['videos']:,} videos of split {videos[what]['split']!r}, "
                "which are not those of the run while it trained"
            )
    hosts.print_once(
        f"step {int(state.step):,}: {format_headline(metrics)}, loss {metrics['loss']:.3f}; see "
        f"{path}; --mode=predict --video=FILE classifies one video"
    )
    return metrics


def _videos(run: Run, step: int) -> dict[str, dict[str, Any]]:
    """What an evaluation of a checkpoint used: videos to evaluate, and for precise statistics.

    With whether they were the same in training; None where nothing tells.
    """
    now = stretch_of(run.config, run.data.train.videos, run.data.evaluation.videos)
    then = run.trained_on.in_force(step)
    pairs = {
        "data": (now.evaluation, then and then.evaluation),
        "statistics": (now.train, then and then.train),
    }
    return {
        what: {
            "name": now.data,
            **dataclasses.asdict(here),
            "as_in_training": None if there is None else here == there,
        }
        for what, (here, there) in pairs.items()
    }


def _iterate(run: Run, state: TrainState, log: RunLog) -> dict[str, float]:
    start, end = int(state.step), run.schedule.iterations
    evaluations = evaluation_steps(end, run.config.eval.times)
    saves = evaluations | {end} | set(range(0, end, run.config.run.checkpoint_every))
    evaluation = None
    # A run that was preempted while it evaluated.
    due = start > 0 and start in evaluations and not run.checkpoints.evaluated(start)
    if run.config.run.compile_ahead:
        run.executables.request(_programs_ahead(run, start, evaluates=due))
    if due:
        evaluation = _evaluate(run, state, start, log)
        run.checkpoints.add_evaluation(start, evaluation)
    with run.timed("train_s"):
        batches = _train_batches(run, start)
    meter = Meter(log, run.config.run.log_every, batches, run.executables)
    for step in range(start, end):
        try:
            run.stops.check()
            run.checkpoints.check()
            with run.timed("train_s"):
                state = _step(run, state, step, batches, meter)
        except Preempted:
            if step > start and step not in saves:
                meter.drain()
                _save(run, state, step)
            raise
        done = step + 1
        if done in saves:
            meter.drain()
        if done in evaluations:
            try:
                evaluation = _evaluate(run, state, done, log)
            except Preempted:
                _save(run, state, done)
                raise
            _save(run, state, done, evaluation)
            meter.restart()
        elif done in saves:
            _save(run, state, done)
        if done in saves:
            run.executables.check()
    return _last_evaluation(run, state, log, evaluation)


def _step(
    run: Run, state: TrainState, step: int, batches: DeviceBatches, meter: Meter
) -> TrainState:
    """Begins an iteration; returns the state that it will leave."""
    schedule = run.schedule
    grid, rate = schedule.grid(step), np.float32(schedule.learning_rate(step))
    if step == schedule.phase(step).start:
        run.executables.retain(_programs_ahead(run, step))
    program = run.program(train_program(grid), lambda: _programs_left(run, step))
    batch = next(batches)
    state, metrics = program(state, batch, parallel.replicate(rate, run.mesh))
    batches.prefetch(metrics["loss"])
    meter.add(step, grid, rate, metrics)
    return state


def _evaluate(run: Run, state: TrainState, done: int, log: RunLog) -> Evaluation:
    """Evaluates; before the checkpoint, so that a run killed meanwhile evaluates again."""
    with run.timed("eval_s"):
        evaluation = _centre_evaluation(run, state, done)
    _log_evaluation(run, log, done, evaluation.metrics, "eval")
    return evaluation


def _save(run: Run, state: TrainState, done: int, evaluation: Evaluation | None = None) -> None:
    with run.timed("train_s"):
        run.checkpoints.save(state, done, dataclasses.asdict(run.clocks), evaluation)


def _last_evaluation(
    run: Run, state: TrainState, log: RunLog, evaluation: Evaluation | None
) -> dict[str, float]:
    """From all views of the config."""
    end = run.schedule.iterations
    with run.timed("eval_s"):
        if evaluation is None:  # the run was cut off after its last iteration
            state = _with_precise_statistics(run, state, end)
        else:
            state = state.replace(batch_stats=evaluation.batch_stats)
        metrics = evaluate(run, state, all_views(run.config))
    _log_evaluation(run, log, end, metrics, "test")
    return metrics


def _log_evaluation(run: Run, log: RunLog, done: int, metrics: dict[str, float], kind: str) -> None:
    """Logs metrics with the epochs and the seconds that the run has taken until then."""
    epochs = run.trained_on.epochs(run.schedule, done)
    log.scalars(done, {**metrics, "epochs": epochs, **dataclasses.asdict(run.clocks)}, kind)


def _programs_ahead(run: Run, step: int, *, evaluates: bool = False) -> list[Program]:
    """The programs that the run needs, in the order of their first use.

    Args:
      run: the run.
      step: iteration that comes next.
      evaluates: after the iterations before.
    """
    schedule, config = run.schedule, run.config
    evaluations = evaluation_steps(schedule.iterations, config.eval.times)
    centre, full = (
        views_program(config, views(config), run.mesh) for views in (centre_view, all_views)
    )
    ahead = []
    if evaluates:
        ahead += [statistics_program(schedule.phase(step - 1).grids[-1]), centre]
    for phase in schedule.phases:
        if phase.end <= step:
            continue
        first = max(phase.start, step)
        last = min(first + len(phase.grids), phase.end)
        ahead += [train_program(phase.grid(i)) for i in range(first, last)]
        if any(first < done <= phase.end for done in evaluations):
            ahead += [statistics_program(phase.grids[-1]), centre]
    return list(dict.fromkeys([*ahead, full]))


def _programs_left(run: Run, step: int) -> str:
    """When, how many programs have not been compiled, and how long they will take."""
    ahead = _programs_ahead(run, step)
    left = sum(not run.executables.ready(program) for program in ahead)
    return f" at step {step}{run.executables.format_left(left)}"


def _train_batches(run: Run, start: int) -> DeviceBatches:
    schedule = run.schedule
    steps = range(start, schedule.iterations)
    dataset = clip_batches(
        run.data.train,
        training_augmentation(run.config.data, run.config.seed),
        list(schedule.grids_from(start)),
        ((schedule.grid(i), schedule.position(i)) for i in steps),
    )
    return DeviceBatches(dataset, run.mesh, run.data.train.damaged)


def evaluation_steps(iterations: int, times: int) -> set[int]:
    """Steps after which to evaluate: `times` of them, evenly spread, the last at the end."""
    return {round(iterations * (i + 1) / times) for i in range(times)}


def _with_precise_statistics(run: Run, state: TrainState, done: int) -> TrainState:
    grid = run.schedule.phase(done - 1).grids[-1]
    return state.replace(batch_stats=precise_batch_stats(run, state, grid))


def _centre_evaluation(run: Run, state: TrainState, done: int) -> Evaluation:
    state = _with_precise_statistics(run, state, done)
    return Evaluation(evaluate(run, state, centre_view(run.config)), state.batch_stats)


def _summary(run: Run, metrics: dict[str, float]) -> dict[str, Any]:
    schedule = run.schedule
    return {
        "iterations": schedule.iterations,
        "epochs": run.trained_on.epochs(schedule, schedule.iterations),
        "examples": schedule.clips,
        "wall_clock_s": run.clocks.wall_clock_s,
        **dataclasses.asdict(run.clocks),
        "programs": len(run.executables.compiled),
        "devices": parallel.device_names(run.mesh),
        "damaged_videos": hosts.total(
            len(run.data.train.damaged) + len(run.data.evaluation.damaged)
        ),
        "metrics": metrics,
    }
