"""The statuses with which a program ends that was stopped: those that shells give for signals.

Job chains go on after status 0 (make, SLURM's afterok), so it is only for what has been done.
"""

import signal

INTERRUPTED = 128 + signal.SIGINT
TERMINATED = 128 + signal.SIGTERM
