#!/usr/bin/env bash
# Runs the fuzz targets, one after another. From anywhere: integration/fuzz.sh [REGEXP], which is matched with "package target".
# FUZZ says how long each runs: a time such as 1h, or a number of inputs such as 3000x (the default).
# FUZZ_ALL, in seconds, is shared out among all of them instead: FUZZ_ALL=3600 integration/fuzz.sh.
# An input that fails is left in the package's testdata/fuzz; commit it with the fix.
set -euo pipefail
cd "$(dirname "$0")/.."
targets=()
for package in $(go list ./...); do
  for target in $(go test -list '^Fuzz' "$package" | grep '^Fuzz' || true); do
    if [[ "$package $target" =~ ${1:-.} ]]; then targets+=("$package $target"); fi
  done
done
if [ ${#targets[@]} = 0 ]; then echo "no fuzz target matches $1" >&2; exit 1; fi
each=${FUZZ:-3000x}
if [ -n "${FUZZ_ALL:-}" ]; then each=$((FUZZ_ALL / ${#targets[@]} + 1))s; fi
failed=()
log=$(mktemp)
trap 'rm -f "$log"' EXIT
# late says that nothing failed but the end of the time, which Go before 1.27 may take for a failure: https://go.dev/issue/75804
late() { grep -qx '    context deadline exceeded' "$log" && ! grep -q 'Failing input' "$log"; }
for line in "${targets[@]}"; do
  read -r package target <<<"$line"
  echo "-- $target for $each"
  if ! go test -run '^$' -fuzz "^$target\$" -fuzztime "$each" -fuzzminimizetime 100x -parallel 2 "$package" >"$log" 2>&1 && ! late; then failed+=("$line"); fi
  grep -v '^fuzz: elapsed' "$log"
done
if [ ${#failed[@]} -gt 0 ]; then printf 'failed: %s\n' "${failed[@]}" >&2; exit 1; fi
