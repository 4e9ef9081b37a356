"""Scripts into statements, the way psql, mysql and sqlite3 do it."""

import re
from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

from katax_cli.core.sql.lexer import (
    LAYOUT,
    SPACE,
    Dialect,
    Token,
    code_tokens,
    find_outside_literals,
    keywords,
    tokens,
)

# Patterns as text are compiled at their first use, which keeps the import cheap.
_DELIMITER = r"(?i)delimiter[ \t]+(\S+)[^\n]*"
_COPY_END = r"(?m)^\\\.[ \t]*\r?$"
_ROUTINES: dict[Dialect, frozenset[str]] = {
    "postgresql": frozenset({"FUNCTION", "PROCEDURE", "RULE"}),
    "mysql": frozenset({"FUNCTION", "PROCEDURE", "TRIGGER", "EVENT", "PACKAGE"}),
    "sqlite": frozenset({"TRIGGER"}),
}
_OTHER_OBJECTS = keywords(
    "TABLE VIEW INDEX DATABASE SCHEMA USER ROLE SERVER TABLESPACE SEQUENCE TYPE DOMAIN EXTENSION"
)
# After these a new statement of a MySQL routine begins; elsewhere IF and REPEAT are functions.
_STARTERS = frozenset({";", "BEGIN", "THEN", "ELSE", "DO", "LOOP", "REPEAT", ":"})
_BODY_STARTERS = _STARTERS | {")", "ROW", "DETERMINISTIC", "DATA", "SQL"}
_FOLLOWING = "katax_next"
"""Stands for a statement that follows a text."""
_HEAD_WORDS = 24
_HEAD_LENGTH = 4000


class ScriptPiece(NamedTuple):
    """One statement of a script as text; see `Statement`, which says what it does."""

    text: str
    line: int
    offset: int
    copy_data: str | None = None
    client_line: str | None = None


def pieces(text: str, dialect: Dialect) -> Iterator[ScriptPiece]:
    """The statements of a script, lazily and in one pass; those that are only comments are dropped.

    MySQL's `DELIMITER` is obeyed at the start of a line between statements. Without it, and for
    SQLite's triggers and PostgreSQL's `BEGIN ATOMIC` and `CREATE RULE`, bodies stay whole. A line for psql
    is a statement of its own. Never raises.
    """
    return _Splitter(text, dialect).pieces()


def ends_statement(text: str, dialect: Dialect) -> bool:
    """True when the last statement of `text` has its terminator, so that nothing of it is still to come."""
    *_, last = pieces(f"{text}\n{_FOLLOWING}", dialect)
    return [token.text for token in code_tokens(last.text, dialect)] == [_FOLLOWING]


