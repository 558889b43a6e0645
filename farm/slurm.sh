#!/bin/bash
# Renders a manifest as a SLURM array:
#   sbatch --array=1-8 farm/slurm.sh shots.jsonl [options of render]
# The array counts from 1. Each task skips what is finished, so that a task that was ended may be started again:
#   scontrol requeue JOB_TASK (a new array with fewer tasks would divide the manifest differently)
#SBATCH --job-name=animatediff
#SBATCH --gres=gpu:1
#SBATCH --cpus-per-task=4
#SBATCH --mem=24G
#SBATCH --time=08:00:00
#SBATCH --requeue
manifest=$1
shift
shard="$SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_COUNT"
"${PYTHON:-python}" -m lib_animatediff render "$manifest" --shard "$shard" "$@"
code=$?
# 3: all is done but rows that cannot be rendered, which failed-I-of-N.jsonl lists.
[ "$code" -eq 3 ] && exit 0
exit "$code"
