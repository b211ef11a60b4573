#!/bin/bash
# As the official image does it: an empty folder is made a database, and scripts are run once.
set -euo pipefail
shopt -s nullglob
if [ ! -s "$PGDATA/PG_VERSION" ]; then
    PGPASSWORD=$(< "$POSTGRES_PASSWORD_FILE")
    export PGPASSWORD POSTGRES_USER=${POSTGRES_USER:-postgres}
    mkdir -p "$PGDATA"
    # shellcheck disable=SC2086  # arguments, not one
    initdb --username="$POSTGRES_USER" --pwfile="$POSTGRES_PASSWORD_FILE" $POSTGRES_INITDB_ARGS
    printf '\nhost all all all %s\n' "$POSTGRES_HOST_AUTH_METHOD" >> "$PGDATA/pg_hba.conf"
    pg_ctl -w start -o "-c listen_addresses=''"
    psql -v ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname postgres \
        -c "create database \"$POSTGRES_DB\""
    for script in /docker-entrypoint-initdb.d/*; do
        "$script"
    done
    pg_ctl -w -m fast stop
    unset PGPASSWORD
fi
exec "$@" -c listen_addresses='*'