class _Splitter:
    def __init__(self, text: str, dialect: Dialect) -> None:
        self._text = text
        self._dialect: Dialect = dialect
        self._delimiter = ";"
        self._position = 0
        self._line = 1
        self._counted = 0
        self._last_copy_end: int | None = None

    def pieces(self) -> Iterator[ScriptPiece]:
        while (span := self._next_start()) is not None:
            begin, first = span
            if self._changes_delimiter(first):
                continue
            if self._is_for_psql(first):
                yield self._line_for_psql(begin, first)
                continue
            end = self._end(first)
            self._position = end + len(self._delimiter)
            body = self._text[begin:end].rstrip(SPACE)
            yield ScriptPiece(body, self._line_of(first), begin, self._copy_data(first, end))

    def _next_start(self) -> tuple[int, int] | None:
        """The start of the next statement with its comments, and without them."""
        while True:
            begin = None
            for token in tokens(self._text, self._dialect, self._position):
                if token.kind == "space":
                    continue
                if self._text.startswith(self._delimiter, token.start):
                    self._position = token.start + len(self._delimiter)
                    break
                begin = token.start if begin is None else begin
                if token.kind not in ("comment", "hint"):
                    return begin, token.start
            else:
                return None

    def _line_of(self, offset: int) -> int:
        self._line += self._text.count("\n", self._counted, offset)
        self._counted = offset
        return self._line

    def _changes_delimiter(self, first: int) -> bool:
        if self._dialect != "mysql":
            return False
        command = re.compile(_DELIMITER).match(self._text, first)
        line_start = self._text.rfind("\n", 0, first) + 1
        if command is None or self._text[line_start:first].strip(SPACE):
            return False
        self._delimiter = command[1]
        self._position = command.end()
        return True

    def _is_for_psql(self, first: int) -> bool:
        """True for a line that begins with a backslash, which is for psql and not for the server."""
        line_start = self._text.rfind("\n", 0, first) + 1
        begins_line = not self._text[line_start:first].strip(SPACE)
        return self._dialect == "postgresql" and self._text[first] == "\\" and begins_line

    def _line_for_psql(self, begin: int, first: int) -> ScriptPiece:
        end = self._text.find("\n", first)
        self._position = end = len(self._text) if end < 0 else end
        line = self._text[first:end].rstrip(SPACE)
        return ScriptPiece(self._text[begin:end].rstrip(SPACE), self._line_of(first), begin, client_line=line)

    def _end(self, first: int) -> int:
        if self._delimiter == ";" and _may_hold_statements(self._text, first):
            routine = routine_kind(self._text[first : first + _HEAD_LENGTH], self._dialect)
            if routine is not None:
                return self._end_of_routine(first, routine)
        return find_outside_literals(self._text, self._delimiter, self._dialect, first)

    def _end_of_routine(self, first: int, routine: str) -> int:
        depth = 0
        previous = ""
        for token in tokens(self._text, self._dialect, first):
            if token.kind in LAYOUT:
                continue
            word = _word(token)
            if word == ";" and not depth:
                return token.start
            depth += _depth_change(self._dialect, routine, word, previous, depth)
            previous = word
        return len(self._text)

    def _copy_data(self, first: int, end: int) -> str | None:
        """The lines up to `\\.` after the line of `COPY … FROM stdin;`; None where there is no `\\.`."""
        if self._dialect != "postgresql" or not _copies_from_stdin(self._text[first:end]):
            return None
        if self._last_copy_end is None:
            self._last_copy_end = self._text.rfind("\n\\.")
        newline = self._text.find("\n", end)
        if newline < 0 or self._last_copy_end < newline:
            return None
        closing = re.compile(_COPY_END).search(self._text, newline + 1)
        if closing is None:
            self._last_copy_end = -1
            return None
        self._position = closing.end()
        return self._text[newline + 1 : closing.start()]


def _word(token: Token) -> str:
    """The token in upper case; `label:LOOP` reads as a placeholder but is a keyword here."""
    if token.kind in ("word", "punct", "other"):
        return token.text.upper()
    return token.text[1:].upper() if token.kind == "param" and token.text[0] == ":" else ""


def _may_hold_statements(text: str, first: int) -> bool:
    return text[first : first + 6].upper() in ("CREATE", "BEGIN ", "BEGIN\n")


def routine_kind(head: str, dialect: Dialect) -> str | None:
    """The object that a statement with `;` of its own creates: TRIGGER, FUNCTION, …; None for any other."""
    words = []
    for token in code_tokens(head, dialect):
        words.append(_word(token))
        if words[-1] in _ROUTINES[dialect]:
            return words[-1] if words[0] == "CREATE" else None
        if words[-1] in _OTHER_OBJECTS or len(words) > _HEAD_WORDS:
            return None
        if dialect == "mysql" and words == ["BEGIN", "NOT", "ATOMIC"]:
            return "BLOCK"
    return None


def _depth_change(dialect: Dialect, routine: str, word: str, previous: str, depth: int) -> int:
    if dialect == "mysql":
        return _mysql_depth_change(word, previous, depth)
    if dialect == "sqlite":
        # SQLite's own rule (sqlite3_complete): a trigger ends with `; END ;`.
        opens = word == "BEGIN" and not depth
        return 1 if opens else -depth if word == "END" and previous == ";" else 0
    if routine == "RULE":
        return {"(": 1, ")": -1 if depth else 0}.get(word, 0)
    if (previous, word) == ("BEGIN", "ATOMIC") or (word == "CASE" and depth):
        return 1
    return -1 if word == "END" and depth else 0


def _mysql_depth_change(word: str, previous: str, depth: int) -> int:
    if word == "END":
        return -1 if depth else 0
    if previous == "END":
        return 0
    if word in ("BEGIN", "CASE", "LOOP", "WHILE"):
        return 1
    if word in ("IF", "REPEAT"):
        return int(previous in (_STARTERS if depth else _BODY_STARTERS))
    return int(word == "FOR" and previous in _STARTERS)


def _copies_from_stdin(statement: str) -> bool:
    if statement[:4].upper() != "COPY":
        return False
    words = [_word(token) for token in code_tokens(statement, "postgresql")]
    return any(pair == ("FROM", "STDIN") for pair in pairwise(words))
