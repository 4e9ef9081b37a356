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
