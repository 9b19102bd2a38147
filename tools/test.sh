#!/usr/bin/env bash
# The whole gate: set-up, formatter, linter, dependencies, tests, documentation's tests, simulation. Stops at the first
# step that fails; closes with the counts that the runners printed.
set -euo pipefail
cd "$(dirname "$0")/.."
target_dir="${CARGO_TARGET_DIR:-target}"
mkdir -p "$target_dir"
export PATH="$(cd "$target_dir" && pwd)/tools/bin:$PATH"
closing="$(mktemp)"
output="$(mktemp)"
trap 'rm -f "$closing" "$output"' EXIT

# Runs one step; keeps the lines in which its runner sums up.
step() {
    local name="$1"
    shift
    echo "── $name"
    if ! "$@" 2>&1 | tee "$output"; then
        echo "── $name failed: $*" >&2
        exit 1
    fi
    { grep -aE '^ *Summary \[|^test result:|seeds: every invariant held|licenses ok' "$output" || true; } | sed "s/^ */$name: /" >> "$closing"
}

advisories() {
    if cargo deny --log-level off fetch db 2>/dev/null; then
        cargo deny --log-level error check advisories
    else
        echo "advisories: the database cannot be fetched from here; not checked"
    fi
}

step "set-up" tools/setup.sh
step "format" cargo fmt --all --check
step "clippy" cargo clippy --quiet --workspace --all-targets --all-features -- -D warnings
step "dependencies" cargo deny --log-level error check licenses bans sources
step "advisories" advisories
if command -v cargo-nextest >/dev/null; then
    step "tests" cargo nextest run --workspace --all-features
else
    step "tests" cargo test --workspace --all-features --lib --bins --tests
fi
step "doc tests" cargo test --quiet --workspace --all-features --doc

echo "── all steps passed"
cat "$closing"
