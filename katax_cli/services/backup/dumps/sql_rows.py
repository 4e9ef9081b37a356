"""Counts the rows in the SQL that mysqldump and mariadb-dump write, piece by piece, in constant memory."""

from __future__ import annotations

import re
from collections.abc import Iterable

# With the names of its columns where some are generated.
_INSERT = re.compile(rb"\nINSERT INTO `((?:[^`]|``)*+)` (?:\((?:[^`)]|`(?:[^`]|``)*+`)*+\) )?VALUES(?=\n| )")
_BODY = re.compile(rb"\nDELIMITER (?!;\n)\S+\n")
_STATEMENT_END = re.compile(rb";\n")
_BODY_END = b"\nDELIMITER ;\n"
_STRING_END = re.compile(rb"(?:[^'\\]++|\\.)*+'", re.DOTALL)
_END = b"\n-- Dump completed"
_TAIL = 512
_HEAD = 2**19
"""More than an INSERT has before its first row: 4,096 columns of 64 characters."""


class SqlRows:
    """Takes pieces of the stream. Line breaks in values are escaped: a line that begins with `(` is a row.

    MariaDB's tool writes each row on a line of its own; MySQL's writes all of a statement on one, where a `(`
    outside of strings begins a row. Bodies of triggers and routines are passed over.
    """

    def __init__(self, tables: Iterable[str]) -> None:
        self.counts = dict.fromkeys(tables, 0)
        self._waiting = b"\n"
        self._tail = b""
        self._table: str | None = None
        self._is_by_line = self._is_in_string = self._is_in_body = False

    @property
    def is_complete(self) -> bool:
        """True when the last line is the tool's end mark."""
        at = self._tail.rfind(_END)
        return at >= 0 and self._tail.find(b"\n", at + 1) == len(self._tail) - 1

    def take(self, data: bytes) -> None:
        """The next piece, of any size."""
        self._tail = (self._tail + data[-_TAIL:])[-_TAIL:]
        text, at = self._waiting + data, 0
        while at >= 0:
            if self._table is None:
                at = self._to_insert(text, at)
            elif self._is_by_line:
                at = self._rows_by_line(text, at)
            else:
                at = self._rows_in_line(text, at)

    def _to_insert(self, text: bytes, at: int) -> int:
        """Where the rows of the next INSERT begin; -1 when the text has none."""
        if self._is_in_body:
            end = text.find(_BODY_END, at)
            if end < 0:
                return self._wait(text[max(at, len(text) - len(_BODY_END)) :])
            self._is_in_body = False
            at = end + len(_BODY_END) - 1
        insert = _INSERT.search(text, at)
        # One that comes first ends at the latest with the line break before the INSERT.
        body = _BODY.search(text, at, len(text) if insert is None else insert.start() + 1)
        if body is not None:
            self._is_in_body = True
            return body.end() - 1
        if insert is None:
            line = text.rfind(b"\n", at)
            return self._wait(text[line:] if line >= 0 and len(text) - line <= _HEAD else b"")
        self._table = insert[1].replace(b"``", b"`").decode(errors="surrogateescape")
        self._is_by_line = text.startswith(b"\n", insert.end())
        return insert.end()

    def _rows_by_line(self, text: bytes, at: int) -> int:
        # A single character is found much faster than two; no other line stands between the rows.
        semicolon = text.find(b";", at)
        end = None if semicolon < 0 else _STATEMENT_END.search(text, semicolon)
        if end is not None:
            return self._end_rows(text.count(b"\n", at, end.start()), end.end() - 1)
        last = max(at, len(text) - 1)
        self._add(text.count(b"\n", at, last))
        return self._wait(text[last:])

    def _rows_in_line(self, text: bytes, at: int) -> int:
        if self._is_in_string:
            string = _STRING_END.match(text, at)
            if string is None:
                slashes = len(text) - len(text.rstrip(b"\\"))
                return self._wait(b"\\" if min(slashes, len(text) - at) % 2 else b"")
            self._is_in_string = False
            return string.end()
        quote = text.find(b"'", at)
        end = text.find(b";\n", at, quote if quote >= 0 else len(text))
        if end >= 0:
            return self._end_rows(text.count(b"(", at, end), end + 1)
        if quote >= 0:
            self._add(text.count(b"(", at, quote))
            self._is_in_string = True
            return quote + 1
        last = max(at, len(text) - 1)
        self._add(text.count(b"(", at, last))
        return self._wait(text[last:])

    def _end_rows(self, count: int, at: int) -> int:
        self._add(count)
        self._table = None
        return at

    def _add(self, count: int) -> None:
        if self._table in self.counts:
            self.counts[self._table] += count

    def _wait(self, text: bytes) -> int:
        """Keeps what the next piece may continue."""
        self._waiting = text
        return -1
