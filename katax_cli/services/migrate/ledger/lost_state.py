"""Finds what the rest of a migration reads from the session that was lost when its runner was killed. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from katax_cli.core.sql import Dialect, Statement, statement_code

_OF_LAST_STATEMENT = frozenset({"last_insert_id", "row_count", "found_rows"})
"""MySQL's functions that answer for an earlier statement of the same session."""
_TEMPORARY = frozenset({"temp", "temporary"})
_NOISE = frozenset({"if", "not", "exists", ","})


class LostState(NamedTuple):
    """`name` is read at `line` of the file, but no new session has it as the statements that ran left it."""

    name: str
    line: int


def lost_state(done: Sequence[Statement], rest: Sequence[Statement], dialect: Dialect) -> LostState | None:
    """The first state of a lost session that `rest` reads before it makes it anew.

    What `repeats_as_setting` accepts of `done` counts as repeated. A user variable of MySQL that a query or a
    function computed does not: it may become another value now.
    """
    lost: set[str] = set()
    settings: set[str] = set()
    for statement in done:
        words = _words(statement, dialect)
        if statement.kind == "session":
            repeated, given = only_sets(statement), _settings(words)
            settings = settings - given if repeated else settings | given
        made, computed = _made(words, dialect)
        computed = computed or (words[:1] == ["set"] and not lost.isdisjoint(_read(words, made)))
        lost = lost | made if computed else lost - made
        if dialect == "mysql" and statement.kind == "write":
            lost |= _OF_LAST_STATEMENT
    for statement in rest:
        words = _words(statement, dialect)
        made, _ = _made(words, dialect)
        for name in _read(words, made):
            if name in lost:
                return LostState(name, statement.line)
        lost -= made
        settings -= _settings(words)
        if settings and words[:1] != ["set"]:
            return LostState(f"the setting {min(settings)}", statement.line)
        if statement.kind == "write":
            lost -= _OF_LAST_STATEMENT
    return None


def only_sets(statement: Statement) -> bool:
    """True for what changes nothing but its session or transaction, so that it may be repeated.

    A SET may also call a function that writes, or read a table that says something else by now.
    """
    verb = statement.effect.verb
    if statement.kind != "session" or verb == "PREPARE":
        return statement.kind in ("session", "transaction")
    reads = verb == "SET" and {"select", "from"} <= set(_words(statement, statement.dialect))
    return not (reads or verb == "NOTIFY" or statement.calls_others)


def repeats_as_setting(statement: Statement, dialect: Dialect) -> bool:
    """True for SET and its like, and for PostgreSQL's SELECT set_config('name', 'value', false)."""
    if statement.kind == "session":
        return only_sets(statement)
    if dialect != "postgresql" or "set_config" not in statement.text.lower():
        return False
    words = [word for word in _words(statement, dialect) if word not in {"pg_catalog", "."}]
    return words == ["select", "set_config", "(", ",", ",", "false", ")"]


def _words(statement: Statement, dialect: Dialect) -> list[str]:
    code = (token for token in statement_code(statement.text, dialect) if token.kind != "string")
    return [token.text.lower().strip('"`[]') for token in code]


def _made(words: Sequence[str], dialect: Dialect) -> tuple[set[str], bool]:
    """Variables or the temporary table that a statement makes; and whether only its query or data has them."""
    if words[:1] == ["create"] and not _TEMPORARY.isdisjoint(words[1:4]) and "table" in words[1:5]:
        names = [word for word in words[words.index("table") + 1 :] if word not in _NOISE]
        return set(names[:1]), True
    if words[:1] == ["drop"] and "table" in words[1:3]:
        return set(words[words.index("table") + 1 :]) - _NOISE, False
    if dialect != "mysql":
        return set(), False
    if words[:1] == ["set"]:
        return _assigned(words, {"=", ":="}), "(" in words
    selects = words[:1] not in (["insert"], ["replace"]) and "into" in words
    into = words[words.index("into") :] if selects else []
    return _assigned(words, {":="}) | {word for word in into if word.startswith("@")}, True


def _assigned(words: Sequence[str], signs: set[str]) -> set[str]:
    pairs = pairwise(words)
    return {word for word, sign in pairs if sign in signs and word.startswith("@") and word[:2] != "@@"}


def _settings(words: Sequence[str]) -> set[str]:
    """The variables of the server's own that a SET gives a value for the session."""
    found, depth = set(), 0
    for word, after in pairwise(words if words[:1] == ["set"] else ()):
        depth += (word == "(") - (word == ")")
        if after in ("=", ":=") and not depth and (word[:2] == "@@" or word[:1] != "@"):
            found.add(word.lstrip("@").rpartition(".")[2])
    return found


def _read(words: Sequence[str], made: set[str]) -> list[str]:
    """The words of a statement, but for names that it only makes; DROP TABLE could take a lasting table."""
    only_made = set() if words[:1] == ["drop"] and "temporary" not in words else made
    return [word for word in words if word not in only_made or words.count(word) > 1]
