"""Whole tables in and out of a server: what the engines have in common.

An engine has work on a connection in its module `transfer`, and types as SQL in `sql.transfer`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Literal, Protocol

Kind = Literal[
    "boolean", "integer", "decimal", "float", "text", "binary", "date", "time", "timestamp", "timestamptz",
    "interval", "json", "uuid", "array", "bits", "other",
]  # fmt: skip
"""What a column holds, whatever its engine calls it. `other` passes as the server's text."""

Bind = Callable[[Any], Any]
"""Makes of a text, or of bytes, the value that a driver is given."""


TIMES: frozenset[Kind] = frozenset({"time", "timestamp", "timestamptz", "interval"})
_WIDER: frozenset[tuple[Kind, Kind]] = frozenset({
    ("boolean", "integer"), ("integer", "decimal"), ("integer", "bits"), ("bits", "integer"), ("bits", "decimal"),
    ("date", "timestamp"), ("date", "timestamptz"),
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class ColumnKind:
    """A kind of column. `size`: bits of a number, digits of a decimal, characters of a text, None where there is no
    bound; `scale`: digits behind the point, None for as many as there are."""

    kind: Kind
    size: int | None = None
    scale: int | None = None
    unsigned: bool = False

    def keeps(self, other: ColumnKind) -> bool:
        """False where a server may round or cut a value of the other kind without refusing it."""
        if (self.kind, self.size) == ("text", None) or (other.kind, self.kind) in _WIDER:
            return True
        if self.kind in TIMES or self.kind == other.kind == "decimal":
            alike = other.kind == "decimal" or other.kind in TIMES
            return alike and (self.scale is None or (other.scale is not None and other.scale <= self.scale))
        fits = self.size is None or (other.size is not None and other.size <= self.size)
        return self.kind == other.kind and (fits or self.kind == "integer")


@dataclass(frozen=True, slots=True)
class Mapped:
    """The type of a column in another engine; `note` says what changes with it."""

    type: str
    note: str = ""


class TypeOf(Protocol):
    """Makes the type for a kind; with `key`, one that a primary key can have."""

    def __call__(self, column: ColumnKind, *, key: bool) -> Mapped: ...


@dataclass(frozen=True, slots=True)
class TransferSql:
    """Types and literals of one engine.

    `kind_of` reads a declared type, `type_of` makes one that holds every value of a kind. `bind` gives for a declared
    type what makes driver's values of texts; None where texts will do. `literal` writes a value as SQL.
    """

    kind_of: Callable[[str], ColumnKind]
    type_of: TypeOf
    bind: Callable[[str], Bind | None]
    literal: Callable[[Any], str]
    lossless: Callable[[ColumnKind], ColumnKind]
    """Makes text of a kind whose texts this engine would give back in another form."""
    prelude: str = ""
    """Statements before INSERTs in a file."""
    overriding: str = ""
    """Stands before the values of a column whose numbers the server gives."""
    exact: Callable[[str], str] = lambda _declared: "{}"
    """An expression of a column, in place of `{}`, of a declared type: its whole value, which the server orders as it
    compares it."""
    constant: Callable[[str], Bind | None] = lambda _declared: None
    """Makes of such a value, as it was read, one that the server compares with the expression without rounding."""
    typed_values: bool = False
    """Each value has a type of its own, whatever its column's is."""
    kept: Callable[[str], Bind | None] = lambda _declared: None
    """For such a value on its way into a column of a declared type: gives it back. Raises ValueError where it would be
    rounded."""
    only: str = ""
    """Stands before a table whose rows are wanted without those of the tables that inherit from it."""
    ranges_of_rows: bool = True
    """An index of two columns serves `(a, b) > (?, ?)`."""
    transactional: str | None = None
    """Asks whether a table (schema, name) has transactions; None: all have."""


class CopiedOut(Protocol):
    """Bytes of a COPY as they arrive; `rows` counts those seen so far."""

    rows: int

    def __iter__(self) -> Iterator[bytes]: ...


class TransferSession(Protocol):
    """Work on one connection inside a transaction."""

    def prepare(self, connection: Any) -> None:
        """Has the session read and write values in one form and times in UTC, and refuse what does not fit."""
        ...

    def claim(self, connection: Any, name: str) -> bool:
        """Takes a lock that ends with the session; False when another one has it. True without a lock where the
        session is a pooler's."""
        ...

    def release(self, connection: Any, name: str) -> None:
        """Gives the lock back, if it was taken."""
        ...

    def insert(self, connection: Any, into: str, rows: Sequence[Sequence[Any]], tail: str) -> int:
        """Inserts rows `into` a quoted table with columns, and returns how many the server took: a trigger may drop
        some. `tail` says what conflicts lead to. Some of them may be in when it raises: the caller has a savepoint."""
        ...


NULL_CELL = "\0"
"""Stands for NULL among cells that are texts without this character."""


class InsertsCells(Protocol):
    """Takes rows as their cells one after the other, without an object for each row."""

    def insert_cells(self, connection: Any, into: str, pieces: Iterable[list[str]], width: int) -> None:
        """Inserts rows of `width` cells `into` a quoted table with columns, a statement for each piece; NULL_CELL is
        NULL, and no cell holds a line end. The next piece is asked for while the server works at the one before."""
        ...


class CopiesOut(Protocol):
    """Writes rows by COPY."""

    def copied_out(
        self, connection: Any, source: str, *, null: str, delimiter: str
    ) -> AbstractContextManager[CopiedOut]:
        """CSV without a header of a quoted table with columns, or of a query in brackets."""
        ...

    def copied_as(
        self, connection: Any, query: str, options: str, waiting: Callable[[], AbstractContextManager[object]]
    ) -> AbstractContextManager[CopiedOut]:
        """A query in whatever format; each wait for the server is inside `waiting()`."""
        ...


class CopiesBytes(Protocol):
    """Takes rows by COPY, as bytes."""

    def copy_in(self, connection: Any, sql: str, data: Iterable[bytes]) -> int:
        """Runs `COPY … FROM stdin`; returns the number of rows."""
        ...

    def refused_row(self, error: BaseException | None) -> int | None:
        """The refused row of a COPY, counted from 1; None when the error does not name it."""
        ...


_TYPE = re.compile(r"([^()]*)(?:\(\s*(\d+)\s*(?:,\s*(-?\d+)\s*)?\))?([^()]*)\Z")


def parsed_type(declared: str) -> tuple[str, int | None, int | None, str]:
    """`numeric(10,2) unsigned` → name, size, scale, what follows; the whole as its name where it is of another form."""
    match = _TYPE.match(declared.lower())
    if match is None:
        return declared.lower(), None, None, ""
    name, size, scale, rest = match.groups()
    return name.strip(), int(size) if size else None, int(scale) if scale else None, rest.strip()


def from_hex(value: Any) -> Any:
    r"""Bytes of `\x00ff`; other texts as their UTF-8. Raises ValueError for digits that are none."""
    if isinstance(value, bytes):
        return value
    return bytes.fromhex(value[2:]) if value.startswith("\\x") else value.encode()


_WORDS = {"t": "1", "true": "1", "f": "0", "false": "0"}


def one_or_zero(value: Any) -> Any:
    """The numbers of true and false; anything else as it is."""
    return _WORDS.get(value.lower(), value) if isinstance(value, str) else value


_OFFSET = re.compile(r"(.*\d{2}:\d{2}(?::\d{2})?(?:\.\d+)?) ?(Z|[+-]\d{2}(?::?\d{2}(?::\d{2})?)?)\Z")


def in_utc(value: Any) -> Any:
    """A time with an offset as the same moment in UTC without one; anything else as it is."""
    if not isinstance(value, str):
        return value
    if value.endswith("+00"):
        # As an export of PostgreSQL writes it.
        return value[:-3]
    match = _OFFSET.match(value)
    if match is None:
        return value
    moment, offset = match.groups()
    if offset in ("Z", "+00", "+00:00", "+0000"):
        return moment
    from datetime import UTC, datetime

    offset = offset if len(offset) > 3 else f"{offset}:00"
    try:
        return datetime.fromisoformat(f"{moment}{offset}").astimezone(UTC).replace(tzinfo=None).isoformat(" ")
    except OverflowError as error:
        raise ValueError(f"{value} is no moment of the years 1 to 9999 in UTC") from error


_BEHIND_TIME = re.compile(r"[+Z]|:\d\d(?:\.\d+)? ?-")


def column_in_utc(values: list[str]) -> list[str]:
    """The same of many, none with a line end; quick where all have the offset of UTC, or none has one."""
    text = "\n".join(values) + "\n"
    if text.count("+00\n") + text.count(f"\n{NULL_CELL}\n") == len(values):
        return text.replace("+00\n", "\n")[:-1].split("\n")
    return [in_utc(value) for value in values] if _BEHIND_TIME.search(text) else values


def quoted_text(text: str) -> str:
    """A literal of standard SQL."""
    return "'" + text.replace("'", "''") + "'"
