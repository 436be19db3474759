"""When a run's programs are compiled: `run.compile_ahead`."""

import time

from mg_jax.runtime import hosts, parallel
from mg_jax.training.session import Session
from mg_jax.training.upcoming import upcoming_programs


def compile_ahead(session: Session, step: int) -> None:
    """Compiles what a run needs after `step` iterations, or begins to, by `run.compile_ahead`.

    Raises:
      UserError: where all are compiled first, for one that needs more memory than there is.
      KeyboardInterrupt: likewise, after Ctrl-C.
      Preempted: likewise, after SIGTERM.
    """
    when = when_to_compile(session.config.run.compile_ahead, parallel.platform(session.mesh))
    if when == "off":
        return
    programs = upcoming_programs(session, step)
    session.executables.request(programs)
    if when != "first":
        return
    start = time.perf_counter()
    with session.timed("train_s"):  # but for the waits, which are compile_s
        for program in programs:
            hosts.on_all(lambda program=program: session.program(program))
            session.stops.check_now()
    seconds = time.perf_counter() - start
    hosts.print_once(f"{len(programs)} programs are ready after {seconds:.0f} s; training begins")


def when_to_compile(choice: str, platform: str) -> str:
    """What `auto` means on a platform, cpu, gpu or tpu; other choices as they are."""
    if choice != "auto":
        return choice
    return "background" if platform == "cpu" else "first"
