"""SQL of seeds in PostgreSQL."""

from __future__ import annotations

from katax_cli.engines.sql import SeedSql, upsert_on_conflict

# As text, because json and other types cannot be compared.
_DIFFERS = "present.{c}::text IS DISTINCT FROM excluded.{c}::text"
_ADVANCE = """SELECT setval(s, (SELECT max({column}) FROM {table}))
    FROM (SELECT pg_get_serial_sequence($1, $2)::regclass) AS owned(s)
    WHERE s IS NOT NULL AND (SELECT max({column}) FROM {table}) > coalesce(pg_sequence_last_value(s), 0)"""


SQL = SeedSql(
    upsert=lambda parts: upsert_on_conflict(parts, _DIFFERS),
    keep_claim="ON CONFLICT (name) DO UPDATE SET name = excluded.name",
    identity=" OVERRIDING SYSTEM VALUE",
    advance_counter=_ADVANCE,
)
