"""SQL of seeds in MySQL and MariaDB."""

from __future__ import annotations

from katax_cli.engines.sql import SeedSql, UpsertParts


def _upsert(parts: UpsertParts) -> str:
    same = parts.key[0]
    change = ", ".join(f"{c} = VALUES({c})" for c in parts.others) or f"{same} = {same}"
    columns = ", ".join(parts.columns)
    return f"INSERT INTO {parts.table} ({columns}) {parts.source} ON DUPLICATE KEY UPDATE {change}"


SQL = SeedSql(
    upsert=_upsert,
    keep_claim="ON DUPLICATE KEY UPDATE name = VALUES(name)",
    # Plain reads show a snapshot, not what others just committed.
    current_read=" LOCK IN SHARE MODE",
    locking_read=" FOR UPDATE",
    any_unique_key=True,
)
