#!/usr/bin/env bash
# Run once, on new data: a database for MLflow and one for Airflow, each with an owner of its own who
# cannot enter the other. psql reads the passwords itself: none is in an argument.
set -euo pipefail
for name in mlflow airflow; do
  psql --quiet --set ON_ERROR_STOP=1 --set name="$name" --username "$POSTGRES_USER" --dbname postgres <<'SQL'
\set secret /run/secrets/postgres- :name -password
\set password `cat :secret`
CREATE ROLE :"name" LOGIN PASSWORD :'password';
CREATE DATABASE :"name" OWNER :"name";
REVOKE ALL ON DATABASE :"name", postgres, template1 FROM PUBLIC;
SQL
done
