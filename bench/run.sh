#!/usr/bin/env bash
# Installs what the benchmark needs (PostgreSQL 15's server, the peers), builds both binaries in release form and measures.
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
peers=()
[ -e /usr/lib/postgresql/15/lib/pglogical.so ] || peers+=(postgresql-15-pglogical)
command -v pgcopydb >/dev/null || peers+=(pgcopydb)
if [ "${#peers[@]}" -gt 0 ]; then
    echo "bench: installing the peers: ${peers[*]}" >&2
    { as_root apt-get update -qq && as_root env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -qq --no-install-recommends "${peers[@]}" >/dev/null; } \
        || echo "bench: could not install them; as root, run  apt-get install ${peers[*]}" >&2
fi
# A loader from PyPI: its wheel holds nothing but the program.
sling=1.4.11
if [ ! -x "$target_dir/bench-peers/$sling/sling-linux-amd64" ]; then
    echo "bench: fetching the peer sling $sling" >&2
    fetched="$(mktemp -d)"
    if python3 -m pip download --quiet --no-deps --dest "$fetched" "sling-linux-amd64==$sling" >&2 \
        && python3 -m zipfile -e "$fetched"/*.whl "$fetched" ; then
        mkdir -p "$target_dir/bench-peers/$sling"
        install -m 755 "$fetched/sling_linux_amd64/bin/sling-linux-amd64" "$target_dir/bench-peers/$sling/"
    else
        echo "bench: could not fetch it; it is left out" >&2
    fi
    rm -rf "$fetched"
fi
export PATH="$PATH:$(cd "$target_dir" && pwd)/bench-peers/$sling"
cargo build --quiet --release --package concord --package concord-bench --package concord-simulators
exec "$target_dir/release/concord-bench" "$@"
