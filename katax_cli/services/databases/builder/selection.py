"""The values of a statement that was built: what is selected, from where, on which conditions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

Row = dict[str, Any]
Comparison = tuple[str, str, Any]
"""Column, operator, value."""


class Page(NamedTuple):
    """Some of the rows, and how many there are: `number` counts from 1, `pages` is 0 when there are none."""

    rows: list[Row]
    total: int
    number: int
    size: int
    pages: int


class Join(NamedTuple):
    """Another table, and the columns that have to fit."""

    table: str
    on: str
    alias: str | None
    left: bool


class BoundStatement(NamedTuple):
    """SQL with `:name` placeholders, and their values."""

    sql: str
    params: Row


@dataclass(frozen=True)
class Selection:
    """Rows of a table and of those that are joined to it."""

    name: str
    alias: str | None = None
    columns: tuple[str, ...] = ()
    joins: tuple[Join, ...] = ()
    conditions: tuple[Comparison, ...] = ()
    groups: tuple[str, ...] = ()
    having_conditions: tuple[Comparison, ...] = ()
    orders: tuple[tuple[str, bool], ...] = ()
    at_most: int | None = None
    skipped: int | None = None
