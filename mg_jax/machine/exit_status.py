"""Exit statuses of a program that a signal has stopped, as shells have them: 128 + signal number.

Status 0 is for finished work alone: job chains (make, SLURM's afterok) go on after it.
"""

import signal

INTERRUPTED = 128 + signal.SIGINT
TERMINATED = 128 + signal.SIGTERM
