"""A selection, or a change of its rows, as SQL of one dialect; SQLAlchemy Core knows how each of them writes it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import lru_cache
from operator import eq, ge, gt, le, lt, ne
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import mysql, postgresql, sqlite

from katax_cli.core.sql.lexer import Dialect
from katax_cli.core.sql.terms import Term, parse_name, parse_on, parse_term
from katax_cli.services.databases.builder.selection import (
    BoundStatement,
    Comparison,
    ConditionGroup,
    Selection,
    SelectionCondition,
)

_DIALECTS = {"postgresql": postgresql, "mysql": mysql, "sqlite": sqlite}
_COMPARE = {"=": eq, "!=": ne, "<>": ne, "<": lt, "<=": le, ">": gt, ">=": ge}
# Not SQLAlchemy's own, which are 1 and 0 on SQLite: 5 IS TRUE, but not 1.
_CONSTANTS = {None: sa.null(), True: sa.literal_column("true"), False: sa.literal_column("false")}

_MOST_CACHED = 100
"""Values of a statement whose text is kept: a long IN list is not asked for twice."""


class _ValuePosition(int):
    """The position of a value; SQLAlchemy binds numbers of its own beside them, as SQLite's OFFSET."""


class Compiler:
    """Raises ValueError for what is no column, table or condition."""

    def __init__(self, dialect: Dialect) -> None:
        self._name = dialect

    def select(self, selection: Selection) -> BoundStatement:
        """The rows that it asks for; compiled once for all selections that differ in their values only."""
        values: list[Any] = []
        shape = _shape(selection, values)
        template = _selecting if len(values) <= _MOST_CACHED else _selecting.__wrapped__
        sql, places = template(self._name, shape)
        return BoundStatement(
            sql, {name: values[at] if isinstance(at, _ValuePosition) else at for name, at in places.items()}
        )

    def counted(self, selection: Selection) -> BoundStatement:
        """Counts the rows, whatever the builder's limit."""
        every = replace(selection, orders=(), at_most=None, skipped=None)
        if not selection.groups:
            every = replace(every, columns=())
        rows = self.rows(every, one=not selection.groups).subquery("counted")
        return self.compiled(sa.select(sa.func.count()).select_from(rows))

    def insert(self, table: str, values: Mapping[str, Any], *, returning: bool = False) -> BoundStatement:
        """One row; its parameters are in the order of its columns."""
        plain = _columns(table, values)
        bound = {name: _bound(value, f"v{at}") for at, (name, value) in enumerate(plain.items())}
        made = sa.insert(_table(table, None, plain)).values(bound)
        sql, params = self.compiled(made.returning(sa.literal_column("*")) if returning else made)
        return BoundStatement(sql, {f"v{at}": params[f"v{at}"] for at in range(len(plain))})

    def insert_many(self, table: str, columns: Iterable[str], rows: int) -> str:
        """So many rows of these columns; a `?` for each value, row by row."""
        names = _columns(table, dict.fromkeys(columns))
        preparer = self._dialect.identifier_preparer
        places = f"({', '.join('?' * len(names))})"
        return (
            f"INSERT INTO {self.table(table)} "
            f"({', '.join(map(preparer.quote, names))}) VALUES {', '.join([places] * rows)}"
        )

    def upsert(
        self, table: str, columns: Iterable[str], rows: int, key: Iterable[str], update: Iterable[str]
    ) -> str:
        """The same, and what is set in the row whose key is there; a `?` for each value."""
        names, changed = self._names(table, key), self._names(table, update)
        insert = self.insert_many(table, columns, rows)
        if self._name == "mysql":
            change = ", ".join(f"{name} = VALUES({name})" for name in changed) or f"{names[0]} = {names[0]}"
            return f"{insert} ON DUPLICATE KEY UPDATE {change}"
        change = ", ".join(f"{name} = excluded.{name}" for name in changed)
        return (
            f"{insert} ON CONFLICT ({', '.join(names)}) DO {f'UPDATE SET {change}' if change else 'NOTHING'}"
        )

    def table(self, name: str) -> str:
        """The name of a table as SQL."""
        return str(self._dialect.identifier_preparer.format_table(_table(name, None)))

    def _names(self, table: str, columns: Iterable[str]) -> list[str]:
        plain = dict.fromkeys(columns)
        return list(map(self._dialect.identifier_preparer.quote, _columns(table, plain) if plain else ()))

    def update(self, selection: Selection, values: Mapping[str, Any]) -> BoundStatement:
        """The rows of its conditions get these values."""
        plain = _columns(selection.name, values)
        made = sa.update(_table(selection.name, selection.alias, plain))
        made = made.values({name: _bound(value) for name, value in plain.items()})
        return self.compiled(made.where(*self._where(selection)))

    def delete(self, selection: Selection) -> BoundStatement:
        """The rows of its conditions go."""
        return self.compiled(
            sa.delete(_table(selection.name, selection.alias)).where(*self._where(selection))
        )

    def rows(self, selection: Selection, *, one: bool = False) -> Any:
        """The SELECT; `one`: of a constant instead of its columns."""
        source: Any = _table(selection.name, selection.alias)
        for join in selection.joins:
            on = sa.and_(*(_COMPARE[op](self._term(a), self._term(b)) for a, op, b in parse_on(join.on)))
            source = source.join(_table(join.table, join.alias), on, isouter=join.left)
        columns = [sa.literal_column("1")] if one else map(self._column, selection.columns or ("*",))
        made = sa.select(*columns).select_from(source).where(*self._where(selection))
        made = made.group_by(*map(self._column, selection.groups))
        made = made.having(
            *(self._condition(having_condition) for having_condition in selection.having_conditions)
        )
        for text, falling in selection.orders:
            column = self._column(text)
            made = made.order_by(column.desc() if falling else column.asc())
        return made.limit(_rows(selection.at_most)).offset(_rows(selection.skipped))

    def _where(self, selection: Selection) -> list[Any]:
        return [self._condition(condition) for condition in selection.conditions]

    def _condition(self, condition: SelectionCondition) -> Any:
        if not isinstance(condition, ConditionGroup):
            return self._compared(*condition)
        joined = sa.or_ if condition.word == "or" else sa.and_
        return joined(*map(self._condition, condition.parts))

    def _column(self, text: str) -> Any:
        return self._term(parse_term(text))

    def _term(self, term: Term) -> Any:
        quote = self._dialect.identifier_preparer.quote
        made: Any = sa.literal_column(".".join(name if name == "*" else quote(name) for name in term.path))
        if term.function:
            argument = made.distinct() if term.distinct else made
            # Without a type: that of the function would be forced upon what it is compared with.
            made = sa.sql.functions.Function(term.function, argument, type_=sa.types.NULLTYPE)
        return made.label(term.alias) if term.alias else made

    def _compared(self, text: str, op: str, value: Any) -> Any:
        return compare(self._column(text), op, value, bound=_bound)

    def compiled(self, statement: Any) -> BoundStatement:
        """A statement of SQLAlchemy as text of this dialect."""
        made = statement.compile(dialect=self._dialect, compile_kwargs={"render_postcompile": True})
        return BoundStatement(str(made), dict(made.params))

    @property
    def _dialect(self) -> Any:
        return _dialect(self._name)


