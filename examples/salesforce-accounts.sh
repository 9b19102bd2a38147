#!/usr/bin/env bash
# The two systems of salesforce-accounts.json, on this machine alone: `./salesforce-accounts.sh start` starts a simulated org
# (ports 7440 and 7443; SF_PORT and SF_EVENTS_PORT choose others) and a private PostgreSQL server (port 7433; ERP_PORT chooses
# another) with some accounts each, and keeps their files in ./salesforce-accounts; `./salesforce-accounts.sh stop` stops both
# and removes that folder.
set -euo pipefail
folder="$PWD/salesforce-accounts" data="${TMPDIR:-/tmp}/concord-salesforce-accounts"
sf_port="${SF_PORT:-7440}" events_port="${SF_EVENTS_PORT:-7443}" erp_port="${ERP_PORT:-7433}"

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

database() {
    mkdir "$data" 2>/dev/null || { echo "the database runs already: ./salesforce-accounts.sh stop" >&2; exit 3; }
    [ "$(id -u)" != 0 ] || chown postgres "$data"
    as_server "$bin/initdb" --auth=trust --username=postgres --encoding=UTF8 --no-sync -D "$data/erp" >/dev/null
    printf '%s\n' "port = $erp_port" "listen_addresses = '127.0.0.1'" "unix_socket_directories = '$data'" "wal_level = logical" |
        as_server tee -a "$data/erp/postgresql.conf" >/dev/null
    as_server "$bin/pg_ctl" -D "$data/erp" -l "$data/log" -w start >/dev/null
    psql -qX -h 127.0.0.1 -p "$erp_port" -U postgres -c "CREATE DATABASE erp"
    psql -qX -h 127.0.0.1 -p "$erp_port" -U postgres -d erp -v ON_ERROR_STOP=1 -c "
        CREATE TABLE accounts (
            id serial PRIMARY KEY, sf_id varchar(18) UNIQUE, account_name varchar(255) NOT NULL, industry_type varchar(255),
            annual_revenue decimal(18,2), last_modified timestamptz, last_sync timestamptz);
        INSERT INTO accounts (account_name, industry_type, annual_revenue) VALUES
            ('Dune Optics', 'Technology', 2500000), ('Elm Textiles', 'Apparel', 900000)"
}

org() {
    command -v concord-sim-salesforce >/dev/null || { echo "concord-sim-salesforce is not on the path: cargo build --package concord-simulators" >&2; exit 3; }
    mkdir "$folder" 2>/dev/null || { echo "the org runs already: ./salesforce-accounts.sh stop" >&2; exit 3; }
    (umask 077 && printf 'simulated-secret' > "$folder/client-secret")
    echo '{"validation": [{"object": "Account", "when": "AnnualRevenue < 0", "field": "AnnualRevenue", "message": "Annual revenue is never below zero"}]}' > "$folder/rules.json"
    nohup concord-sim-salesforce --http "127.0.0.1:$sf_port" --pubsub "127.0.0.1:$events_port" \
        --ca-out "$folder/ca.pem" --rules "$folder/rules.json" > "$folder/addresses.json" 2> "$folder/log" < /dev/null &
    echo $! > "$folder/pid"
    until [ -s "$folder/addresses.json" ]; do
        kill -0 "$(cat "$folder/pid")" 2>/dev/null || { cat "$folder/log" >&2; rm -rf "$folder"; exit 3; }
        sleep 0.05
    done
    person '{"do": "create", "object": "Account", "records": [
        {"Name": "Alder Foods", "Industry": "Food & Beverage", "AnnualRevenue": 1200000},
        {"Name": "Blue Harbour", "Industry": "Shipping", "AnnualRevenue": 3400000},
        {"Name": "Crag Motors", "Industry": "Manufacturing"}]}' >/dev/null
}

# What somebody does in the browser.
person() {
    local status=0
    exec 3<>"/dev/tcp/127.0.0.1/$sf_port"
    printf 'POST /_sim/person HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nContent-Length: %s\r\n\r\n%s' "$(printf %s "$1" | wc -c)" "$1" >&3
    cat <&3 | tail -1 || status=$?
    exec 3>&-
    echo
    return $status
}

stop() {
    [ ! -d "$data/erp" ] || as_server "$bin/pg_ctl" -D "$data/erp" -m fast -w stop >/dev/null || true
    [ ! -e "$folder/pid" ] || kill "$(cat "$folder/pid")" 2>/dev/null || true
    rm -rf "$data" "$folder"
    echo "both are stopped and their folders are removed"
}

bin="$(programs)"
case "${1:-}" in
start)
    org
    database
    echo "a simulated org runs on port $sf_port, the database erp on port $erp_port"
    ;;
stop) stop ;;
person) person "$2" ;;
*) echo "usage: $0 start|stop|person JSON" >&2; exit 2 ;;
esac
