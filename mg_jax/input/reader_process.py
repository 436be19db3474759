"""Starts a process that reads clips, and tells why it ended."""

import dataclasses
import os
import pathlib
import signal
import subprocess
import sys

_ROOT = pathlib.Path(__file__).parents[2]
_SHOWN_LINES, _SHOWN_BYTES = 10, 2048  # of what a reader that could not start has said


@dataclasses.dataclass(frozen=True)
class ReaderProcess:
    """A process that runs `mg_jax.input.reader`.

    Attributes:
      process: the process.
      alive: a descriptor that is ready to be read once it has ended; old kernels have no pidfd.
      said: the descriptor of a file in memory: what it has written to stderr until it had started.
    """

    process: subprocess.Popen
    alive: int
    said: int

    def close(self) -> None:
        """Closes the descriptors."""
        os.close(self.alive)
        os.close(self.said)

    def describe_end(self) -> str:
        """What has become of the process, and what to do about it."""
        status, name = self.process.wait(), f"input reader {self.process.pid}"
        goes_on = "the same command continues from the newest checkpoint"
        if status >= 0:
            said = self._last_words()
            if said:
                return f"{name} could not start, its status is {status}; it said\n{said}"
            return f"{name} ended with status {status}; {goes_on}"
        how = f"was killed by {signal.Signals(-status).name}"
        if status == -signal.SIGKILL:
            how += ", perhaps since memory ran out; fewer --config.run.readers need less"
        return f"{name} {how}; {goes_on}"

    def _last_words(self) -> str:
        size = os.fstat(self.said).st_size
        content = os.pread(self.said, _SHOWN_BYTES, max(size - _SHOWN_BYTES, 0))
        return "\n".join(content.decode(errors="replace").rstrip().splitlines()[-_SHOWN_LINES:])


def start_reader(tasks: int, answers: int) -> ReaderProcess:
    """Starts a reader.

    Args:
      tasks: descriptor of the pipe that it takes its tasks from.
      answers: descriptor of the pipe that it answers to.

    Raises:
      OSError: if it cannot be started.
    """
    path = os.pathsep.join(filter(None, [str(_ROOT), os.environ.get("PYTHONPATH")]))
    # Each works at one thing at a time.
    alone = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    alive, held = os.pipe()
    said, stderr = os.memfd_create("mg_jax_stderr"), os.dup(2)
    module = "mg_jax.input.reader"
    try:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", module, str(tasks), str(answers), str(stderr)],
            env={**os.environ, **alone, "PYTHONPATH": path},
            stdin=subprocess.DEVNULL,
            stderr=said,
            pass_fds=(tasks, answers, held, stderr),
        )
    except BaseException:
        os.close(alive)
        os.close(said)
        raise
    finally:
        os.close(held)
        os.close(stderr)
    return ReaderProcess(process, alive, said)
