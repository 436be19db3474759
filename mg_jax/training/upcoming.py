"""When a run evaluates, and which programs it needs from a step on, in the order of their use."""

from mg_jax.input.sampling import all_views, centre_view
from mg_jax.runtime.executables import Program
from mg_jax.training.programs import statistics_program, train_program, views_program
from mg_jax.training.session import Session


def evaluation_steps(iterations: int, times: int) -> set[int]:
    """Iterations after which to evaluate: `times` of them, evenly spread, the last at the end.

    With fewer iterations than `times`, it is after every one.
    """
    times = min(times, iterations)
    return {round(iterations * (i + 1) / times) for i in range(times)}


def upcoming_programs(session: Session, step: int) -> list[Program]:
    """The distinct programs that a run needs after `step` iterations, in the order of first use."""
    config, schedule = session.config, session.schedule
    evaluations = evaluation_steps(schedule.iterations, config.eval.times)
    centre, full = (
        views_program(config, views(config), session.mesh) for views in (centre_view, all_views)
    )
    programs = []
    # A run that was stopped during an evaluation evaluates before it goes on.
    if step in evaluations and not session.checkpoints.evaluated(step):
        programs += [statistics_program(schedule.phase(step - 1).grids[-1]), centre]
    for phase in schedule.phases:
        if phase.end <= step:
            continue
        first = max(phase.start, step)
        last = min(first + len(phase.grids), phase.end)
        programs += [train_program(phase.grid(i)) for i in range(first, last)]
        if any(first < done <= phase.end for done in evaluations):
            programs += [statistics_program(phase.grids[-1]), centre]
    return list(dict.fromkeys([*programs, full]))


def describe_upcoming(session: Session, step: int) -> str:
    """Text: the step, the number of programs left to compile, and the estimated time for them."""
    programs = upcoming_programs(session, step)
    left = sum(not session.executables.ready(program) for program in programs)
    return f" at step {step}{session.executables.format_left(left)}"
