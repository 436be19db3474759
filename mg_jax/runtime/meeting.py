"""Connects the processes of a run, one per host or one per GPU."""

import contextlib
import faulthandler
import signal
import socket
import sys
import threading
from collections.abc import Iterator

import jax

from mg_jax.errors import UserError, first_line
from mg_jax.machine.exit_status import INTERRUPTED, TERMINATED
from mg_jax.machine.launcher import check_all_given, check_index, launched_together
from mg_jax.runtime import hosts

# Seconds without a sign of life after which a process counts as dead, and the others end.
_HEARTBEAT_S = 30


def connect(coordinator: str | None, processes: int | None, process: int | None) -> None:
    """Joins the other processes of the run; to be called before anything touches a device.

    Without arguments it finds them where SLURM, Open MPI or a Kubernetes Indexed Job has started
    more than one process; otherwise the run has this process alone.

    Args:
      coordinator: HOST:PORT of process 0.
      processes: how many there are.
      process: index of this one.

    Raises:
      UserError: for arguments that do not fit, or if the others cannot be reached.
    """
    launcher = launched_together()
    if (coordinator, processes, process) != (None, None, None):
        _check_arguments(coordinator, processes, process)
        where, others = coordinator, f"the {processes} processes"
    elif launcher:
        where, others = "the host that the launcher's environment names", launcher
    else:
        return
    # That service would handle SIGTERM itself, and Orbax counts steps in another way when it asks.
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
            f"{others} of the run did not meet at {where} ({first_line(error)}); start "
            "the same command on every host, with --coordinator=HOST:PORT --num_processes=N "
            "--process_id=0 ... N-1 where no launcher says so"
        ) from error
    # If another process dies, JAX ends this one; its reason is to be the last that is printed.
    faulthandler.disable()


@contextlib.contextmanager
def _exiting_on_signals() -> Iterator[None]:
    """Ends the process at once after Ctrl-C or SIGTERM.

    The process waits outside of Python, which calls handlers of signals between two statements
    only. So a thread reads the numbers of the signals from a socket instead.
    """
    words = {
        signal.SIGINT: ("interrupted", INTERRUPTED),
        signal.SIGTERM: ("stopped by SIGTERM", TERMINATED),
    }
    reader, writer = socket.socketpair()
    writer.setblocking(False)  # which set_wakeup_fd requires

    def watch() -> None:
        while number := reader.recv(1):
            if number[0] in words:
                said, status = words[number[0]]
                hosts.exit_now(f"{said} before the processes of the run had met", status)

    threading.Thread(target=watch, daemon=True).start()
    # Python's own handlers might come first and would print something else.
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
    check_all_given({"coordinator": coordinator, "num_processes": processes, "process_id": process})
    host, _, port = coordinator.rpartition(":")
    if not host or not port.isdecimal() or not 1 <= int(port) <= 65535:
        raise UserError(f"--coordinator={coordinator} must be HOST:PORT of process 0 (1 ... 65535)")
    check_index(processes, process)
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
