"""Forks processes of main.py from one that has loaded its libraries, which takes seconds.

`python -u -m tests.main_server FD` serves the socket FD: a request is a JSON list of a command line
and an environment, with two pipes: for what the process prints, and for its status once it has
ended. The answer is its process ID.
"""

import contextlib
import gc
import json
import os
import runpy
import selectors
import socket
import sys

from mg_jax.machine import environment
from mg_jax.runtime.allocator import keep_freed_memory

REQUEST_BYTES = 1 << 17


def load() -> None:
    """Imports what trains and evaluates; nothing of it opens a device or starts a thread."""
    environment.set_defaults()
    keep_freed_memory()  # which has no effect once JAX and TensorFlow are loaded
    import mg_jax.training.evaluate_checkpoint
    import mg_jax.training.loop  # noqa: F401

    gc.freeze()  # looking through what is there would copy its pages in each fork


def serve(requests: socket.socket) -> list[str]:
    """Forks for every request; returns its command line, in the forked process alone."""
    running: dict[int, tuple[int, int]] = {}  # by pidfd: the process and the pipe for its status
    ready = selectors.DefaultSelector()
    ready.register(requests, selectors.EVENT_READ)
    while True:
        for key, _ in ready.select():
            if key.fd in running:
                ready.unregister(key.fd)
                tell_status(key.fd, *running.pop(key.fd))
                continue
            message, fds, *_ = socket.recv_fds(requests, REQUEST_BYTES, 2)
            if not message:
                sys.exit()
            output, status = fds
            command, variables = json.loads(message)
            pid = os.fork()
            if pid == 0:
                ready.close()
                requests.close()
                for fd in (status, *running, *(pipe for _, pipe in running.values())):
                    os.close(fd)
                become(output, variables)
                return command
            os.close(output)
            pidfd = os.pidfd_open(pid)
            running[pidfd] = pid, status
            ready.register(pidfd, selectors.EVENT_READ)
            requests.send(str(pid).encode())


def tell_status(pidfd: int, pid: int, pipe: int) -> None:
    """Writes the status of a process that has ended, as `subprocess` has it."""
    ended = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    status = ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status
    with contextlib.suppress(BrokenPipeError), os.fdopen(pipe, "w") as told:
        told.write(str(status))
    # Until here it can be sent signals, as a process whose end nobody has asked for.
    os.waitpid(pid, 0)
    os.close(pidfd)


def become(output: int, variables: dict[str, str]) -> None:
    """Gives this process another output and environment."""
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.close(output)
    os.environ.clear()
    os.environ.update(variables)


if __name__ == "__main__":
    load()
    # A fork would lose a library's threads, and keep what they have locked.
    assert len(os.listdir("/proc/self/task")) == 1
    sys.argv = serve(socket.socket(fileno=int(sys.argv[1])))
    runpy.run_path(sys.argv[0], run_name="__main__")
