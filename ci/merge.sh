#!/bin/sh
# Joins shards and judges the whole: ci/merge.sh OUT SHARD...
#
# The exit code is that of the run that was never cut. With BASELINE (a run directory, results.json or
# TAP file) it also fails on a regression, and compare.md and compare.html say what changed.
# ASSAY is the runner [target/release/assay].
set -u
[ $# -ge 2 ] || { echo "usage: ci/merge.sh OUT SHARD..." >&2; exit 2; }
out=$1
shift
assay=${ASSAY:-target/release/assay}
status=0
$assay merge "$@" --output-dir "$out" --format pretty || status=$?
case $status in 0 | 1) ;; *) exit $status ;; esac
$assay report "$out" -o html="$out/report.html" -o markdown="$out/summary.md" || exit 2
if [ -n "${BASELINE:-}" ]; then
    $assay compare "$BASELINE" "$out" --markdown >"$out/compare.md" || exit 2
    $assay compare "$BASELINE" "$out" --html "$out/compare.html" --fail-on regression || status=$?
fi
exit $status
