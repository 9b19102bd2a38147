#!/usr/bin/env bash
# Installs what the benchmark needs (PostgreSQL 15's server, the peer), builds both binaries in release form and measures.
# Arguments go to the benchmark: bench/run.sh --quick
set -euo pipefail
cd "$(dirname "$0")/.."
target_dir="${CARGO_TARGET_DIR:-target}"

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"
    elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then sudo -n "$@"
    else return 1
    fi
}

tools/setup.sh --server-only
if [ ! -e /usr/lib/postgresql/15/lib/pglogical.so ]; then
    echo "bench: installing postgresql-15-pglogical (the peer)" >&2
    { as_root apt-get update -qq && as_root env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -qq --no-install-recommends postgresql-15-pglogical >/dev/null; } \
        || echo "bench: could not install it; as root, run  apt-get install postgresql-15-pglogical" >&2
fi
cargo build --quiet --release --package concord --package concord-bench --package concord-simulators
exec "$target_dir/release/concord-bench" "$@"
