"""Rows that are inserted, or changed where their key is there already: one statement for many of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from katax_cli.core.text.duration import Duration
from katax_cli.errors import Refused
from katax_cli.services.databases.builder.selection import RunsStatements

if TYPE_CHECKING:
    from katax_cli.services.databases.builder.compile import Compiler

MOST_VALUES = 5_000
"""Values of one INSERT. PostgreSQL takes 65,535, SQLite 32,766; texts of up to so many are read only once."""


@dataclass(frozen=True)
class KeyedRows:
    """Rows of one table, of the same columns, and what becomes of those whose `key` is there: `update` is set.

    Raises ValueError for rows that cannot be told apart by their key, which the database would double or mix up.
    """

    table: str
    rows: Sequence[Mapping[str, Any]]
    key: Sequence[str]
    update: Sequence[str]

    def __post_init__(self) -> None:
        columns = one_shape(self.rows)
        for what, names in (("key", self.key), ("update", self.update)):
            unknown = [name for name in names if name not in columns]
            if unknown:
                raise ValueError(
                    f"upsert() {what} names {unknown[0]!r}, which the rows have not: {', '.join(columns)}"
                )
        if not self.key:
            raise ValueError("upsert() has no key; name the columns of a unique index: key=['email']")
        self._refuse_unclear_keys()

    def _refuse_unclear_keys(self) -> None:
        """NULL is no key, since a unique index lets it in again and again; a key twice has no order on a server."""
        first_of: dict[Any, int] = {}
        for number, row in enumerate(self.rows, 1):
            values = tuple(row[name] for name in self.key)
            if None in values:
                raise ValueError(f"row {number} has no {self.key[values.index(None)]!r}; NULL is no key")
            try:
                first = first_of.setdefault(values, number)
            except TypeError:  # a list, a dict: the server compares them
                continue
            if first != number:
                raise ValueError(f"rows {first} and {number} have the same key; give each key once")

    def run(self, on: RunsStatements, compiler: Compiler, timeout: Duration | None) -> int:
        """Writes all rows or none; returns how many were inserted or changed."""
        if on.dialect == "mysql":
            return self._run_on_mysql(on, compiler, timeout)
        columns = tuple(self.rows[0])
        at_once = max(1, MOST_VALUES // len(columns))
        parts = [self.rows[start : start + at_once] for start in range(0, len(self.rows), at_once)]
        count = 0
        with on.together(timeout=timeout) if len(parts) > 1 else nullcontext(on) as connection:
            for part in parts:
                sql = compiler.upsert(self.table, columns, len(part), self.key, self.update)
                values = [row[column] for row in part for column in columns]
                count += connection.execute(sql, values, timeout=timeout)
        return count

    def _run_on_mysql(self, on: RunsStatements, compiler: Compiler, timeout: Duration | None) -> int:
        """PyMySQL sends many rows at once itself. A row that is changed counts twice there, an equal one not at all."""
        columns = tuple(self.rows[0])
        sql = compiler.upsert(self.table, columns, 1, self.key, self.update)
        with on.together(timeout=timeout) as connection:
            self._refuse_other_keys(connection, compiler.table(self.table), timeout)
            rows = [[row[column] for column in columns] for row in self.rows]
            inserted = connection.execute_many(sql, rows, timeout=timeout)
        return len(rows) if self.update else inserted

    def _refuse_other_keys(self, on: RunsStatements, table: str, timeout: Duration | None) -> None:
        """MySQL changes the row of whichever unique key a new row meets; so the named one has to be the only one.

        A key whose own number the server gives out is met by no new row.
        """
        unique = on.query(f"SHOW INDEX FROM {table} WHERE Non_unique = 0", timeout=timeout)
        counted = on.query(f"SHOW COLUMNS FROM {table} WHERE Extra LIKE '%auto_increment%'", timeout=timeout)
        given = {name.lower() for name in self.rows[0]}
        generated = {str(column["Field"]).lower() for column in counted} - given
        keys: dict[str, set[str | None]] = {}
        for part in unique:
            is_whole = part["Column_name"] is not None and part["Sub_part"] is None
            keys.setdefault(part["Key_name"], set()).add(part["Column_name"].lower() if is_whole else None)
        wanted: set[str | None] = {name.lower() for name in self.key}
        named = [name for name, columns in keys.items() if columns == wanted]
        others = [name for name in keys if name not in named and not keys[name] & generated]
        if named and not others:
            return
        what = ", ".join(self.key)
        if not named:
            raise Refused(f"upsert() by {what}: {self.table!r} has no unique key of these columns")
        raise Refused(
            f"upsert() by {what}: {self.table!r} has another unique key, {others[0]!r}, and MySQL would change the "
            "row of either; update the row, and create it when there was none"
        )


def one_shape(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The columns of rows that all have the same. Raises ValueError."""
    columns = list(rows[0])
    odd = next((row for row in rows if row.keys() != rows[0].keys()), None)
    if odd is not None:
        raise ValueError(f"rows have different columns: {', '.join(columns)} and {', '.join(odd)}")
    return columns
