"""Values that people wrote, bound for the columns that they are compared with or stored in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from katax_cli.core.sql import Dialect
from katax_cli.core.sql.conditions import Condition, Value, named_in
from katax_cli.core.sql.terms import Term, parse_term
from katax_cli.core.sql.values import Kind, checked, column_kind, compared
from katax_cli.services.databases.sql import SqlDatabase

TableSource = tuple[str, str | None]
"""A table and its alias."""
_NUMERIC_FUNCTIONS = ("count", "sum", "avg", "length", "abs")
_TEXT_FUNCTIONS = ("lower", "upper")


@dataclass(frozen=True)
class Columns:
    """The columns of the tables of one query: name by which a table is addressed → column → type."""

    dialect: Dialect
    tables: Mapping[str, Mapping[str, str]]

    def kind(self, path: Sequence[str]) -> Kind | None:
        """None for a column of no known table."""
        *table, column = path
        wanted = [self.tables.get(table[-1].lower(), {})] if table else self.tables.values()
        types = [columns[column.lower()] for columns in wanted if column.lower() in columns]
        return column_kind(types[0], self.dialect) if types else None


def columns_of(database: SqlDatabase, sources: Iterable[TableSource]) -> Columns:
    """Asks the server's catalogue; a table that it does not have is left out."""
    tables = {}
    for name, alias in sources:
        description = database.describe(name)
        if description is not None:
            address = alias or name.rpartition(".")[2]
            tables[address.lower()] = {column.name.lower(): column.type for column in description.columns}
    return Columns(database.dialect, tables)


@dataclass(frozen=True)
class Binder:
    """Binds written values: `params` are those of `:name`; without `columns` every value stays text.

    Raises ValueError for text that the column cannot hold, for a word that is a column itself, and for a `:name`
    without a value.
    """

    params: Mapping[str, str]
    columns: Columns | None = None
    aliases: Mapping[str, Term] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)

    def condition(self, written: Condition) -> tuple[str, str, Any]:
        """The condition in the arguments of `Builder.where` and `having`."""
        if written.op in ("is", "is not"):
            return written.term, written.op, written.constant
        values = [self._compared(written, value) for value in written.values]
        return written.term, written.op, values if written.op in ("in", "not in") else values[0]

    def assigned(self, column: str, value: Value, *, own_columns: bool) -> Any:
        """The value to store in a column; with `own_columns` the name of another column is no value."""
        text = self._text(value, refuse_columns=own_columns)
        if value.kind == "word" and text.lower() == "null":
            raise ValueError(f"{column}=null would store the text; use --json for NULL, or quote it: 'null'")
        if self.columns is None:
            return text
        kind = self.columns.kind([column.rpartition(".")[2]])
        return text if kind is None else checked(column, text, kind, self.columns.dialect)

    def bound(self, name: str) -> str:
        """The value of `:name`."""
        if name not in self.params:
            raise ValueError(f"no value for :{name}; give --param {name}=…, or quote it: ':{name}'")
        self.used.add(name)
        return self.params[name]

    def refuse_unused(self) -> None:
        unused = sorted(self.params.keys() - self.used)
        if unused:
            raise ValueError(f"no :{unused[0]} in a value, but --param {unused[0]} was given")

    def _compared(self, written: Condition, value: Value) -> Any:
        text = self._text(value, refuse_columns=True)
        if self.columns is None or written.op in ("like", "not like"):
            return text
        term = parse_term(written.term)
        computed = term.function is not None
        if not computed and len(term.path) == 1 and self.columns.kind(term.path) is None:
            term = self.aliases.get(term.path[0].lower(), term)
            computed = term.function is not None
        return compared(written.term, text, self._kind(term), self.columns.dialect, computed=computed)

    def _text(self, value: Value, *, refuse_columns: bool) -> str:
        if value.kind == "bound":
            return self.bound(value.text)
        if value.kind == "word" and refuse_columns and self.columns is not None:
            for name in named_in(value.text):
                if self.columns.kind(name.split(".")) is not None:
                    raise ValueError(
                        f"{name!r} is a column, not a value; quote the value if the text is meant"
                    )
        return value.text

    def _kind(self, term: Term) -> Kind:
        assert self.columns is not None
        if term.function in _NUMERIC_FUNCTIONS:
            return "number"
        if term.function in _TEXT_FUNCTIONS:
            return "other"
        return self.columns.kind(term.path) or ("untyped" if self.columns.dialect == "sqlite" else "other")
