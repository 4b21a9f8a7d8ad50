#!/bin/bash
# Runs every fuzz target of the tree for the time given (60s by default). Each
# package is built once for all its targets.
set -u
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
    (cd "$dir" && "$work/fuzz.test" -test.run '^$' -test.fuzz "^$target\$" -test.fuzztime "$time" -test.fuzzcachedir "$work/cache/$dir") \
      >"$work/log" 2>&1 || { cat "$work/log"; status=1; }
  done
done
exit $status
