"""Tables as transfers see them: their columns, which of them can be written, and how they are named in SQL."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from katax_cli.core.sql import quote_identifier
from katax_cli.engines.base import SqlEngine, Table, TableColumn, TableDescription
from katax_cli.engines.registry import part, sql_part
from katax_cli.engines.transfers import TransferSession, TransferSql
from katax_cli.errors import ConfigError, KataxError, unknown_name
from katax_cli.services.databases.transaction import Transaction

_REWRITTEN = """SELECT 1 FROM pg_class WHERE relfilenode <> pg_relation_filenode(oid)
AND (oid = $1::text::regclass OR oid IN (SELECT relid FROM pg_partition_tree($1::text::regclass)))"""


@dataclass(frozen=True, slots=True)
class TransferTable:
    """A table with the columns that hold data of their own: generated ones are left out, and a `primary` key with one.
    The key is in the order of its index, which finds ranges of it."""

    table: Table
    columns: tuple[TableColumn, ...]
    generated: tuple[str, ...]
    primary: tuple[str, ...]
    description: TableDescription
    engine: SqlEngine

    @property
    def quoted(self) -> str:
        """Its name in SQL."""
        path = (self.table.schema, self.table.name)
        return ".".join(quote_identifier(name, self.engine.dialect) for name in path if name is not None)

    @property
    def own(self) -> str:
        """The same in a FROM, without the rows of tables that inherit from it: those come with their own table."""
        return f"{sql_of(self.engine).only if self.table.kind == 'table' else ''}{self.quoted}"

    def names(self, columns: Sequence[str] | None = None) -> list[str]:
        """Columns in SQL; all without an argument."""
        wanted = [column.name for column in self.columns] if columns is None else columns
        return [quote_identifier(name, self.engine.dialect) for name in wanted]

    def exact(self, columns: Sequence[str]) -> list[str]:
        """Expressions of the whole values of columns; see TransferSql."""
        sql = sql_of(self.engine)
        pairs = zip(self.types(columns), self.names(columns), strict=True)
        return [sql.exact(declared).format(name) for declared, name in pairs]

    def select(self, columns: Sequence[str], source: str | None = None) -> str:
        """A SELECT of the whole values of columns, under their names; from a `source` in place of its own rows."""
        pairs = zip(self.exact(columns), self.names(columns), strict=True)
        values = [value if value == name else f"{value} AS {name}" for value, name in pairs]
        return f"SELECT {', '.join(values)} FROM {source or self.own}"

    def refuse_null(self, key: Sequence[Any]) -> None:
        """Raises KataxError for a primary key that holds NULL, which SQLite allows."""
        if None in key:
            raise KataxError(
                f"table {self.table.name!r} has a row whose primary key is NULL, by which no row is found; give it one"
            )

    def by_key(self, sign: str, key: Sequence[Any]) -> tuple[str, list[Any]]:
        """A condition on the primary key, `>` or `<=` one of them, and its parameters.

        Their values are as `select` gave them. Raises as `refuse_null`.
        """
        marks, params = self._marks([key])
        names = self.exact(self.primary)
        if sql_of(self.engine).ranges_of_rows:
            return f"({', '.join(names)}) {sign} {marks}", params
        ranges, values = [], []
        for at, name in enumerate(names):
            same = [f"{before} = ?" for before in names[:at]]
            ranges.append(" AND ".join([*same, f"{name} {sign if name is names[-1] else sign[0]} ?"]))
            values += params[: at + 1]
        return f"({' OR '.join(ranges)})", values

    def select_keys(self, columns: Sequence[str], keys: Sequence[Sequence[Any]]) -> tuple[str, list[Any]]:
        """A SELECT of the rows with these primary keys, and its parameters. Raises as `refuse_null`.

        A row may come twice from SQLite, where two of the keys are equal to it.
        """
        marks, params = self._marks(keys)
        if self.engine.dialect != "sqlite":
            condition = f"({', '.join(self.exact(self.primary))}) IN ({marks})"
            return f"{self.select(columns)} WHERE {condition}", params
        # For an IN of rows SQLite reads the whole table. A name that is longer than all others is none of them.
        names = [self.table.name, *(column.name for column in self.description.columns)]
        keys = f"katax_{'_' * max(map(len, names))}"
        given = [f"{keys}{number}" for number in range(len(self.primary))]
        pairs = zip(self.names(self.primary), given, strict=True)
        same = " AND ".join(f"{name} = {other}" for name, other in pairs)
        select = self.select(columns, f"{keys} CROSS JOIN {self.quoted} ON {same}")
        return f"WITH {keys} ({', '.join(given)}) AS (VALUES {marks}) {select}", params

    def _marks(self, keys: Sequence[Sequence[Any]]) -> tuple[str, list[Any]]:
        for key in keys:
            self.refuse_null(key)
        makers = [sql_of(self.engine).constant(declared) for declared in self.types(self.primary)]
        params = [
            value if make is None else make(value)
            for key in keys
            for make, value in zip(makers, key, strict=True)
        ]
        marks = ", ".join([f"({', '.join('?' * len(makers))})"] * len(keys))
        return marks, params

    def types(self, columns: Sequence[str]) -> list[str]:
        """The declared types of columns."""
        declared = {column.name: column.type for column in self.columns}
        return [declared[name] for name in columns]


def transfer_table(transaction: Transaction, name: str) -> TransferTable | None:
    """The table of this name as a transaction sees it; None when there is none."""
    description = transaction.describe(name)
    if description is None:
        return None
    generated = tuple(column.name for column in description.columns if is_generated(column))
    columns = tuple(column for column in description.columns if column.name not in generated)
    key = _primary(description)
    if not {*generated}.isdisjoint(key):
        key = ()
    return TransferTable(description.table, columns, generated, key, description, transaction.engine)


def _primary(description: TableDescription) -> tuple[str, ...]:
    key = tuple(column.name for column in description.columns if column.key == "primary")
    orders = (tuple(map(_unquoted, index.columns)) for index in description.indexes if index.unique)
    return next((order for order in orders if sorted(order) == sorted(key)), key)


def _unquoted(name: str) -> str:
    return name[1:-1].replace('""', '"') if name.startswith('"') else name


def existing_table(transaction: Transaction, name: str, *, connection: str) -> TransferTable:
    """The same. Raises KataxError when there is no such table, and for one without columns: it has nothing to move."""
    table = transfer_table(transaction, name)
    if table is None:
        raise KataxError(f"no table named {name!r} on {connection!r}; see 'katax db tables'")
    if not table.columns:
        computed = " but those that the server computes" if table.generated else ""
        raise KataxError(
            f"table {name!r} on {connection!r} has no columns{computed}: there is nothing to move; leave it out"
        )
    return table


def is_generated(column: TableColumn) -> bool:
    """True for a column that the server computes."""
    default = column.default or ""
    return default.startswith("generated always") and "as identity" not in default


def check_columns(table: TransferTable, wanted: Sequence[str], *, what: str) -> None:
    """Raises ConfigError for a name that is no column of the table, for one the server computes, and for one twice."""
    known = [column.name for column in table.columns]
    for name in wanted:
        if name in table.generated:
            raise ConfigError(f"{what}: the server computes {name!r} of {table.table.name!r}; leave it out")
        if name not in known:
            raise ConfigError(f"{what}: {unknown_name('column', name, known, 'columns')}")
    twice = next((name for name in wanted if list(wanted).count(name) > 1), None)
    if twice is not None:
        raise ConfigError(f"{what} names column {twice!r} twice")


def refuse_rewritten(snapshot: Transaction, table: TransferTable) -> None:
    """Raises KataxError for a table of PostgreSQL that was rewritten or truncated since the snapshot, in which it has
    no rows then; from now on until its end none is.

    https://www.postgresql.org/docs/current/mvcc-caveats.html
    """
    if table.engine.dialect != "postgresql":
        return
    snapshot.run(f"SELECT 1 FROM {table.own} LIMIT 0")
    # The row of pg_class is of the snapshot, the function's answer of now.
    if snapshot.run(_REWRITTEN, [table.quoted]).rows:
        raise KataxError(
            f"table {table.table.name!r} was rewritten or truncated since this began, which hides its rows from it; "
            "run it again"
        )


def sql_of(engine: SqlEngine) -> TransferSql:
    """Types and literals of an engine."""
    made: TransferSql = sql_part(engine, "transfer")
    return made


def prepare(transaction: Transaction) -> None:
    """Sets the session up for transfers."""
    with transaction.using("setting up the session") as connection:
        session_of(transaction.engine).prepare(connection)


def session_of(engine: SqlEngine) -> TransferSession:
    """The engine's abilities for transfers on a connection."""
    made: TransferSession = part(engine, "transfer")
    return made
