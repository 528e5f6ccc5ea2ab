#!/bin/sh
# Every consumer reads the same out of a TAP stream: ci/tap-consumers.sh results.tap [ktap file]
#
# prove (perl), tap.py (pip install tap.py), and the result grammar of the kernel's KUnit parser for KTAP.
# A consumer that is not installed is named and left out, unless ASSAY_REQUIRE_CONSUMERS is set.
set -eu
tap=$1
ktap=${2:-}
absent() {
    echo "tap-consumers: no $1 here: left out" >&2
    [ -z "${ASSAY_REQUIRE_CONSUMERS:-}" ] || exit 2
}
# What is neither ok nor known nor skipped, by the plainest reading there is.
bad=$(awk '/^not ok /&&!/# TODO/{n++} END{print n+0}' "$tap")
all=$(awk '/^(not )?ok /{n++} END{print n+0}' "$tap")
if command -v prove >/dev/null; then
    said=$(prove --exec cat "$tap" 2>&1) && status=0 || status=1
    case $said in *"Parse errors"*) echo "$said"; exit 1 ;; esac
    case $said in *"Tests=$all"* | *"Tests: $all "*) ;; *) echo "$said"; exit 1 ;; esac
    [ $status = 0 ] && [ "$bad" = 0 ] || [ $status = 1 ] && [ "$bad" != 0 ] || { echo "$said"; exit 1; }
    echo "prove: $all tests"
else
    absent prove
fi
if python3 -c 'import tap' 2>/dev/null; then
    python3 - "$tap" "$all" "$bad" <<'PYTHON'
import sys
from tap.parser import Parser
file, every, bad = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
lines = list(Parser().parse_file(file))
tests = [l for l in lines if l.category == "test"]
strange = [l for l in lines if l.category == "unknown"]
failed = [t for t in tests if not t.ok and not t.todo and not t.skip]
plans = [l for l in lines if l.category == "plan"]
assert len(plans) == 1 and plans[0].expected_tests == every, "plan"
assert len(tests) == every and len(failed) == bad, (len(tests), len(failed))
try:
    import more_itertools, yaml
    assert not strange, len(strange)
except ImportError:
    pass  # then it takes the lines of blocks for unknown ones
assert [t.number for t in tests] == list(range(1, every + 1)), "numbers"
print(f"tap.py: {every} tests")
PYTHON
else
    absent tap.py
fi
if [ -n "$ktap" ]; then
    python3 - "$ktap" "$all" "$bad" <<'PYTHON'
import re
import sys
file, every, bad = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
result = re.compile(r"^(\s*)(ok|not ok) ([0-9]+) (?:- )?([^#]*)( # .*)?$")
seen = failed = 0
for line in open(file):
    line = line.rstrip("\n")
    match = result.match(line)
    if match and match[1]:
        seen += 1
        failed += match[2] == "not ok"
    elif not match and not re.match(r"^\s*(KTAP version 1|1\.\.[0-9]+|#.*)$", line):
        sys.exit(f"KTAP: {line}")
assert (seen, failed) == (every, bad), (seen, failed)
print(f"KTAP: {every} tests")
PYTHON
fi