def compare(column: Any, op: str, value: Any, *, bound: Callable[[Any], Any] = lambda value: value) -> Any:
    """The condition of a column, its values bound by `bound`; else SQLAlchemy binds them as the column's type."""
    if op in ("in", "not in"):
        values = [bound(each) for each in value]
        return column.in_(values) if op == "in" else column.not_in(values)
    if op in ("like", "not like"):
        return column.like(bound(value)) if op == "like" else column.not_like(bound(value))
    if value is None or op in ("is", "is not"):
        return column.is_(_constant(value)) if op in ("=", "is") else column.is_not(_constant(value))
    return _COMPARE[op](column, bound(value))


@lru_cache
def _dialect(name: Dialect) -> Any:
    dialect = _DIALECTS[name].dialect(paramstyle="named")
    if name == "sqlite":
        # SQLite takes "Nmae", a column that there is not, for the text 'Nmae', but never `Nmae`.
        dialect.identifier_preparer.initial_quote = dialect.identifier_preparer.final_quote = "`"
    return dialect


@lru_cache(maxsize=512)
def _selecting(dialect: Dialect, shape: Selection) -> BoundStatement:
    """The SELECT of a shape, its parameters the places of their values."""
    compiler = Compiler(dialect)
    return compiler.compiled(compiler.rows(shape))


def _shape(selection: Selection, values: list[Any]) -> Selection:
    """The selection with the places of its values instead of them; `values` takes them up."""

    def placed(value: Any) -> _ValuePosition:
        values.append(value)
        return _ValuePosition(len(values) - 1)

    def compared(column: str, op: str, value: Any) -> Comparison:
        if op in ("in", "not in"):
            return column, op, tuple(map(placed, value))
        if value is None or op in ("is", "is not"):
            _constant(value)
            return column, op, value
        return column, op, placed(value)

    def shaped(conditions: Iterable[SelectionCondition]) -> Iterator[SelectionCondition]:
        for condition in conditions:
            if isinstance(condition, ConditionGroup):
                yield replace(condition, parts=tuple(shaped(condition.parts)))
            else:
                yield compared(*condition)

    return Selection(
        selection.name,
        selection.alias,
        selection.columns,
        selection.joins,
        tuple(shaped(selection.conditions)),
        selection.groups,
        tuple(shaped(selection.having_conditions)),
        selection.orders,
        None if selection.at_most is None else placed(selection.at_most),
        None if selection.skipped is None else placed(selection.skipped),
    )


def _table(name: str, alias: str | None, columns: Iterable[str] = ()) -> Any:
    *schema, plain = parse_name(name)
    made = sa.table(plain, *map(sa.column, columns), schema=".".join(schema) or None)
    return made.alias(parse_name(alias, "alias")[0]) if alias else made


def _columns(table: str, values: Mapping[str, Any]) -> dict[str, Any]:
    if not values:
        raise ValueError(f"a row of {table!r} needs at least one column")
    return {parse_name(name, "column")[-1]: value for name, value in values.items()}


def _bound(value: Any, name: str | None = None) -> Any:
    """Without a type: the driver knows its own, and the server that of the column."""
    return sa.bindparam(name, value, type_=sa.types.NULLTYPE, unique=name is None)


def _rows(number: int | None) -> Any:
    return None if number is None else _bound(number)


def _constant(value: Any) -> Any:
    if value is not None and not isinstance(value, bool):
        raise ValueError(f"IS {value!r}: write IS with None, True or False")
    return _CONSTANTS[value]
