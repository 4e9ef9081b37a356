"""SQL that differs from engine to engine, as frozen values: one for each use case. See the engines' folders `sql`.

Made by `create(engine)` of the module of that name; what is the same on all of them stands where it is used.
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
class ClockSql:
    """The server's clock as whole numbers since the epoch: module `sql.clock`."""

    milliseconds: str
    microseconds: str


@dataclass(frozen=True, slots=True)
class StateSql:
    """What tables of katax's own need: module `sql.state`.

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
    `exists` asks for a name; `idle` for the names LIKE a pattern in which nobody works. `create_copy` makes a database
    {name} of {template}, `drop` removes {name}, with its sessions where the server would wait for their end.
    """

    maintenance: str | None
    own: tuple[str, ...]
    exists: str
    idle: str
    drop: str
    create_copy: str | None = None
