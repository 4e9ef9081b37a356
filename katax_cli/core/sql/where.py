"""Finds an UPDATE or DELETE whose WHERE holds for every row: none, `1=1`, `a = a`, `… or true`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from katax_cli.core.sql.lexer import Dialect, keywords


class Code(NamedTuple):
    """A token that the server runs, words in upper case, with the depth of parentheses that it stands in."""

    kind: str
    text: str
    depth: int


_NO_COLUMNS = keywords(
    """TRUE FALSE NULL UNKNOWN NOT AND OR XOR IS IN LIKE ILIKE RLIKE REGEXP GLOB MATCH SIMILAR TO BETWEEN EXISTS SELECT
    ALL ANY SOME DISTINCT FROM CASE WHEN THEN ELSE END CAST AS INTERVAL DATE TIME TIMESTAMP DATETIME ISNULL NOTNULL
    DIV MOD COLLATE ESCAPE BINARY VALUES ROW ARRAY INT INTEGER BIGINT SMALLINT NUMERIC DECIMAL TEXT CHAR VARCHAR
    BOOL BOOLEAN SIGNED UNSIGNED CURRENT_DATE CURRENT_TIME CURRENT_TIMESTAMP LOCALTIME LOCALTIMESTAMP CURRENT_USER"""
)
_AFTERWARDS = frozenset({"RETURNING", "ORDER", "LIMIT"})


def why_every_row(code: Sequence[Code], index: int, dialect: Dialect) -> str | None:
    """The defect in the WHERE of the change that begins at `index`; None when it names columns."""
    condition = _condition(code, index)
    if condition is None:
        return "without WHERE"
    if any(not _chooses(branch) for branch in _branches(condition, dialect)):
        return "with a WHERE that holds for every row"
    return None


def _condition(code: Sequence[Code], index: int) -> list[Code] | None:
    """The tokens behind WHERE; None without a WHERE."""
    depth = code[index].depth
    found: list[Code] | None = None
    for item in code[index + 1 :]:
        here = item.depth == depth and item.kind == "word"
        if item.depth < depth or (found is not None and here and item.text in _AFTERWARDS):
            break
        if found is not None:
            found.append(item)
        elif here and item.text == "WHERE":
            found = []
    return found


def _branches(condition: list[Code], dialect: Dialect) -> list[list[Code]]:
    """The parts that OR connects, each of which is enough; parentheses around all of it are taken away."""
    while _enclosed(condition):
        condition = condition[1:-1]
    depth = min((item.depth for item in condition), default=0)
    parts: list[list[Code]] = [[]]
    for item in condition:
        if item.depth == depth and _connects(item, dialect):
            parts.append([])
        else:
            parts[-1].append(item)
    if len(parts) == 1:
        return parts
    return [branch for part in parts for branch in _branches(part, dialect)]


def _enclosed(condition: list[Code]) -> bool:
    if len(condition) < 2 or (condition[0].text, condition[-1].text) != ("(", ")"):
        return False
    outer = condition[0].depth
    return all(item.depth > outer for item in condition[1:-1])


def _connects(item: Code, dialect: Dialect) -> bool:
    return (item.kind == "word" and item.text == "OR") or (dialect == "mysql" and item.text == "||")


def _chooses(branch: list[Code]) -> bool:
    """True when a column stands in it that is not only compared with itself."""
    if len(branch) == 3 and branch[0] == branch[2] and branch[1].text in ("=", "==", ">=", "<=", "<=>"):
        return False
    return any(_is_column(branch, index) for index in range(len(branch)))


def _is_column(branch: list[Code], index: int) -> bool:
    item = branch[index]
    if item.kind == "quoted":
        return True
    after = branch[index + 1].text if index + 1 < len(branch) else ""
    before = branch[index - 1].text if index else ""
    return item.kind == "word" and item.text not in _NO_COLUMNS and after != "(" and before != "::"
