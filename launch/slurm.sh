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
# Two minutes before the end: time for a checkpoint. Submitted again, the run continues.
#SBATCH --signal=TERM@120
#SBATCH --requeue
set -euo pipefail
srun --cpus-per-task="$SLURM_CPUS_PER_TASK" --kill-on-bad-exit=1 python main.py "$@"
