"""How the processes of a run meet, one to a host or to a GPU."""

import contextlib
import faulthandler
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator

import jax

from mg_jax.errors import UserError
from mg_jax.machine.exit_status import INTERRUPTED, TERMINATED
from mg_jax.runtime import hosts

# What a job's launcher sets where it has started more than one process.
_COUNTS = ("SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE")
_KUBERNETES = ("KUBERNETES_SERVICE_HOST", "JOB_COMPLETION_INDEX")
# Seconds until a process that gives no sign of life counts as dead, and the others end.
_HEARTBEAT_S = 30


def connect(coordinator: str | None, processes: int | None, process: int | None) -> None:
    """Joins the other processes of the run; to be called before anything touches a device.

    Without arguments it finds them where SLURM, Open MPI or a Kubernetes Indexed Job has started
    more than one process; otherwise the run has this process alone.

    Args:
      coordinator: HOST:PORT of process 0.
      processes: how many there are.
      process: number of this one.

    Raises:
      UserError: for arguments that do not do, or if the others cannot be reached.
    """
    launcher = _launcher()
    if (coordinator, processes, process) != (None, None, None):
        _check_arguments(coordinator, processes, process)
        where, others = coordinator, f"the {processes} processes"
    elif launcher:
        where, others = "the host that the launcher's environment names", launcher
    else:
        return
    # It would take SIGTERM for itself, and Orbax asks it by another count of steps than we would.
    jax.config.update("jax_enable_preemption_service", False)
    try:
        with _exiting_on_signals():
            waits = f"waiting for {others} of the run to meet at {where}"
            print(waits, file=sys.stderr, flush=True)
            jax.distributed.initialize(
                coordinator, processes, process, heartbeat_timeout_seconds=_HEARTBEAT_S
            )
    except (RuntimeError, ValueError) as error:
        raise UserError(
            f"{others} of the run did not meet at {where} ({str(error).splitlines()[0]}); start "
            "the same command on every host, with --coordinator=HOST:PORT --num_processes=N "
            "--process_id=0 ... N-1 where no launcher says so"
        ) from error
    # If another process dies JAX ends this one, and its reason is to be the last that is printed.
    faulthandler.disable()


@contextlib.contextmanager
def _exiting_on_signals() -> Iterator[None]:
    """Ends the process at once after Ctrl-C or SIGTERM.

    Waiting happens outside of Python, whose handlers would wait along; this thread does not.
    """
    words = {
        signal.SIGINT: ("interrupted", INTERRUPTED),
        signal.SIGTERM: ("stopped by SIGTERM", TERMINATED),
    }
    reader, writer = socket.socketpair()
    writer.setblocking(False)  # as Python asks for

    def watch() -> None:
        while number := reader.recv(1):
            if number[0] in words:
                said, status = words[number[0]]
                hosts.exit_now(f"{said} before the processes of the run had met", status)

    threading.Thread(target=watch, daemon=True).start()
    # Between two statements of Python its handlers would be the first, with other words.
    handlers = {number: signal.signal(number, lambda *_: None) for number in words}
    previous = signal.set_wakeup_fd(writer.fileno())
    try:
        yield
    finally:
        signal.set_wakeup_fd(previous)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        writer.close()


def _check_arguments(coordinator: str | None, processes: int | None, process: int | None) -> None:
    if None in (coordinator, processes, process):
        raise UserError("--coordinator, --num_processes and --process_id go together")
    host, _, port = coordinator.rpartition(":")
    if not host or not port.isdecimal() or not 1 <= int(port) <= 65535:
        raise UserError(f"--coordinator={coordinator} must be HOST:PORT of process 0 (1 ... 65535)")
    if processes < 1:
        raise UserError(f"--num_processes={processes} must be positive")
    if not 0 <= process < processes:
        raise UserError(f"--process_id={process} must lie in 0 ... {processes - 1}")
    if process == 0:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("", int(port)))
            except OSError as error:
                raise UserError(
                    f"--coordinator={coordinator}: port {port} cannot be opened on this host "
                    f"({error.strerror}); choose another one, for all processes"
                ) from error


def _launcher() -> str | None:
    """What says that there are other processes, if anything does."""
    for name in _COUNTS:
        count = os.environ.get(name, "1")
        if count.isdecimal() and int(count) > 1:
            return f"the {count} processes of {name}"
    if all(name in os.environ for name in _KUBERNETES):
        return "the pods of the Kubernetes Job"
    return None
