#!/bin/bash
# Run once by the database's image, when its volume is empty: makes the owner of the schema,
# who migrates, and the user that roles run as, who reads and writes rows and no more.
set -euo pipefail

psql -v ON_ERROR_STOP=1 --no-psqlrc --quiet --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" \
    -v database="$POSTGRES_DB" <<'SQL'
\set owner_password `cat /run/secrets/owner_password`
\set app_password `cat /run/secrets/app_password`
create role mailflow_owner login password :'owner_password' connection limit 20;
create role mailflow_app login password :'app_password' connection limit 450;

revoke all on database :"database" from public;
grant connect, create on database :"database" to mailflow_owner;
grant connect on database :"database" to mailflow_app;
revoke all on schema public from public;

-- What the owner makes from now on, the app may use.
alter default privileges for role mailflow_owner grant usage on schemas to mailflow_app;
alter default privileges for role mailflow_owner
    grant select, insert, update, delete on tables to mailflow_app;
alter default privileges for role mailflow_owner grant usage on sequences to mailflow_app;
alter default privileges for role mailflow_owner grant execute on functions to mailflow_app;

-- Every name is written with its schema. rolekit sets time-outs of its own; these hold for
-- whatever else connects as this user.
alter role mailflow_app set search_path = pg_catalog;
alter role mailflow_app set statement_timeout = '60s';
alter role mailflow_app set lock_timeout = '5s';
alter role mailflow_app set idle_in_transaction_session_timeout = '15s';
SQL
