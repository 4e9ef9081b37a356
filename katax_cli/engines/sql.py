"""SQL that differs from engine to engine, as frozen values: one for each use case. See the engines' folders `sql`.

`SQL` of the module of that name, found by `registry.sql_part`; what is the same on all stands where it is used.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TableSql:
    """Emptying tables and dropping everything: module `sql.tables`.

    `references`: rows of a table that refers (schema, name) and one that is referred to. `objects`: rows of kind, name
    and statement, in the order in which they are dropped. `truncation` makes the statements that empty tables, whose
    names are quoted. `of_extensions`: rows of schema and name. `counters` asks whether the server counts in a table,
    and starts the counter of a table again. `unchecked` begins and ends a time without a look at references.
    `short_wait` bounds the wait for locks in a transaction. `default_schema` is what names go without.
    """

    references: str
    objects: str
    truncation: Callable[[Sequence[str]], list[str]]
    atomic: bool
    """True where dropping and emptying is undone with its transaction."""
    of_extensions: str | None = None
    counters: tuple[str, str] | None = None
    unchecked: tuple[str, str] | None = None
    short_wait: str | None = None
    default_schema: str | None = None


@dataclass(frozen=True, slots=True)
class StateSql:
    """The needs of katax's own tables: module `sql.state`.

    `long_text` is a type for output of programs. `for_update` ends a SELECT that locks its rows. `insert` and
    `insert_end` begin and end an INSERT that leaves rows alone that are there. `index_in_table`: an index is made
    with its table, for there is no CREATE INDEX IF NOT EXISTS.
    """

    long_text: str
    for_update: str
    insert: str
    insert_end: str
    index_in_table: bool = False


@dataclass(frozen=True, slots=True)
class DatabaseSql:
    """Databases of a server: module `sql.databases`; where a database is a file, that gives None.

    `maintenance` is the database from which others are created and dropped, None for any. `own` are the server's.
    `exists` asks for a name; `idle` for the names LIKE a pattern that have no session. `create_copy` makes a database
    {name} of {template}, `drop` removes {name}, with its sessions where the server would wait for their end. `unbind`
    asks within a database for statements that remove what keeps it from being dropped, contacting no other server.
    """

    maintenance: str | None
    own: tuple[str, ...]
    exists: str
    idle: str
    drop: str
    create_copy: str | None = None
    unbind: str | None = None


@dataclass(frozen=True, slots=True)
class UpsertParts:
    """The quoted parts of an upsert: `source` gives the rows (VALUES or SELECT), `given` stands before it."""

    table: str
    columns: Sequence[str]
    key: Sequence[str]
    source: str
    given: str = ""

    @property
    def others(self) -> list[str]:
        return [column for column in self.columns if column not in self.key]


@dataclass(frozen=True, slots=True)
class SeedSql:
    """Rows by their natural key, and the ledger of seeds: module `sql.seeds`.

    `upsert` makes the statement that inserts new rows and changes those that differ. `current_read` ends a SELECT
    that shall see what the upsert meets, `locking_read` one that shall see what the holder of a lock committed.
    `keep_claim` ends an INSERT into the ledger that locks a row which is there. `identity` precedes the values of a
    column whose numbers the server gives. `advance_counter` lets the counter behind {column} of {table} go on after
    the highest number; None where servers do so themselves.
    """

    upsert: Callable[[UpsertParts], str]
    keep_claim: str
    current_read: str = ""
    locking_read: str = ""
    identity: str = ""
    advance_counter: str | None = None
    any_unique_key: bool = False
    """True where any unique key makes a conflict, and a changed row counts as two."""
    exact_numbers: bool = True
    """True where the driver takes Decimals."""


def upsert_on_conflict(parts: UpsertParts, differs: str) -> str:
    """For servers with ON CONFLICT; `differs` compares {c} of `present` and `excluded`."""
    change = ", ".join(f"{c} = excluded.{c}" for c in parts.others)
    where = " OR ".join(differs.format(c=c) for c in parts.others)
    action = f"DO UPDATE SET {change} WHERE {where}" if parts.others else "DO NOTHING"
    return (
        f"INSERT INTO {parts.table} AS present ({', '.join(parts.columns)}){parts.given} {parts.source} "
        f"ON CONFLICT ({', '.join(parts.key)}) {action}"
    )
