#!/bin/bash
# Runs every fuzz target of the tree for the time given (60s by default).
set -u
time=${1:-60s}
status=0
for file in $(git ls-files '*_test.go' | xargs grep -l '^func Fuzz'); do
  for target in $(sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\)(.*/\1/p' "$file"); do
    echo "fuzz ./$(dirname "$file") $target $time"
    go test -run '^$' -fuzz "^$target\$" -fuzztime "$time" "./$(dirname "$file")" >/tmp/privyseal-fuzz.$$ 2>&1 || { cat /tmp/privyseal-fuzz.$$; status=1; }
  done
done
rm -f /tmp/privyseal-fuzz.$$
exit $status
