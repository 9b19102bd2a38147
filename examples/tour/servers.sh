#!/usr/bin/env bash
# The two databases of the tour: `./servers.sh start` makes two private PostgreSQL servers in a temporary folder, on the ports
# 7431 and 7432 of this machine alone (CRM_PORT and ERP_PORT choose others), and fills them; `./servers.sh stop` stops them
# and removes the folder.
set -euo pipefail
folder="${TMPDIR:-/tmp}/concord-tour"
crm_port="${CRM_PORT:-7431}" erp_port="${ERP_PORT:-7432}"

programs() {
    if command -v initdb >/dev/null; then dirname "$(command -v initdb)"; return; fi
    local found
    found="$(compgen -G '/usr/lib/postgresql/*/bin/initdb' | sort -V | tail -1)" || { echo "PostgreSQL's server is not installed: make setup" >&2; exit 3; }
    dirname "$found"
}

# A server does not run as root: it is given to the user postgres there.
as_server() {
    if [ "$(id -u)" = 0 ]; then (cd / && runuser -u postgres -- "$@"); else "$@"; fi
}

server() { # name, port, SQL
    local data="$folder/$1"
    as_server "$bin/initdb" --auth=trust --username=postgres --encoding=UTF8 --no-sync -D "$data" >/dev/null
    printf '%s\n' "port = $2" "listen_addresses = '127.0.0.1'" "unix_socket_directories = '$folder'" "wal_level = logical" |
        as_server tee -a "$data/postgresql.conf" >/dev/null
    as_server "$bin/pg_ctl" -D "$data" -l "$data/log" -w start >/dev/null
    psql -qX -h 127.0.0.1 -p "$2" -U postgres -c "CREATE DATABASE $1"
    psql -qX -h 127.0.0.1 -p "$2" -U postgres -d "$1" -v ON_ERROR_STOP=1 -c "$3"
}

start() {
    mkdir "$folder" 2>/dev/null || { echo "the servers run already: ./servers.sh stop" >&2; exit 3; }
    [ "$(id -u)" != 0 ] || chown postgres "$folder"
    server crm "$crm_port" "
        CREATE TABLE accounts (id serial PRIMARY KEY, name text NOT NULL, email text UNIQUE, phone text);
        INSERT INTO accounts (name, email, phone) VALUES
            ('Alder Foods', 'office@alder.example', '+1 617 555 0101'),
            ('Blue Harbour', 'office@blue.example', '+1 617 555 0102'),
            ('Crag Motors', 'office@crag.example', '+1 617 555 0103')"
    server erp "$erp_port" "
        CREATE TABLE customers (customer_no bigserial PRIMARY KEY, company text, email text UNIQUE, tel text);
        INSERT INTO customers (company, email, tel) VALUES
            ('Alder Foods', 'office@alder.example', '+1 617 555 0101'),
            ('Blue Harbour Ltd', 'office@blue.example', '+1 617 555 0102'),
            ('Dune Optics', 'office@dune.example', '+1 617 555 0104')"
    echo "two servers run: crm on port $crm_port, erp on port $erp_port"
}

stop() {
    for name in crm erp; do
        [ ! -d "$folder/$name" ] || as_server "$bin/pg_ctl" -D "$folder/$name" -m fast -w stop >/dev/null || true
    done
    rm -rf "$folder"
    echo "the servers are stopped and their folder is removed"
}

bin="$(programs)"
case "${1:-}" in
start) start ;;
stop) stop ;;
*) echo "usage: $0 start|stop" >&2; exit 2 ;;
esac
