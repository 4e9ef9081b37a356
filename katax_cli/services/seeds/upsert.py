"""Rows into an SQL table by their natural key: new ones are inserted, those that differ are changed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any

from katax_cli.core.sql import quote_identifier
from katax_cli.core.text.text import to_json
from katax_cli.engines.base import TableDescription
from katax_cli.engines.registry import part, sql_part
from katax_cli.engines.sql import SeedSql, UpsertParts
from katax_cli.engines.transfers import CopiesBytes
from katax_cli.errors import QueryError, RolledBack, SeedError
from katax_cli.services.databases.transaction import RowRefused, Transaction
from katax_cli.services.seeds.rows import check_keys
from katax_cli.services.seeds.values import UNDONE, Counts, PlainCsv

_BATCH = 100
_GIVEN = "pg_temp.katax_seed"
_REFUSALS = (QueryError, ValueError)
"""Of the server, and of a driver for a value that the server has no word for."""
_AS_TEXT = frozenset({str, int, bool, type(None)})


def _is_full(error: Exception) -> bool:
    """True for a server without room or memory, whatever the row."""
    return isinstance(error, QueryError) and str(error.sqlstate)[:2] in ("53", "58")


class _ReadOtherwise(Exception):
    """The server made other rows of a text than were in it, or rows without their key."""


class Upsert:
    """Writes rows to one table inside the caller's transaction. `seed` names their source in errors, and `place`
    the row with a number, counted from 1."""

    def __init__(
        self,
        on: Transaction,
        description: TableDescription,
        *,
        key: Sequence[str],
        seed: str,
        place: Callable[[int], str] = "row {}".format,
    ) -> None:
        self._on = on
        self._dialect = on.dialect
        self._sql: SeedSql = sql_part(on.engine, "seeds")
        self._found = description
        self._seed = seed
        self._place = place
        self._key = self._natural_key(key)
        self._columns = {column.name: column for column in description.columns}
        path = (description.table.schema, description.table.name)
        self._table = ".".join(self._quoted(part) for part in path if part is not None)

    def write(self, rows: Sequence[Mapping[str, Any]]) -> Counts:
        """Inserts or changes them. Raises SeedError that names the row which makes no sense or is refused."""
        check_keys(self._seed, rows, self._key, self._place)
        self.check_columns({name for row in rows for name in row})
        inserted = affected = first = 0
        for columns, same in groupby(rows, key=tuple):
            values = [[self._value(name, row[name]) for name in columns] for row in same]
            new, changed = self._group(columns, values, first)
            inserted, affected, first = inserted + new, affected + changed, first + len(values)
        return Counts(inserted, affected - inserted, affected)

    def write_csv(self, csv: PlainCsv) -> Counts | None:
        """Copies the text as it stands into an empty table, or beside one that has rows; None where that cannot be.

        What the server refuses is None too: written row by row, it is found and named.
        """
        if csv.rows <= _BATCH or not self._takes_copies:
            return None
        copies: CopiesBytes = part(self._on.engine, "transfer")
        names = ", ".join(map(self._quoted, csv.columns))
        try:
            with self._on.transaction():
                is_empty = self._is_empty()
                into = self._table if is_empty else self._make_given(names)
                # Only an empty cell in quotes is something else than NULL by itself.
                nulls = f", FORCE_NULL ({names})" if csv.has_quotes else ""
                sql = f"COPY {into} ({names}) FROM stdin WITH (FORMAT csv{nulls})"
                with self._on.using("COPY") as connection:
                    count = copies.copy_in(connection, sql, csv.pieces)
                if count != csv.rows:
                    raise _ReadOtherwise
                # The primary key of the table itself lets no other row in.
                if not (is_empty and self._key == self._primary) and not self._keys_hold(into):
                    raise _ReadOtherwise
                new, written = (csv.rows, csv.rows) if is_empty else self._merged(csv.columns, csv.rows)
        except RolledBack:
            raise
        except (QueryError, _ReadOtherwise):
            return None
        return Counts(new, written - new, written)

    def _keys_hold(self, table: str) -> bool:
        """True when every row has its key, and no two the same: a unique index allows NULL, and may be partial."""
        key = ", ".join(map(self._quoted, self._key))
        missing = " OR ".join(f"{self._quoted(name)} IS NULL" for name in self._key)
        distinct = key if len(self._key) == 1 else f"({key})"
        sql = f"SELECT count(*) = count(DISTINCT {distinct}) AND NOT bool_or({missing}) FROM {table}"
        return bool(self._on.run(sql).rows[0][0])

    def _group(self, columns: tuple[str, ...], values: Sequence[list[Any]], first: int) -> tuple[int, int]:
        """The numbers of new and of written rows; `first` of all rows came before them."""
        if len(values) > _BATCH and self._may_copy(values):
            copied = self._copied(columns, values, first)
            if copied is not None:
                return copied
        inserted = affected = 0
        for start in range(0, len(values), _BATCH):
            new, changed = self._batch(columns, values[start : start + _BATCH], first + start)
            inserted, affected = inserted + new, affected + changed
        return inserted, affected

    def _may_copy(self, values: Sequence[list[Any]]) -> bool:
        """COPY reads texts where INSERT would convert: only values that mean the same to both."""
        return self._takes_copies and {type(one) for row in values for one in row} <= _AS_TEXT

    @property
    def _takes_copies(self) -> bool:
        return self._on.copies_in and self._found.table.kind in ("table", "partitioned table")

    def _copied(
        self, columns: tuple[str, ...], values: Sequence[list[Any]], first: int
    ) -> tuple[int, int] | None:
        """By COPY; None where the server refused without naming a row, or has no right to give for it."""
        try:
            with self._on.transaction():
                if self._is_empty():
                    count = self._copy(self._table, columns, values)
                    return count, count
                given = self._make_given(", ".join(map(self._quoted, columns)))
                self._copy(given, columns, values)
                return self._merged(columns, len(values))
        except RowRefused as error:
            raise self._refused(first + error.number, error.why) from error
        except RolledBack:
            raise
        except QueryError:
            return None

    def _is_empty(self) -> bool:
        """With a lock that keeps it so, for the rest of the transaction."""
        sql = f"SELECT NOT EXISTS (SELECT FROM {self._table})"
        if not self._on.run(sql).rows[0][0]:
            return False
        self._on.run(f"LOCK TABLE {self._table} IN SHARE ROW EXCLUSIVE MODE")
        return bool(self._on.run(sql).rows[0][0])

    def _copy(self, table: str, columns: Sequence[str], values: Sequence[list[Any]]) -> int:
        names = ", ".join(map(self._quoted, columns))
        rows = [[str(one).lower() if type(one) is bool else one for one in row] for row in values]
        return self._on.copy_rows(f"COPY {table} ({names}) FROM stdin", rows)

    def _make_given(self, names: str) -> str:
        """A temporary table for rows on their way, because COPY knows no conflict."""
        self._on.run(f"CREATE TEMPORARY TABLE {_GIVEN} AS SELECT {names} FROM {self._table} WITH NO DATA")
        return _GIVEN

    def _merged(self, columns: tuple[str, ...], count: int) -> tuple[int, int]:
        """The numbers of new and of written rows, of so many given ones."""
        names = ", ".join(map(self._quoted, columns))
        self._on.run(f"ANALYZE {_GIVEN}")
        key = ", ".join(map(self._quoted, self._key))
        present = self._on.run(f"SELECT count(*) FROM {self._table} JOIN {_GIVEN} USING ({key})").rows[0][0]
        affected = self._on.execute(self._statement(columns, f"SELECT {names} FROM {_GIVEN}"))
        self._on.run(f"DROP TABLE {_GIVEN}")
        return count - int(present), affected

    def _refused(self, number: int, why: Exception) -> SeedError:
        return SeedError(f"{self._seed}, {self._place(number)}: {why}; {UNDONE}")

    def _batch(self, columns: tuple[str, ...], values: Sequence[list[Any]], first: int) -> tuple[int, int]:
        try:
            with self._on.transaction():
                return self._written(columns, values)
        except _REFUSALS as error:
            if self._on.is_lost or _is_full(error):
                raise
            if len(values) == 1:
                raise self._refused(first + 1, error) from error
        # The server says which statement it refused, not which row.
        inserted = affected = 0
        for number, row in enumerate(values, first + 1):
            try:
                new, changed = self._written(columns, [row])
            except _REFUSALS as error:
                raise self._refused(number, error) from error
            inserted, affected = inserted + new, affected + changed
        return inserted, affected

    def _written(self, columns: tuple[str, ...], values: Sequence[list[Any]]) -> tuple[int, int]:
        at = [columns.index(name) for name in self._key]
        keys = [row[index] for row in values for index in at]
        new = len(values) - self._present(keys)
        marks = ", ".join("?" * len(columns))
        affected = self._on.execute_many(self._statement(columns, f"VALUES ({marks})"), values)
        if not self._sql.any_unique_key:
            return new, affected
        # Another row may have been changed instead.
        if self._present(keys) != len(values):
            raise SeedError(
                f"{self._seed}: a row collides with another row of {self._found.table.name!r} by a key other than "
                f"{', '.join(self._key)}; remove one of them or name that key"
            )
        # An inserted row counts as 1, a changed one as 2.
        return new, new + (affected - new) // 2

    def _present(self, keys: Sequence[Any]) -> int:
        one = "(" + " AND ".join(f"{self._quoted(name)} = ?" for name in self._key) + ")"
        where = " OR ".join([one] * (len(keys) // len(self._key)))
        sql = f"SELECT count(*) FROM {self._table} WHERE {where}{self._sql.current_read}"
        return int(self._on.run(sql, keys).rows[0][0])

    def _statement(self, columns: Sequence[str], source: str) -> str:
        """`source` is what gives the rows: VALUES or SELECT."""
        quoted, key = list(map(self._quoted, columns)), list(map(self._quoted, self._key))
        given = self._sql.identity if self._has_identity(columns) else ""
        return self._sql.upsert(UpsertParts(self._table, quoted, key, source, given))

    def _has_identity(self, columns: Sequence[str]) -> bool:
        return any("as identity" in (self._columns[name].default or "") for name in columns)

    def advance_counters(self, columns: Iterable[str]) -> None:
        """Lets PostgreSQL's sequences go on behind the numbers that were given; the others do so themselves.

        Not undone by a rollback, which at the worst leaves a gap.
        """
        if self._sql.advance_counter is None:
            return
        for name in set(columns):
            default = self._columns[name].default or ""
            if default.startswith("nextval(") or "as identity" in default:
                advance = self._sql.advance_counter.format(table=self._table, column=self._quoted(name))
                self._on.run(advance, [self._table, name])

    def _natural_key(self, wanted: Sequence[str]) -> tuple[str, ...]:
        primary = self._primary
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

    @property
    def _primary(self) -> tuple[str, ...]:
        return tuple(column.name for column in self._found.columns if column.key == "primary")

    def check_columns(self, names: Iterable[str]) -> None:
        """Raises SeedError for a column that the table does not have."""
        if unknown := set(names) - self._columns.keys():
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
