"""The place of a syntax error: the server quotes what follows it, and only where that is certain it is shown."""

from __future__ import annotations

import re

import pymysql
from pymysql.constants import ER

from katax_cli.core.resilience.failure import ServerWords
from katax_cli.core.text.text import width

_NEAR = re.compile(r" near '(?P<rest>.*)' at line (?P<line>\d+)$", re.DOTALL)
_QUOTED = 80
"""Characters that the server quotes at the most."""
_BEFORE, _AFTER = 40, 30


def note_place(error: pymysql.Error, statement: str) -> None:
    """Adds to a syntax error what it says of a statement's place, for `words_of`."""
    if error.args[:1] == (ER.PARSE_ERROR,) and len(error.args) > 1:
        error.__dict__["katax_words"] = located(statement, str(error.args[1]))


def words_of(error: pymysql.Error) -> ServerWords:
    """The words that `note_place` added; none without it."""
    return error.__dict__.get("katax_words") or ServerWords()


def located(statement: str, message: str) -> ServerWords | None:
    """Position, line and caret; None where the quoted rest stands in none or in several places of the line."""
    near = _NEAR.search(message)
    if near is None:
        return None
    rest, number = near["rest"], int(near["line"])
    lines = statement.split("\n")
    if number > len(lines):
        return None
    start = sum(len(line) + 1 for line in lines[: number - 1])
    end = start + len(lines[number - 1])
    places = [at for at in range(start, end + 1) if _follows(statement, at, rest)]
    if len(places) != 1:
        return None
    return ServerWords(position=places[0] + 1, excerpt=_excerpt(lines[number - 1], places[0] - start, number))


def _follows(statement: str, at: int, rest: str) -> bool:
    """True when the server would quote this rest at a place: up to the end, or as much as it quotes."""
    followed = statement[at:].rstrip()
    return followed == rest.rstrip() or (len(rest) >= _QUOTED and followed.startswith(rest))


def _excerpt(line: str, column: int, number: int) -> tuple[str, str]:
    """The line around the column, and a caret under it; tabs are one column wide."""
    head = max(0, column - _BEFORE)
    shown = line[head : column + _AFTER].replace("\t", " ")
    before, after = "..." if head else "", "..." if column + _AFTER < len(line) else ""
    label = f"LINE {number}: {before}"
    return f"{label}{shown}{after}", " " * (len(label) + width(shown[: column - head])) + "^"
