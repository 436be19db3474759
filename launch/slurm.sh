#!/usr/bin/env bash
# sbatch launch/slurm.sh --config=configs/kinetics_slowfast.py --workdir=/shared/DIR
# One task to a GPU; they find each other by SLURM's environment. The work directory lies on a file
# system that all nodes share; the data may lie on each node's own disk.
#SBATCH --job-name=mg_jax
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=8
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
# Two minutes before the end, to the processes and not to this script: time for a checkpoint.
#SBATCH --signal=TERM@120
#SBATCH --requeue
set -euo pipefail
status=0
# Where a process fails the others miss it by themselves; killed for it they would end as if stopped.
srun --cpus-per-task="$SLURM_CPUS_PER_TASK" --kill-on-bad-exit=0 python main.py "$@" || status=$?
# Stopped by SIGTERM, with a checkpoint: back into the queue, where jobs that wait for this one (afterok)
# go on waiting. Any other status but 0 is an error; submitted again, the run continues as well.
if [ "$status" -eq 143 ]; then
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"
