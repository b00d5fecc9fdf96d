#!/usr/bin/env bash
# sbatch configs/accelerate/slurm.sh translation/multi30k output_dir=runs/multi30k
# Two machines of four GPUs, one process for each GPU. `sbatch --nodes=4 ...` asks for more; every machine must see the
# data and output_dir. Before its time is up the run saves, and the job queues up again to go on.
#SBATCH --job-name=vanilla
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=4
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=8
#SBATCH --time=04:00:00
#SBATCH --signal=B:USR1@300
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.log
set -uo pipefail

out_of_time=
stop_and_requeue() {
  out_of_time=1
  scancel --signal=TERM "$SLURM_JOB_ID" # reaches the processes of srun, which save and end, but not this script
}
trap stop_and_requeue USR1

# A process that ends badly takes the others along, which would wait for it.
srun --kill-on-bad-exit=1 vanilla train "$@" resume=if_available &
run=$!
wait "$run"
status=$?
if [[ -n $out_of_time ]]; then
  wait "$run" # the signal ended the first wait, not the run
  status=$?
  [[ $status -eq 0 ]] && scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"
