"""The processes of a run, one to a host or to a GPU: how they meet, agree, and part."""

import faulthandler
import os
import pathlib
import secrets
import signal
import socket
import sys
import time
import zlib
from collections.abc import Callable
from functools import partial
from typing import NoReturn

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding

from mg_jax import parallel

# What a job's launcher sets where it has started more than one process.
_COUNTS = ("SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE")
_KUBERNETES = ("KUBERNETES_SERVICE_HOST", "JOB_COMPLETION_INDEX")
# Seconds until a process that gives no sign of life counts as dead, and the others end.
_HEARTBEAT_S = 30
# Bytes of a message that the first process spreads.
_MESSAGE = 2048
# Seconds that a network file system may take to show the first process's file to the others.
_SHARED_S = 20


def connect(coordinator: str | None, processes: int | None, process: int | None) -> None:
    """Joins the other processes of the run; to be called before anything touches a device.

    Without arguments it finds them where SLURM, Open MPI or a Kubernetes Indexed Job has started
    more than one process; otherwise the run has this process alone.

    Args:
      coordinator: HOST:PORT of process 0.
      processes: how many there are.
      process: number of this one.

    Raises:
      ValueError: for arguments that do not do, or if the others cannot be reached.
    """
    launcher = _launcher()
    if (coordinator, processes, process) != (None, None, None):
        _check_arguments(coordinator, processes, process)
        where, others = coordinator, f"the {processes} processes"
    elif launcher:
        where, others = "the host that the launcher's environment names", launcher
    else:
        return
    print(f"waiting for {others} of the run to meet at {where}", file=sys.stderr, flush=True)
    # It would take SIGTERM for itself, and Orbax asks it by another count of steps than we would.
    jax.config.update("jax_enable_preemption_service", False)
    # Waiting happens outside of Python, where its handler for Ctrl-C would wait along.
    interrupt = signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        jax.distributed.initialize(
            coordinator, processes, process, heartbeat_timeout_seconds=_HEARTBEAT_S
        )
    except (RuntimeError, ValueError) as error:
        raise ValueError(
            f"{others} of the run did not meet at {where} ({str(error).splitlines()[0]}); start "
            "the same command on every host, with --coordinator=HOST:PORT --num_processes=N "
            "--process_id=0 ... N-1 where no launcher says so"
        ) from error
    finally:
        signal.signal(signal.SIGINT, interrupt)
    # If another process dies JAX ends this one, and its reason is to be the last that is printed.
    faulthandler.disable()


def _check_arguments(coordinator: str | None, processes: int | None, process: int | None) -> None:
    if None in (coordinator, processes, process):
        raise ValueError("--coordinator, --num_processes and --process_id go together")
    host, _, port = coordinator.rpartition(":")
    if not host or not port.isdecimal() or not 1 <= int(port) <= 65535:
        raise ValueError(
            f"--coordinator={coordinator} must be HOST:PORT of process 0 (1 ... 65535)"
        )
    if processes < 1:
        raise ValueError(f"--num_processes={processes} must be positive")
    if not 0 <= process < processes:
        raise ValueError(f"--process_id={process} must lie in 0 ... {processes - 1}")
    if process == 0:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("", int(port)))
            except OSError as error:
                raise ValueError(
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


def is_first() -> bool:
    """Whether this is the process that prints and writes for all."""
    return jax.process_index() == 0


def say(text: str) -> None:
    """Prints a line, once for all processes."""
    if is_first():
        print(text, flush=True)


def agree(check: Callable[[], None]) -> None:
    """Runs a check on the first process; what it raises, all processes raise.

    Raises:
      ValueError: that of the check, as does OSError.
    """
    error = None
    if is_first():
        try:
            check()
        except (ValueError, OSError) as refused:
            error = refused
    message = _spread(str(error) if error else "")
    if message:
        raise error or ValueError(message)


def check_same(text: str, what: str) -> None:
    """Makes sure that all processes have the same text.

    Raises:
      ValueError: where they do not.
    """
    if jax.process_count() == 1:
        return
    checksums = multihost_utils.process_allgather(np.array(zlib.crc32(text.encode()), np.uint32))
    differing = ", ".join(map(str, np.flatnonzero(checksums != checksums[0])))
    if differing:
        raise ValueError(
            f"{what} of process {differing} is not that of process 0; start the same command on "
            "every host"
        )


def check_shared(folder: pathlib.Path) -> None:
    """Makes sure that all processes see the same folder, which exists on the first.

    Raises:
      ValueError: where they do not.
    """
    if jax.process_count() == 1:
        return
    name = _spread(f".seen_by_all_{secrets.token_hex(8)}")
    path = folder / name
    if is_first():
        path.touch()
    multihost_utils.sync_global_devices("the first process has made its file")
    patience = time.monotonic() + _SHARED_S
    while not (seen := path.exists()) and time.monotonic() < patience:
        time.sleep(0.1)
    seen = multihost_utils.process_allgather(np.array(seen))
    if is_first():
        path.unlink()
    if not seen.all():
        blind = ", ".join(map(str, np.flatnonzero(~seen)))
        raise ValueError(
            f"--workdir={folder} is another folder on process {blind} than on process 0; it must "
            "lie on a file system that all hosts share"
        )


def barrier(name: str) -> None:
    """Waits until all processes are here."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)


def total(count: int) -> int:
    """The sum of a number over the processes."""
    if jax.process_count() == 1:
        return count
    return int(multihost_utils.process_allgather(np.array(count)).sum())


def any_of(flag: bool, mesh: Mesh) -> jax.Array:
    """Whether any process says so, to be read later: a bool on every device of the mesh."""
    flags_D = np.full(jax.local_device_count(), flag)
    return _any(parallel.shard(flags_D, mesh), mesh)


@partial(jax.jit, static_argnums=1)
def _any(flags_D: jax.Array, mesh: Mesh) -> jax.Array:
    sharding = NamedSharding(mesh, parallel.REPLICATED)
    return lax.with_sharding_constraint(jnp.any(flags_D), sharding)


def part() -> NoReturn:
    """Ends the process in good order, with status 0, as all processes do."""
    if jax.distributed.is_initialized():
        jax.distributed.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    # Else Python waits for the compiler.
    os._exit(0)


def leave(message: str) -> NoReturn:
    """Prints a message and ends the process at once, with status 1.

    The orderly way waits for the compiler, and for minutes for processes that may not come.
    """
    sys.stdout.flush()
    print(message, file=sys.stderr, flush=True)
    os._exit(1)


def _spread(text: str) -> str:
    """The first process's text, on every process."""
    if jax.process_count() == 1:
        return text
    content = np.zeros(_MESSAGE, np.uint8)
    encoded = np.frombuffer(text.encode()[:_MESSAGE], np.uint8)
    content[: len(encoded)] = encoded
    content = np.asarray(multihost_utils.broadcast_one_to_all(content))
    return content.tobytes().rstrip(b"\0").decode(errors="ignore")
