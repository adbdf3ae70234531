#!/bin/bash
# One job on several nodes of a SLURM cluster: a process for each GPU.
#
#   sbatch --nodes=4 configs/launch/slurm.sh --config=configs/folder.py:PHOTOS --workdir=/shared/runs/photos
#
# What follows the file name goes to `vit_jax train`. The workdir must be on a disk that all nodes
# share. --distributed reads what SLURM says of the job; nothing else need be given.
#SBATCH --job-name=vit_jax
#SBATCH --ntasks-per-node=8
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=12
#SBATCH --time=24:00:00
# SIGTERM five minutes before the time is over: the run saves its step and ends with 143.
#SBATCH --signal=TERM@300
# Begun again after a failure of a node, or by hand, it goes on where it stopped.
#SBATCH --requeue

set -euo pipefail
# One process fails: all end, so that the others do not wait for it.
srun --kill-on-bad-exit=1 vit_jax train --distributed "$@"
