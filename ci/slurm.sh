#!/bin/sh
# A Slurm array: one task per shard, and a job that merges when all are done.
#
#   sbatch --array=1-8 ci/slurm.sh            # options for run_tests.sh may follow
#   sbatch --dependency=afterany:JOB --export=ALL,ASSAY_MERGE=1 ci/slurm.sh
#
#SBATCH --job-name=assay
#SBATCH --cpus-per-task=4
#SBATCH --time=01:00:00
set -eu
out=${ASSAY_OUT:-assay-slurm}
if [ -n "${ASSAY_MERGE:-}" ]; then
    exec ci/merge.sh "$out/merged" "$out"/shard-*
fi
k=$SLURM_ARRAY_TASK_ID
n=${SLURM_ARRAY_TASK_COUNT:?run this as an array, sbatch --array=1-N}
exec ci/shard.sh "$k" "$n" "$out/shard-$k" -j "${SLURM_CPUS_PER_TASK:-1}" "$@"
