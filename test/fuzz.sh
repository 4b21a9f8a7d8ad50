#!/bin/bash
# Runs every fuzz target of the tree for the time given (60s by default). Each
# package is built once for all its targets.
set -u
# The fuzzer of Go 1.26 now and then fails with a bare "context deadline exceeded"
# when its time ends, without any input (https://go.dev/issue/75804). Then, and only
# then, the target is run once more.
late() { grep -q 'context deadline exceeded' "$1" && ! grep -q 'Failing input' "$1"; }
time=${1:-60s}
status=0
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
for dir in $(git ls-files '*_test.go' | xargs grep -l '^func Fuzz' | xargs -n1 dirname | sort -u); do
  if ! go test -c -fuzz=. -o "$work/fuzz.test" "./$dir" >"$work/log" 2>&1; then
    cat "$work/log"
    status=1
    continue
  fi
  for target in $(git ls-files "$dir/*_test.go" | xargs sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\)(.*/\1/p'); do
    echo "fuzz ./$dir $target $time"
    run() { (cd "$dir" && "$work/fuzz.test" -test.run '^$' -test.fuzz "^$target\$" -test.fuzztime "$time" -test.fuzzminimizetime 10x -test.fuzzcachedir "$work/cache/$dir") >"$work/log" 2>&1; }
    run || { late "$work/log" && run; } || { cat "$work/log"; status=1; }
  done
done
exit $status
