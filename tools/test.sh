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

# The server on which the tests run unless told otherwise: the newest that the distribution has.
ordinary_postgres() {
    local place
    for place in $(compgen -G '/usr/lib/postgresql/*/bin/postgres' | sort -Vr); do
        "$place" --version
        return
    done
    echo "no PostgreSQL"
}

# What keeps another release of PostgreSQL from being used here; nothing when nothing does. A server does not run as root.
postgres_is_missing() {
    local server="$1/postgres" as=()
    [ "$(id -u)" != 0 ] || as=(runuser -u postgres --)
    [ -x "$server" ] || { echo "it is not installed (see the set-up above)"; return; }
    "${as[@]}" "$server" --version >/dev/null 2>&1 || echo "$server cannot be started by ${as[2]:-this user}"
}

# The connector's contract and its own tests once more, on another release of the server.
on_postgres() {
    export PG_BIN="$1"
    if command -v cargo-nextest >/dev/null; then
        cargo nextest run --workspace --all-features -E 'binary(postgres) | (binary(contract) & test(/^postgres::/))'
    else
        cargo test --workspace --all-features --test postgres
        cargo test --workspace --all-features --test contract postgres::
    fi
}

# What keeps the story of the full disk from being told here (crates/concord/tests/stories/disk.rs); nothing when nothing does.
full_disk_is_missing() {
    local folder
    folder="$(mktemp -d)"
    if mount -t tmpfs -o size=1m tmpfs "$folder" 2>/dev/null; then
        umount --lazy "$folder"
    else
        echo "a disk of its own cannot be mounted here, which takes root"
    fi
    rmdir "$folder" 2>/dev/null || true
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
echo "tests: on $(ordinary_postgres)" >> "$closing"
why="$(full_disk_is_missing)"
[ -z "$why" ] || echo "── the test of a full disk beneath the store left out: $why" | tee -a "$closing"
for release in 14 18; do
    programs="$(cd "$target_dir" && pwd)/tools/postgres-$release/bin"
    why="$(postgres_is_missing "$programs")"
    if [ -z "$why" ]; then
        step "tests on PostgreSQL $release" on_postgres "$programs"
    else
        echo "── tests on PostgreSQL $release left out: $why" | tee -a "$closing"
    fi
done
step "doc tests" cargo test --quiet --workspace --all-features --doc

echo "── all steps passed"
cat "$closing"
