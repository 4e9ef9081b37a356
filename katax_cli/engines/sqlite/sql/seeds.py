"""SQL of seeds in SQLite."""

from __future__ import annotations

from katax_cli.engines.sql import SeedSql, upsert_on_conflict

_DIFFERS = "present.{c} IS NOT excluded.{c}"


SQL = SeedSql(
    upsert=lambda parts: upsert_on_conflict(parts, _DIFFERS),
    keep_claim="ON CONFLICT (name) DO UPDATE SET name = excluded.name",
    exact_numbers=False,
)
