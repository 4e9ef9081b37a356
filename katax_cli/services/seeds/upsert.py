"""Rows into an SQL table by their natural key: new ones are inserted, those that differ are changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from katax_cli.core.sql import Dialect, quote_identifier
from katax_cli.core.text import to_json
from katax_cli.engines.base import TableDescription
from katax_cli.errors import SeedError
from katax_cli.services.queries import Queries

from .rows import check_keys
from .values import Counts

_BATCH = 100
# A plain read would show a snapshot that may be older than what the upsert meets.
_CURRENT = {"mysql": " LOCK IN SHARE MODE"}
# As text, because json and other types cannot be compared in PostgreSQL.
_DIFFERS = {
    "postgresql": "present.{c}::text IS DISTINCT FROM excluded.{c}::text",
    "sqlite": "present.{c} IS NOT excluded.{c}",
}


class Upsert:
    """Writes rows to one table inside the caller's transaction. `seed` names their source in errors."""

    def __init__(
        self, on: Queries, dialect: Dialect, description: TableDescription, *, key: Sequence[str], seed: str
    ) -> None:
        self._on = on
        self._dialect = dialect
        self._found = description
        self._seed = seed
        self._key = self._natural_key(key)
        self._columns = {column.name: column for column in description.columns}
        path = (description.table.schema, description.table.name)
        self._table = ".".join(self._quoted(part) for part in path if part is not None)

    def write(self, rows: Sequence[Mapping[str, Any]]) -> Counts:
        """Inserts or changes them. Raises SeedError for rows that make no sense, QueryError of the server."""
        check_keys(self._seed, rows, self._key)
        self._check_columns(rows)
        inserted = affected = 0
        for columns, same in groupby(rows, key=tuple):
            group = list(same)
            for start in range(0, len(group), _BATCH):
                new, changed = self._batch(columns, group[start : start + _BATCH])
                inserted, affected = inserted + new, affected + changed
        return Counts(inserted, affected - inserted, affected)

    def _batch(self, columns: tuple[str, ...], rows: Sequence[Mapping[str, Any]]) -> tuple[int, int]:
        new = len(rows) - self._present(rows)
        sql = self._statement(columns)
        affected = self._on.execute_many(
            sql, [[self._value(name, row[name]) for name in columns] for row in rows]
        )
        if self._dialect != "mysql":
            return new, affected
        # It takes any unique key for the conflict, so that another row may have been changed instead.
        if self._present(rows) != len(rows):
            raise SeedError(
                f"{self._seed}: a row collides with another row of {self._found.table.name!r} by a key other than "
                f"{', '.join(self._key)}; remove one of them or name that key"
            )
        # It counts an inserted row as 1, a changed one as 2.
        return new, new + (affected - new) // 2

    def _present(self, rows: Sequence[Mapping[str, Any]]) -> int:
        one = "(" + " AND ".join(f"{self._quoted(name)} = ?" for name in self._key) + ")"
        where = " OR ".join([one] * len(rows))
        values = [self._value(name, row[name]) for row in rows for name in self._key]
        sql = f"SELECT count(*) FROM {self._table} WHERE {where}{_CURRENT.get(self._dialect, '')}"
        return int(self._on.run(sql, values).rows[0][0])

    def _statement(self, columns: Sequence[str]) -> str:
        names = ", ".join(map(self._quoted, columns))
        marks = ", ".join("?" * len(columns))
        others = [self._quoted(name) for name in columns if name not in self._key]
        if self._dialect == "mysql":
            same = self._quoted(self._key[0])
            change = ", ".join(f"{c} = VALUES({c})" for c in others) or f"{same} = {same}"
            return f"INSERT INTO {self._table} ({names}) VALUES ({marks}) ON DUPLICATE KEY UPDATE {change}"
        given = " OVERRIDING SYSTEM VALUE" if self._has_identity(columns) else ""
        return (
            f"INSERT INTO {self._table} AS present ({names}){given} VALUES ({marks}) "
            f"ON CONFLICT ({', '.join(map(self._quoted, self._key))}) {self._on_conflict(others)}"
        )

    def _on_conflict(self, others: Sequence[str]) -> str:
        if not others:
            return "DO NOTHING"
        change = ", ".join(f"{c} = excluded.{c}" for c in others)
        differs = " OR ".join(_DIFFERS[self._dialect].format(c=c) for c in others)
        return f"DO UPDATE SET {change} WHERE {differs}"

    def _has_identity(self, columns: Sequence[str]) -> bool:
        return any("as identity" in (self._columns[name].default or "") for name in columns)

    def advance_counters(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Lets PostgreSQL's sequences go on behind the numbers that were given; the others do so themselves.

        Not undone by a rollback, which at the worst leaves a gap.
        """
        if self._dialect != "postgresql":
            return
        for name in {name for row in rows for name in row}:
            default = self._columns[name].default or ""
            if default.startswith("nextval(") or "as identity" in default:
                self._advance(name)

    def _advance(self, column: str) -> None:
        highest = f"(SELECT max({self._quoted(column)}) FROM {self._table})"
        self._on.run(
            f"SELECT setval(s, {highest}) FROM (SELECT pg_get_serial_sequence($1, $2)::regclass) AS owned(s) "
            f"WHERE s IS NOT NULL AND {highest} > coalesce(pg_sequence_last_value(s), 0)",
            [self._table, column],
        )

    def _natural_key(self, wanted: Sequence[str]) -> tuple[str, ...]:
        primary = tuple(column.name for column in self._found.columns if column.key == "primary")
        key = tuple(wanted) or primary
        table = self._found.table.name
        if not key:
            raise SeedError(f'{self._seed}: {table!r} has no primary key; name a unique one as "key"')
        unique = [
            {name.strip('"') for name in index.columns} for index in self._found.indexes if index.unique
        ]
        if set(key) not in [set(primary), *unique]:
            raise SeedError(
                f"{self._seed}: {', '.join(key)} is no unique key of {table!r}; make a unique index or name another"
            )
        return key

    def _check_columns(self, rows: Sequence[Mapping[str, Any]]) -> None:
        unknown = {name for row in rows for name in row if name not in self._columns}
        if unknown:
            known = ", ".join(self._columns)
            raise SeedError(
                f"{self._seed}: no column named {min(unknown)!r} in {self._found.table.name!r}; columns: {known}"
            )

    def _value(self, column: str, value: Any) -> Any:
        """Structures as JSON, but for lists that an array column takes."""
        array = isinstance(value, list) and self._columns[column].type.endswith("[]")
        return to_json(value) if isinstance(value, dict | list) and not array else value

    def _quoted(self, name: str) -> str:
        return quote_identifier(name, self._dialect)
