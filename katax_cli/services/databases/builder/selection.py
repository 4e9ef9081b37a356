"""The values of a statement that was built: what is selected, from where, on which conditions."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol, Self

from katax_cli.core.engine_names import Dialect
from katax_cli.core.sql.terms import OPERATORS
from katax_cli.core.text.duration import Duration
from katax_cli.engines.base import Params, Result, SqlEngine
from katax_cli.errors import unknown_name

Row = dict[str, Any]
Comparison = tuple[str, str, Any]
"""Column, operator, value."""

_MOST_ROWS = 2**63 - 1
_DEEPEST = 50
"""Groups within groups: more would be a loop that went wrong."""
_WITH_NULL = ("=", "!=", "<>", "is", "is not")


class RunsStatements(Protocol):
    """A database, or one connection of it."""

    @property
    def engine(self) -> SqlEngine: ...
    @property
    def dialect(self) -> Dialect: ...
    @property
    def ended(self) -> bool: ...
    def run(self, sql: str, params: Params = None, *, timeout: Duration | None = None) -> Result: ...
    def query(self, sql: str, params: Params = None, *, timeout: Duration | None = None) -> list[Row]: ...
    def execute(self, sql: str, params: Params = None, *, timeout: Duration | None = None) -> int: ...
    def execute_many(self, sql: str, rows: Sequence[Params], *, timeout: Duration | None = None) -> int: ...
    def together(self, *, timeout: Duration | None = None) -> AbstractContextManager[RunsStatements]: ...


@dataclass(frozen=True)
class ConditionGroup:
    """Conditions of which any one, or all, hold; made by `any_of` and `all_of`."""

    word: Literal["or", "and"]
    parts: tuple[SelectionCondition, ...]
    depth: int


SelectionCondition = Comparison | ConditionGroup


def any_of(*conditions: Sequence[Any] | ConditionGroup) -> ConditionGroup:
    """One of the conditions holds: `where(any_of(("age", ">", 65), ("role", "admin")))`.

    A condition is a column with a value, or with an operator and a value, as in `where`; or a group itself.
    Raises ValueError for no condition at all, which could mean every row as well as none.
    """
    return _group("or", conditions)


def all_of(*conditions: Sequence[Any] | ConditionGroup) -> ConditionGroup:
    """All of the conditions hold: a part of `any_of`."""
    return _group("and", conditions)


def _group(
    word: Literal["or", "and"], conditions: Sequence[Sequence[Any] | ConditionGroup]
) -> ConditionGroup:
    name = "any_of()" if word == "or" else "all_of()"
    if not conditions:
        raise ValueError(f"{name} has no conditions; give it at least one")
    parts: list[SelectionCondition] = []
    for condition in conditions:
        if isinstance(condition, ConditionGroup):
            parts.append(condition)
        elif isinstance(condition, str) or len(condition) < 2 or not isinstance(condition[0], str):
            raise ValueError(
                f'{name} takes conditions such as ("age", ">", 17), not {type(condition).__name__}'
            )
        else:
            parts.append(comparison(condition[0], condition[1:]))
    depth = 1 + max(part.depth if isinstance(part, ConditionGroup) else 0 for part in parts)
    if depth > _DEEPEST:
        raise ValueError(f"groups are nested {depth} deep, at most {_DEEPEST} are taken")
    return ConditionGroup(word, tuple(parts), depth)


def condition_of(column: str | ConditionGroup, rest: Sequence[Any]) -> SelectionCondition:
    """The arguments of `where`: a comparison, or a group alone."""
    if not isinstance(column, ConditionGroup):
        return comparison(column, rest)
    if rest:
        raise ValueError("where() takes a group of conditions alone; call it again for the next condition")
    return column


class Page(NamedTuple):
    """Some of the rows, and how many there are: `number` counts from 1, `pages` is 0 when there are none."""

    rows: list[Row]
    total: int
    number: int
    size: int
    pages: int


class QueryCalls(Protocol):
    """The calls that queries on tables and on collections have in common."""

    def where(self, column: str | ConditionGroup, *rest: Any) -> Self: ...
    def limit(self, rows: int) -> Self: ...
    def offset(self, rows: int) -> Self: ...
    def all(self, *, timeout: Duration | None = None) -> list[Row]: ...
    def count(self, *, timeout: Duration | None = None) -> int: ...

    def where_any(self, *conditions: Sequence[Any] | ConditionGroup) -> Self:
        """One of them holds, beside what holds already: `where_any(("age", ">", 65), ("role", "admin"))`."""
        return self.where(any_of(*conditions))

    def where_in(self, column: str, values: Iterable[Any]) -> Self:
        """One of the values; of no values, nothing."""
        return self.where(column, "in", [*values])

    def execute(self, *, timeout: Duration | None = None) -> list[Row]:
        """The same as `all`."""
        return self.all(timeout=timeout)

    def first(self, *, timeout: Duration | None = None) -> Row | None:
        """The first row or document; None when there is none."""
        return next(iter(self.limit(1).all(timeout=timeout)), None)

    def paginate(self, page: int = 1, size: int = 20, *, timeout: Duration | None = None) -> Page:
        """One page and the number of all rows, asked for one after the other; order the rows, or pages overlap."""
        if page < 1 or size < 1:
            raise ValueError(f"page {page} of size {size}: both begin at 1")
        total = self.count(timeout=timeout)
        rows = self.limit(size).offset((page - 1) * size).all(timeout=timeout)
        return Page(rows, total, page, size, math.ceil(total / size))


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
    conditions: tuple[SelectionCondition, ...] = ()
    groups: tuple[str, ...] = ()
    having_conditions: tuple[SelectionCondition, ...] = ()
    orders: tuple[tuple[str, bool], ...] = ()
    at_most: int | None = None
    skipped: int | None = None


def comparison(column: str, rest: Sequence[Any]) -> Comparison:
    """The arguments of `where` as column, operator and value. Raises ValueError for what matches nothing."""
    if len(rest) == 1:
        return column, "=", rest[0]
    if len(rest) != 2:
        raise ValueError(f"where({column!r}, …) takes a value, or an operator and a value")
    op = " ".join(str(rest[0]).lower().split())
    if op not in OPERATORS:
        raise ValueError(unknown_name("operator", str(rest[0]), OPERATORS, "operators"))
    if rest[1] is None and op not in _WITH_NULL:
        raise ValueError(f"{column} {op} None matches no row; compare with None by = or !=")
    return column, op, rest[1]


def natural(rows: int, what: str) -> int:
    """A number of rows for LIMIT or OFFSET. Raises ValueError."""
    if not 0 <= rows <= _MOST_ROWS:
        raise ValueError(f"{what} {rows}: write 0 or more")
    return rows


def falls(direction: str) -> bool:
    """True for desc, False for asc. Raises ValueError for what is no direction."""
    if direction.lower() not in ("asc", "desc"):
        raise ValueError(f"{direction!r} is no direction; write asc or desc")
    return direction.lower() == "desc"
