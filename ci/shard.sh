#!/bin/sh
# One shard of a run, for any engine: ci/shard.sh K N DIR [options of run_tests.sh ...]
#
# Ends with 0 when the shard has results, good or bad: the merge judges them, once, with every shard
# at hand. Whatever keeps results from being complete (usage, no hypervisor, a signal) fails here.
# ASSAY_RUN is the command that runs cases [./run_tests.sh].
set -u
[ $# -ge 3 ] || { echo "usage: ci/shard.sh K N DIR [options]" >&2; exit 2; }
k=$1 n=$2 dir=$3
shift 3
# One shard of one needs no cut.
cut="--shard $k/$n"
[ "$n" = 1 ] && cut=
status=0
# shellcheck disable=SC2086 # both hold several words
${ASSAY_RUN:-./run_tests.sh} $cut --output-dir "$dir" --format tap "$@" || status=$?
case $status in
    0 | 1) [ -s "$dir/results.json" ] || { echo "ci/shard.sh: no results in $dir" >&2; exit 2; } ;;
    *) exit $status ;;
esac
