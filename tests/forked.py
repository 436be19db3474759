"""Processes of main.py that are forked from one with its libraries loaded, see `main_server`."""

import contextlib
import functools
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading

from tests.main_server import REQUEST_BYTES

# Beginnings of variables that libraries read when they are imported.
_AT_IMPORT = ("FLAX_", "JAX_", "MALLOC_", "OMP_", "OPENBLAS_", "PYTHON", "TF_", "TMPDIR")
_READ_LATER = {"JAX_SKIP_CUDA_CONSTRAINTS_CHECK"}
_ANSWER_S = 300  # within which the server has loaded everything


class Forked:
    """What tests use of `subprocess.Popen`, its output piped."""

    def __init__(self, pid: int, output: int, status: int):
        self.pid = pid
        self.stdout = os.fdopen(output, encoding="utf-8")
        self.returncode = None
        self._status = status

    def poll(self):
        """The status, None while the process runs."""
        return self._ended(0)

    def wait(self, timeout=None):
        """The status once the process has ended."""
        if self._ended(timeout) is None:
            raise subprocess.TimeoutExpired(f"process {self.pid}", timeout)
        return self.returncode

    def communicate(self, timeout=None):
        """What is left of the output, once the process has ended."""
        read = []
        reader = threading.Thread(target=lambda: read.append(self.stdout.read()), daemon=True)
        reader.start()
        reader.join(timeout)
        if reader.is_alive():
            raise subprocess.TimeoutExpired(f"process {self.pid}", timeout)
        self.wait(timeout)
        return read[0], None

    def send_signal(self, number):
        """Sends a signal to a process that still runs."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self):
        """Kills a process that still runs."""
        self.send_signal(signal.SIGKILL)

    def _ended(self, timeout):
        if self.returncode is None and select.select([self._status], [], [], timeout)[0]:
            with os.fdopen(self._status) as told:
                status = told.read()
            if not status:  # the server has ended
                with contextlib.suppress(ProcessLookupError):
                    os.kill(self.pid, signal.SIGKILL)
            self.returncode = int(status or -signal.SIGKILL)
        return self.returncode


def fork(command, environment):
    """Starts main.py's command line with an environment.

    None where the libraries have been loaded with another one, of what they read at that time.
    """
    requests, known = _server()
    if _at_import(environment) != known:
        return None
    (output, to_output), (status, to_status) = os.pipe(), os.pipe()
    message = json.dumps([command, environment]).encode()
    assert len(message) < REQUEST_BYTES
    socket.send_fds(requests, [message], [to_output, to_status])
    os.close(to_output)
    os.close(to_status)
    answer = requests.recv(64)
    assert answer, "the server of runs has ended; its error is above, or with an earlier test"
    return Forked(int(answer), output, status)


@functools.cache
def _server():
    """The socket of the server of this test process, and what it has been started with."""
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.settimeout(_ANSWER_S)
    with its:
        subprocess.Popen(
            [sys.executable, "-u", "-m", "tests.main_server", str(its.fileno())],
            cwd=os.path.dirname(os.path.dirname(__file__)),
            env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},  # it starts threads when it is loaded
            pass_fds=[its.fileno()],
        )
    return ours, _at_import(os.environ)


def _at_import(environment):
    return {
        name: value
        for name, value in environment.items()
        if name.startswith(_AT_IMPORT) and name not in _READ_LATER
    }
