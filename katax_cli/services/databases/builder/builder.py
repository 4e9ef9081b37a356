"""Statements from calls: `db.table("users").where("age", ">", 17).order_by("name").all()`.

They run through the same guarded call as any text. Names are parsed and quoted, values are bound: nothing that is
passed in becomes SQL.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from katax_cli.core.text.duration import Duration
from katax_cli.errors import Refused
from katax_cli.services.databases.builder.selection import (
    BoundStatement,
    ConditionGroup,
    Join,
    QueryCalls,
    Row,
    RunsStatements,
    Selection,
    condition_of,
    falls,
    natural,
)
from katax_cli.services.databases.builder.upsert import MOST_VALUES, KeyedRows, one_shape

if TYPE_CHECKING:
    from katax_cli.services.databases.builder.compile import Compiler


@dataclass(frozen=True)
class Builder(Selection, QueryCalls):
    """A query on one table, which grows by calls: each returns a new one and changes none.

    Columns are `name`, `table.name`, `*` or `count(name)`, in `select` perhaps with `as alias`. The last call runs it:
    `all` (`execute`), `first`, `count`, `paginate`, `find_by_id`, `create`, `create_many`, `upsert`, `update`,
    `delete`; they raise what `query` raises, and ValueError for what is no column or operator.
    """

    on: RunsStatements = field(kw_only=True)

    def select(self, *columns: str) -> Builder:
        """These columns too; none at all means `*`."""
        return replace(self, columns=(*self.columns, *columns))

    def where(self, column: str | ConditionGroup, *rest: Any) -> Builder:
        """`where("age", 18)` or `where("age", ">=", 18)`; several hold together. None is compared with IS.

        `where(any_of(…))` takes a group of them; see `any_of` and `all_of`.
        """
        return replace(self, conditions=(*self.conditions, condition_of(column, rest)))

    def join(self, table: str, on: str, alias: str | None = None) -> Builder:
        """The rows that have a partner: `join("orders", "u.id = o.user_id", alias="o")`."""
        return replace(self, joins=(*self.joins, Join(table, on, alias, left=False)))

    def left_join(self, table: str, on: str, alias: str | None = None) -> Builder:
        """All rows, with their partners where there are any."""
        return replace(self, joins=(*self.joins, Join(table, on, alias, left=True)))

    def group_by(self, *columns: str) -> Builder:
        return replace(self, groups=(*self.groups, *columns))

    def having(self, column: str | ConditionGroup, *rest: Any) -> Builder:
        """Filters groups as `where` filters rows: `having("count(u.id)", ">", 5)`."""
        return replace(self, having_conditions=(*self.having_conditions, condition_of(column, rest)))

    def order_by(self, column: str, direction: str = "asc") -> Builder:
        return replace(self, orders=(*self.orders, (column, falls(direction))))

    def limit(self, rows: int) -> Builder:
        return replace(self, at_most=natural(rows, "limit"))

    def offset(self, rows: int) -> Builder:
        return replace(self, skipped=natural(rows, "offset"))

    def all(self, *, timeout: Duration | None = None) -> list[Row]:
        """The rows as dicts."""
        return self.on.query(*self.statement(), timeout=timeout)

    def count(self, *, timeout: Duration | None = None) -> int:
        """The number of rows, whatever the limit."""
        (row,) = self.on.run(*self.count_statement(), timeout=timeout).rows
        return int(row[0])

    def find_by_id(self, id: Any, *, key: str = "id", timeout: Duration | None = None) -> Row | None:
        """The row of this id; None when there is none."""
        return self.where(key, id).first(timeout=timeout)

    def create(self, values: Mapping[str, Any], *, key: str = "id", timeout: Duration | None = None) -> Row:
        """Inserts a row and returns it as the server has it, with its defaults."""
        if self.on.dialect != "mysql":
            insert = self._compiler.insert(self.name, values, returning=True)
            return self.on.query(*insert, timeout=timeout)[0]
        with self.on.together(timeout=timeout) as connection:
            connection.run(*self.insert_statement(values), timeout=timeout)
            made = values.get(key)
            if made is None:
                made = connection.query("SELECT last_insert_id() AS id", timeout=timeout)[0]["id"]
            found = (
                Builder(self.name, on=connection).find_by_id(made, key=key, timeout=timeout) if made else None
            )
        return found or dict(values)

    def create_many(self, rows: Sequence[Mapping[str, Any]], *, timeout: Duration | None = None) -> int:
        """Inserts rows of the same columns, all or none; returns how many."""
        if not rows:
            return 0
        columns = one_shape(rows)
        if self.on.dialect == "mysql":
            # PyMySQL sends many rows at once itself, and knows how long they are.
            self._create_each(rows, timeout)
        else:
            self._create_together(rows, max(1, MOST_VALUES // len(columns)), timeout)
        return len(rows)

    def upsert(
        self,
        rows: Mapping[str, Any] | Sequence[Mapping[str, Any]],
        *,
        key: str | Sequence[str],
        update: Sequence[str] | None = None,
        timeout: Duration | None = None,
    ) -> int:
        """Inserts rows of the same columns, and changes those whose `key` is there already; all or none.

        `key` names the columns of a unique index, `update` the columns that are set in a row that is there: all others
        when None, none when empty. Returns how many were inserted or changed. Raises UniqueViolation for a row that
        meets another unique key (on MySQL, which would change that other row, Refused for a table that has one),
        QueryError or Refused where no unique index has these columns, ValueError for NULL in a key or a key twice.
        """
        given = [rows] if isinstance(rows, Mapping) else list(rows)
        if not given:
            return 0
        names = [key] if isinstance(key, str) else list(key)
        changed = [name for name in given[0] if name not in names] if update is None else list(update)
        return KeyedRows(self.name, given, names, changed).run(self.on, self._compiler, timeout)

    def _create_each(self, rows: Sequence[Mapping[str, Any]], timeout: Duration | None) -> None:
        sql, params = self.insert_statement(rows[0])
        values = [dict(zip(params, (row[column] for column in rows[0]), strict=True)) for row in rows]
        with self.on.together(timeout=timeout) as connection:
            connection.execute_many(sql, values, timeout=timeout)

    def _create_together(
        self, rows: Sequence[Mapping[str, Any]], at_once: int, timeout: Duration | None
    ) -> None:
        """One INSERT for so many rows: a trigger of the statement runs once for all of them."""
        parts = [rows[start : start + at_once] for start in range(0, len(rows), at_once)]
        with self.on.together(timeout=timeout) if len(parts) > 1 else nullcontext(self.on) as connection:
            for part in parts:
                sql = self._compiler.insert_many(self.name, rows[0], len(part))
                connection.run(sql, [row[column] for row in part for column in rows[0]], timeout=timeout)

    def update(
        self, values: Mapping[str, Any], *, everywhere: bool = False, timeout: Duration | None = None
    ) -> int:
        """Changes the rows of `where`; returns how many. Raises Refused without `where` unless `everywhere`."""
        return self.on.execute(*self.update_statement(values, everywhere=everywhere), timeout=timeout)

    def delete(self, *, everywhere: bool = False, timeout: Duration | None = None) -> int:
        """Deletes the rows of `where`; returns how many. Raises Refused without `where` unless `everywhere`."""
        return self.on.execute(*self.delete_statement(everywhere=everywhere), timeout=timeout)

    def statement(self) -> BoundStatement:
        """The SELECT."""
        return self._compiler.select(self)

    def insert_statement(self, values: Mapping[str, Any]) -> BoundStatement:
        """The INSERT of a row, its values in the order of its columns."""
        return self._compiler.insert(self.name, values)

    def count_statement(self) -> BoundStatement:
        return self._compiler.counted(self)

    def update_statement(self, values: Mapping[str, Any], *, everywhere: bool = False) -> BoundStatement:
        self._refuse_everything("update", everywhere)
        return self._compiler.update(self, values)

    def delete_statement(self, *, everywhere: bool = False) -> BoundStatement:
        self._refuse_everything("delete", everywhere)
        return self._compiler.delete(self)

    @property
    def _compiler(self) -> Compiler:
        # Imported now: programs that build no statement do not pay for SQLAlchemy.
        from katax_cli.services.databases.builder.compile import Compiler

        return Compiler(self.on.dialect)

    def _refuse_everything(self, verb: str, everywhere: bool) -> None:
        if self.joins or self.groups or self.orders or self.at_most is not None or self.skipped is not None:
            raise ValueError(f"{verb} supports where() only; select the ids first")
        if not self.conditions and not everywhere:
            raise Refused(
                f"{verb} without where() would affect every row of {self.name!r}; pass everywhere=True"
            )
