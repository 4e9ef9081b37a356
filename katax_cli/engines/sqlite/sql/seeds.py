"""SQL of seeds in SQLite."""

from __future__ import annotations

from katax_cli.engines.sql import SeedSql, UpsertParts, upsert_on_conflict

_DIFFERS = "present.{c} IS NOT excluded.{c}"


def _upsert(parts: UpsertParts) -> str:
    return upsert_on_conflict(parts, _DIFFERS)


SQL = SeedSql(
    upsert=_upsert,
    keep_claim="ON CONFLICT (name) DO UPDATE SET name = excluded.name",
    exact_numbers=False,
)
