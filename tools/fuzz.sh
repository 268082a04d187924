#!/bin/sh
# Runs every fuzz target of the tree for the given time.
set -eu
time=${1:-20s}
grep -rl --include='*_test.go' '^func Fuzz' . | xargs -n1 dirname | sort -u | while read -r dir; do
    grep -h -o '^func Fuzz[A-Za-z0-9_]*' "$dir"/*_test.go | sed 's/func //' | while read -r target; do
        echo "== $dir $target"
        go test -tags nolibopusfile -run '^$' -fuzz "^$target\$" -fuzztime "$time" "$dir" </dev/null
    done
done
