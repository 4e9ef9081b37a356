"""Many rows into one table inside a caller's transaction: inserted, or written by a key; the refused ones are named."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from katax_cli.core.sql import quote_identifier
from katax_cli.engines.base import TableDescription
from katax_cli.engines.registry import part, sql_part
from katax_cli.engines.sql import SeedSql, UpsertParts
from katax_cli.engines.transfers import CopiesBytes, InsertsCells, TransferSession
from katax_cli.errors import ConfigError, QueryError, RolledBack
from katax_cli.services.databases.transaction import Transaction

Rows = Sequence[tuple[int, Sequence[Any]]]
"""Rows with the number under which they are known, of values as `TransferSql.bind` makes them."""
OnRefused = Callable[[int, str], object]
"""Told the number of a row that the server refused, and why; raises to stop."""

_GIVEN = "pg_temp.katax_given"
_VALUES = "\0"


class Destination(Protocol):
    """The table: its name as SQL, and what is known of it."""

    @property
    def quoted(self) -> str: ...
    @property
    def description(self) -> TableDescription: ...


@dataclass(frozen=True, slots=True)
class BulkLoad:
    """Loads rows of these columns into a table; with a `key`, rows that are there are changed."""

    destination: Destination
    columns: Sequence[str]
    key: Sequence[str] = ()

    def write(self, on: Transaction, rows: Rows, on_refused: OnRefused) -> int:
        """Writes the rows; returns the number of those that were not refused, nor dropped by a trigger; with a key,
        which leaves rows alone that are there as they are, a dropped one counts.

        A refused row is looked for in halves, unless the server names it. Raises what is not the fault of a row.
        """
        if self.key:
            rows = self._last_of_each_key(rows)
        return self._write(on, rows, on_refused)

    def copy(self, on: Transaction, data: Sequence[bytes], options: str) -> int:
        """Gives PostgreSQL bytes as they are; returns how many rows it took. Raises QueryError, after undoing it, for
        any row that the server refuses."""
        with on.transaction():
            into = self._given(on) if self.key else self.destination.quoted
            sql = f"COPY {into} ({', '.join(self._quoted(on))}) FROM stdin WITH ({options})"
            with on.using("COPY") as connection:
                copies: CopiesBytes = part(on.engine, "transfer")
                count = copies.copy_in(connection, sql, data)
            if self.key:
                self._merge(on)
        return count

    def insert_cells(self, on: Transaction, pieces: Iterable[list[str]]) -> None:
        """Gives MySQL rows as their cells; see InsertsCells. Raises QueryError or ValueError, after undoing it, for any
        row that is refused."""
        session: InsertsCells = part(on.engine, "transfer")
        into = f"{self.destination.quoted} ({', '.join(self._quoted(on))})"
        with on.transaction(), on.using("INSERT") as connection:
            session.insert_cells(connection, into, pieces, len(self.columns))

    def _write(self, on: Transaction, rows: Rows, on_refused: OnRefused) -> int:
        if not rows:
            return 0
        try:
            with on.transaction():
                return self._insert(on, [values for _, values in rows])
        except RolledBack:
            raise
        except (QueryError, ValueError, OverflowError) as error:
            if on.is_lost or _is_of_no_row(error):
                raise
            if len(rows) == 1:
                on_refused(rows[0][0], error.reason if isinstance(error, QueryError) else str(error))
                return 0
            at = self._refused(on, error, len(rows))
        return self._write(on, rows[:at], on_refused) + self._write(on, rows[at:], on_refused)

    def _refused(self, on: Transaction, error: Exception, count: int) -> int:
        """Where to divide the rows: at the one that the server names, or behind it where it comes first."""
        number = None
        if not self.key and on.copies_in:
            copies: CopiesBytes = part(on.engine, "transfer")
            number = copies.refused_row(error.__cause__)
        if number is None or number > count:
            return count // 2
        return 1 if number == 1 else number - 1

    def _insert(self, on: Transaction, rows: Sequence[Sequence[Any]]) -> int:
        into, tail = f"{self.destination.quoted} ({', '.join(self._quoted(on))})", ""
        if self.key and on.copies_in:
            into = self._given(on)
        elif self.key:
            head, _, tail = self._upsert(on, f"VALUES {_VALUES}").partition(_VALUES)
            into = head.removeprefix("INSERT INTO ").removesuffix(" VALUES ")
        session: TransferSession = part(on.engine, "transfer")
        with on.using("INSERT") as connection:
            taken = session.insert(connection, into, rows, tail)
        if self.key and on.copies_in:
            self._merge(on)
        # SQLite counts nothing that a view's triggers do.
        counted = not self.key and self.destination.description.table.kind != "view"
        return taken if counted else len(rows)

    def _given(self, on: Transaction) -> str:
        """A temporary table for rows on their way, because COPY knows no conflict."""
        names = ", ".join(self._quoted(on))
        on.run(
            f"CREATE TEMPORARY TABLE {_GIVEN} AS SELECT {names} FROM {self.destination.quoted} WITH NO DATA"
        )
        return _GIVEN

    def _merge(self, on: Transaction) -> None:
        """From there into the table; of rows with one key the last one counts."""
        names, key = (
            ", ".join(self._quoted(on)),
            ", ".join(quote_identifier(name, on.dialect) for name in self.key),
        )
        last = f"SELECT DISTINCT ON ({key}) {names} FROM {_GIVEN} ORDER BY {key}, ctid DESC"
        on.run(self._upsert(on, last))
        on.run(f"DROP TABLE {_GIVEN}")

    def _upsert(self, on: Transaction, source: str) -> str:
        sql: SeedSql = sql_part(on.engine, "seeds")
        key = [quote_identifier(name, on.dialect) for name in self.key]
        given = sql.identity if self._has_identity else ""
        return sql.upsert(UpsertParts(self.destination.quoted, self._quoted(on), key, source, given))

    @property
    def _has_identity(self) -> bool:
        columns = {column.name: column.default or "" for column in self.destination.description.columns}
        return any("as identity" in columns[name] for name in self.columns)

    def _quoted(self, on: Transaction) -> list[str]:
        return [quote_identifier(name, on.dialect) for name in self.columns]

    def _last_of_each_key(self, rows: Rows) -> Rows:
        places = [list(self.columns).index(name) for name in self.key]
        last = {tuple(values[at] for at in places): row for row in rows for values in [row[1]]}
        return rows if len(last) == len(rows) else list(last.values())

    def advance_counters(self, on: Transaction) -> None:
        """Lets PostgreSQL's sequences go on behind the numbers that were given; the others do so themselves."""
        sql: SeedSql = sql_part(on.engine, "seeds")
        if sql.advance_counter is None:
            return
        table = self.destination.quoted
        for column in self.destination.description.columns:
            default = column.default or ""
            if column.name in self.columns and (default.startswith("nextval(") or "as identity" in default):
                quoted = quote_identifier(column.name, on.dialect)
                on.run(sql.advance_counter.format(table=table, column=quoted), [table, column.name])


