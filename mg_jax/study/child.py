"""Becomes a run of main.py on some of the machine's cores, which ends when the study does.

    python -m mg_jax.study.child PARENT CORES MAIN ARGUMENTS...

PARENT is the study's process, CORES numbers with commas between them. A study that is killed cannot
end its runs itself; the kernel sends them SIGTERM then, and they write a checkpoint.
"""

import ctypes
import os
import signal
import sys

from mg_jax.machine.exit_status import TERMINATED

_PR_SET_PDEATHSIG = 1


def main(parent: str, cores: str, *command: str) -> None:
    """Replaces this process by `python COMMAND`."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != int(parent):  # it has ended meanwhile
        sys.exit(TERMINATED)
    os.sched_setaffinity(0, {int(core) for core in cores.split(",")})
    os.execv(sys.executable, [sys.executable, *command])


if __name__ == "__main__":
    main(*sys.argv[1:])
