#!/usr/bin/env bash
# What the official image's script of this name does, as far as the compose file relies on it: sets
# up an empty folder with POSTGRES_PASSWORD_FILE, runs /docker-entrypoint-initdb.d/* on a server
# that listens on a socket only, then becomes the server.
set -euo pipefail
if [ ! -s "$PGDATA/PG_VERSION" ]; then
  initdb --pgdata "$PGDATA" --username postgres --pwfile "$POSTGRES_PASSWORD_FILE" \
    --auth-local trust --auth-host scram-sha-256 --encoding UTF8 --locale C
  echo "host all all all scram-sha-256" >>"$PGDATA/pg_hba.conf"
  pg_ctl --wait start --options "-c listen_addresses= -c unix_socket_directories=/var/run/postgresql"
  export POSTGRES_USER=postgres
  for script in /docker-entrypoint-initdb.d/*.sh; do bash "$script"; done
  pg_ctl --wait --mode fast stop
fi
[ "${1#-}" = "$1" ] || set -- postgres "$@"
exec "$@" -c listen_addresses='*' -c unix_socket_directories=/var/run/postgresql
