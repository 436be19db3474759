"""Starts a run of main.py on some of the machine's cores, which ends when the study does.

    python -m mg_jax.study.run_process PARENT CORES MAIN ARGUMENTS...

PARENT is the id of the study's process, CORES are numbers separated by commas. If the study is
killed and so cannot stop its runs, the kernel sends them SIGTERM, and they write a checkpoint.
"""

import ctypes
import os
import signal
import sys

from mg_jax.machine.exit_status import TERMINATED

_PR_SET_PDEATHSIG = 1


def main(parent: str, cores: str, *command: str) -> None:
    """Replaces this process by `python COMMAND`; ends if the process `parent` has ended."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != int(parent):  # the study has ended meanwhile
        sys.exit(TERMINATED)
    os.sched_setaffinity(0, {int(core) for core in cores.split(",")})
    os.execv(sys.executable, [sys.executable, *command])


if __name__ == "__main__":
    main(*sys.argv[1:])
