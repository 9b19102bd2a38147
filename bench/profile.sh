#!/usr/bin/env bash
# Says where the time goes: samples Concord, the source's server and the target's server while the one-way benchmark runs, and
# prints the parts by process and by function for each of its works: full load, catching up by 1,000 and by one, single changes as
# they come. Arguments go to the benchmark:
#   bench/profile.sh                          a million records, Concord alone
#   bench/profile.sh --rows 100000            fewer
#   bench/profile.sh --only "PostgreSQL's own"    another contender
# Needs Linux's perf (Debian's package linux-perf). It samples the processor's clock, which every machine has; frames of functions
# that the linker put into others stand for these. TOP=40 prints more functions. The reports stay in bench/results/profile.
set -euo pipefail
cd "$(dirname "$0")/.."
out="bench/results/profile"

if ! command -v perf >/dev/null; then
    echo "profile: installing linux-perf" >&2
    { apt-get update -qq && apt-get install -y -qq --no-install-recommends linux-perf >/dev/null; } \
        || { echo "profile: as root, run  apt-get install linux-perf" >&2; exit 1; }
fi
rm -rf "$out"
mkdir -p "$out"
only=(--only "Concord, mirror mode")
for argument in "$@"; do [ "$argument" != --only ] || only=(); done

# What the benchmark marks of a work, and what perf samples, are of one clock.
perf record --quiet -e cpu-clock -F 499 -a -k CLOCK_MONOTONIC -o "$out/perf.data" -- \
    bench/run.sh --one-way --runs 1 "${only[@]}" --marks "$out/marks.tsv" --results "$out" "$@"
perf script --show-task-events -F comm,pid,tid,time,event,ip,sym,dso -i "$out/perf.data" 2>/dev/null \
    | python3 bench/profile.py "$out/marks.tsv" "${TOP:-25}" | tee "$out/profile.md"
rm -f "$out/perf.data"