def has_stray_quotes(data: bytes, delimiter: str = ",") -> bool:
    """True for CSV with quotes within a cell that does not begin with one, `5"x10"`: COPY drops them."""
    if b'"' not in data:
        return False
    around = rf"[^{re.escape(delimiter)}\r\n]".encode()
    in_quotes = rb'(?<!%b)"[^"]*+(?:""[^"]*+)*+"(?!%b)' % (around, around)
    return b'"' in re.sub(in_quotes, b"", data)


def _is_of_no_row(error: Exception) -> bool:
    """True for what the server says of any row: no such table, not permitted, not possible, no room.

    An error of syntax is one of a value: tsvector, hstore, ltree and jsonpath have a syntax of their own.
    """
    state = str(error.sqlstate) if isinstance(error, QueryError) else ""
    return state[:2] in ("0A", "42", "53", "55", "58") and state != "42601"


def check_key(
    description: TableDescription, key: Sequence[str], columns: Sequence[str], *, any_key: bool
) -> None:
    """Raises ConfigError for a key that is not unique in the table, that the rows do not have, and, where the server
    takes `any_key` for a conflict, for a table whose rows could collide by another one."""
    table = description.table.name
    primary = {column.name for column in description.columns if column.key == "primary"}
    unique = [
        ({name.strip('"') for name in index.columns}, index.name)
        for index in description.indexes
        if index.unique
    ]
    if set(key) not in [primary, *(names for names, _ in unique)]:
        raise ConfigError(
            f"{', '.join(key)} is no unique key of {table!r}; make a unique index or name another --key"
        )
    missing = next((name for name in key if name not in columns), None)
    if missing is not None:
        raise ConfigError(f"the rows have no column {missing!r}, which is part of --key")
    others = [
        name for names, name in [*unique, (primary, "PRIMARY")] if names != set(key) and names & set(columns)
    ]
    if any_key and others:
        raise ConfigError(
            f"{table!r} has other unique keys ({', '.join(dict.fromkeys(others))}), by any of which MySQL would change "
            "another row; name that --key, or leave its columns out"
        )
