"""Words that may stand at the cursor of `katax db shell`, for each language; names come from `RememberedNames`."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import NamedTuple, Protocol

from katax_cli.core.engine_names import Dialect
from katax_cli.core.sql import Token, code_tokens, quote_identifier
from katax_cli.services.dialogue.mongodb import METHODS

_SQL_WORDS: tuple[str, ...] = tuple(
    """
    ADD ALL ALTER ANALYZE AND AS ASC BEGIN BETWEEN BY CASCADE CASE CAST CHECK COLUMN COMMIT CONSTRAINT COUNT CREATE
    CROSS CURRENT_DATE CURRENT_TIMESTAMP DATABASE DEFAULT DELETE DESC DISTINCT DROP ELSE END EXCEPT EXISTS EXPLAIN
    FALSE FOREIGN FROM FULL FUNCTION GRANT GROUP HAVING IN INDEX INNER INSERT INTERSECT INTO IS JOIN KEY LEFT LIKE
    LIMIT NATURAL NOT NULL OFFSET ON OR ORDER OUTER OVER PARTITION PRIMARY REFERENCES RENAME RETURNING REVOKE RIGHT
    ROLLBACK SAVEPOINT SELECT SET SHOW TABLE TEMPORARY THEN TO TRIGGER TRUE TRUNCATE UNION UNIQUE UPDATE USING VALUES
    VIEW WHEN WHERE WITH
    """.split()  # noqa: SIM905
)
_TABLE_WORDS = frozenset({"FROM", "JOIN", "INTO", "UPDATE", "TABLE", "DESCRIBE", "DESC", "TRUNCATE", "VIEW"})
"""A table follows these."""
META_COMMANDS = ("\\d", "\\x", "\\watch", "\\timing", "\\?", "\\q")
_WORD = re.compile(r"[\w$]*\Z")
_PLAIN_NAME = re.compile(r"[a-z_][a-z0-9_$]*\Z")
_ANY_CASE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_$]*\Z")
_SHELL_WORD = re.compile(r"\S*\Z")


class Suggestion(NamedTuple):
    """Words that may replace the last `replaced` characters before the cursor."""

    words: list[str]
    replaced: int


class KnownNames(Protocol):
    """The names that a server knows."""

    def tables(self) -> list[str]: ...
    def columns(self, table: str) -> list[str]: ...
    def keys(self, beginning: str) -> list[str]: ...
    def commands(self) -> list[str]: ...


Suggest = Callable[[str, str], Suggestion]
"""The text before the cursor, and the text after it."""


def of_sql(names: KnownNames, dialect: Dialect) -> Suggest:
    """Tables after FROM and its like, columns of the tables that the statement names, keywords."""

    def suggest(before: str, after: str) -> Suggestion:
        meta = _meta(before, names.tables)
        if meta is not None:
            return meta
        word = _found(_WORD, before)
        code = list(code_tokens(before + after, dialect))
        head = before[: len(before) - len(word)]
        used = _tables_in(code)
        if head.endswith("."):
            owner = _found(_WORD, head[:-1])
            return _beginning(word, _named(names.columns(used.get(owner.lower(), owner)), dialect))
        previous = [token.text.upper() for token in code_tokens(head, dialect)][-1:]
        if previous and previous[0] in _TABLE_WORDS:
            return _beginning(word, _named(names.tables(), dialect))
        columns = [name for table in dict.fromkeys(used.values()) for name in names.columns(table)]
        keywords = _SQL_WORDS if word.isupper() else map(str.lower, _SQL_WORDS)
        # Names first: a keyword is typed as fast as it is chosen.
        return _beginning(word, [*_named(columns, dialect), *keywords, *_named(names.tables(), dialect)])

    return suggest


def of_redis(names: KnownNames) -> Suggest:
    """Commands at the beginning of a line, keys behind them."""

    def suggest(before: str, _after: str) -> Suggestion:
        meta = _meta(before, list)
        if meta is not None:
            return meta
        word = _found(_SHELL_WORD, before)
        if not before[: len(before) - len(word)].strip():
            commands = names.commands()
            return _beginning(word, commands if word.isupper() or not word else [c.lower() for c in commands])
        return _beginning(word, [key for key in names.keys(word) if key.isprintable() and " " not in key])

    return suggest


def of_mongodb(names: KnownNames) -> Suggest:
    """Collections after `db.`, methods after a collection, fields within quotes."""

    def suggest(before: str, _after: str) -> Suggestion:
        meta = _meta(before, names.tables)
        if meta is not None:
            return meta
        word = _found(_WORD, before)
        head = before[: len(before) - len(word)]
        if re.fullmatch(r"\s*db\.", head):
            return _beginning(word, [*names.tables(), *METHODS])
        if match := re.fullmatch(r"\s*db\.([\w$.]+)\.", head):
            return _beginning(word, METHODS)
        match = re.match(r"\s*db\.([\w$.]+)\.\w+\(", head)
        if match and head.endswith('"'):
            return _beginning(word, names.columns(match[1]))
        return _beginning(word, ["db", "show collections", "show dbs"] if not head.strip() else [])

    return suggest


def _meta(before: str, tables: Callable[[], list[str]]) -> Suggestion | None:
    """The commands with a backslash, and the table that `\\d` describes; None for anything else."""
    if not before.lstrip().startswith("\\"):
        return None
    command, space, word = before.lstrip().partition(" ")
    if not space:
        return _beginning(command, META_COMMANDS)
    return _beginning(word, tables() if command == "\\d" else [])


def _found(pattern: re.Pattern[str], text: str) -> str:
    match = pattern.search(text)
    return match[0] if match else ""


def _beginning(word: str, candidates: Iterable[str]) -> Suggestion:
    """The candidates that begin with the word, in any case, each once and in their order."""
    wanted = word.lower()
    fitting = [name for name in dict.fromkeys(candidates) if name.lower().startswith(wanted)]
    return Suggestion(fitting, len(word))


def _named(names: Iterable[str], dialect: Dialect) -> list[str]:
    """Names as they stand in a statement: in quotes where the server would read another name without them."""
    plain = _PLAIN_NAME if dialect == "postgresql" else _ANY_CASE_NAME
    return [name if plain.match(name) else quote_identifier(name, dialect) for name in names]


def _tables_in(code: list[Token]) -> dict[str, str]:
    """The tables that a statement names, by their names and aliases in lower case."""
    tables: dict[str, str] = {}
    for at, token in enumerate(code[:-1]):
        if token.text.upper() not in _TABLE_WORDS or not _is_name(code[at + 1]):
            continue
        end = at + 1
        while end + 2 < len(code) and code[end + 1].text == "." and _is_name(code[end + 2]):
            end += 2
        name = ".".join(_bare(part.text) for part in code[at + 1 : end + 1 : 2])
        tables[name.lower()] = tables[name.rpartition(".")[2].lower()] = name
        alias = end + 2 if end + 2 < len(code) and code[end + 1].text.upper() == "AS" else end + 1
        if alias < len(code) and _is_name(code[alias]) and code[alias].text.upper() not in _SQL_WORDS:
            tables[_bare(code[alias].text).lower()] = name
    return tables


def _is_name(token: Token) -> bool:
    return token.kind in ("word", "quoted")


def _bare(name: str) -> str:
    return name.strip('"`[]')
