"""COPY for programs: many rows into a table as the server takes them fastest, and a query out as bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from itertools import chain
from typing import TYPE_CHECKING, Any, Literal, Protocol, get_args

from katax_cli.core.sql import Statement, quote_identifier
from katax_cli.core.sql.terms import parse_name
from katax_cli.engines.base import CopiesIn, SqlEngine, require
from katax_cli.engines.registry import part
from katax_cli.errors import unknown_name

if TYPE_CHECKING:
    from katax_cli.engines.transfers import CopiedOut, CopiesOut

CopyFormat = Literal["text", "csv", "binary"]
"""See https://www.postgresql.org/docs/current/sql-copy.html, file formats."""
CopyData = Iterable[Sequence[object]] | Iterable[bytes] | bytes
"""Rows of values, or what the format says as bytes, in pieces of any size."""
Waiting = Callable[[], AbstractContextManager[object]]

_FORMATS: tuple[CopyFormat, ...] = get_args(CopyFormat)
_BYTES = (bytes, bytearray, memoryview)


class TakesCopies(Protocol):
    """An open transaction."""

    @property
    def engine(self) -> SqlEngine: ...
    def copied(self, sql: str, copying: Callable[[Any], int]) -> int:
        """The result of `copying(connection)`, observed and guarded as this statement."""
        ...


def copy_in(
    on: TakesCopies,
    table: str,
    columns: Sequence[str],
    data: CopyData,
    *,
    format: CopyFormat,
    waiting: Waiting,
) -> int:
    """Sends rows or bytes; the number of rows that the server says it took. See `SqlDatabase.copy_in`."""
    engine = _engine(on.engine, "copy_in()")
    pieces, is_bytes = _opened(data)
    if not is_bytes and format != "text":
        raise ValueError(f"copy_in() takes rows without a format; {format!r} is for bytes")
    name = ".".join(quote_identifier(word, "postgresql") for word in parse_name(table))
    names = ", ".join(quote_identifier(parse_name(column, "column")[-1], "postgresql") for column in columns)
    into = f"{name} ({names})" if names else name
    sql = f"COPY {into} FROM stdin WITH (FORMAT {_known(format)})"
    return on.copied(sql, lambda connection: engine.copied_in(connection, sql, pieces, waiting))


def copied_out(
    engine: SqlEngine, connection: Any, query: Statement, *, format: CopyFormat, waiting: Waiting
) -> AbstractContextManager[CopiedOut]:
    """Bytes of a query as they arrive. See `SqlDatabase.copy_out`."""
    copies: CopiesOut = part(engine, "transfer")
    return copies.copied_as(connection, query.text.rstrip().rstrip(";"), f"FORMAT {_known(format)}", waiting)


def check_copy_out(engine: SqlEngine, format: str) -> None:
    """Raises WrongEngine and ValueError before anything is sent."""
    _engine(engine, "copy_out()")
    _known(format)


def _engine(engine: SqlEngine, wanted_by: str) -> Any:
    require(engine, CopiesIn, lacks="COPY", wanted_by=wanted_by, works_on=("postgresql",))
    return part(engine, "transfer")


def _known(format: str) -> str:
    if format not in _FORMATS:
        raise ValueError(unknown_name("format", format, _FORMATS, "formats"))
    return format


def _opened(data: CopyData) -> tuple[Iterable[Any], bool]:
    """The pieces, and whether they are bytes, which the first one shows."""
    if isinstance(data, _BYTES):
        return [bytes(data)], True
    if isinstance(data, str):
        raise TypeError("copy_in() takes bytes or rows, not text; encode it")
    pieces: Iterator[Any] = iter(data)
    first = next(pieces, None)
    if first is None:
        return (), False
    if isinstance(first, str):
        raise TypeError("copy_in() takes bytes or rows, not text; encode it")
    return chain([first], pieces), isinstance(first, _BYTES)
