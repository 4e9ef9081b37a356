"""SQL of the databases of a PostgreSQL server."""

from __future__ import annotations

from katax_cli.engines.sql import DatabaseSql

_IDLE = """SELECT datname FROM pg_database d WHERE datname LIKE ?
    AND NOT EXISTS (SELECT FROM pg_stat_activity a WHERE a.datid = d.oid)"""

# Without its slot, which is another server's, a subscription goes without asking that server.
_UNBIND = """SELECT format(statement, subname) FROM pg_subscription, unnest(ARRAY[
    'ALTER SUBSCRIPTION %I DISABLE', 'ALTER SUBSCRIPTION %I SET (slot_name = NONE)', 'DROP SUBSCRIPTION %I'
]) WITH ORDINALITY AS s (statement, place)
WHERE subdbid = (SELECT oid FROM pg_database WHERE datname = current_database()) ORDER BY subname, place"""

SQL = DatabaseSql(
    maintenance="postgres",
    own=("postgres", "template0", "template1"),
    exists="SELECT 1 FROM pg_database WHERE datname = ?",
    idle=_IDLE,
    drop="DROP DATABASE IF EXISTS {name} WITH (FORCE)",
    create_copy="CREATE DATABASE {name} TEMPLATE {template}",
    unbind=_UNBIND,
)
