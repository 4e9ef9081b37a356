"""Decides from definitions before and now whether a statement made its change. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from enum import Enum, auto
from typing import Literal, NamedTuple

from katax_cli.core.sql import Dialect, Token, mentioned, statement_code, statement_of
from katax_cli.engines.migrations import ObjectName

Effect = Literal["create", "drop", "alter", "rename"]


class StatementFate(Enum):
    """The outcome of a statement whose runner was killed."""

    UNDONE = auto()
    DONE = auto()
    UNCLEAR = auto()


class Change(NamedTuple):
    """One object that a statement creates, drops, alters or renames, as it is spelled there, without its schema.

    `other` is the table of an index, or the new name of what is renamed. An index without a name has only that.
    """

    effect: Effect
    kind: str
    spelled: str
    other: str = ""
    qualified: bool = False

    @property
    def name(self) -> str:
        return self.spelled.lower()


_KINDS = frozenset(
    {"table", "view", "index", "sequence", "type", "domain", "function", "procedure", "trigger", "event"}
    | {"schema", "extension"}
)
_OTHER_KINDS = frozenset({"user", "role", "database", "policy", "rule", "publication", "server", "cast"})
_NOISE = frozenset({"only", "if", "not", "exists", "concurrently"})
_REPEATABLE = frozenset(
    {"grant", "revoke", "comment", "analyze", "vacuum", "optimize", "checkpoint", "reindex"}
    | {"refresh", "cluster", "set", "use", "reset", "reassign", "pragma"}
)
"""Statements that end in the same state however often they are run, and lose no row when they are run late."""

_DEFINED: dict[Dialect, frozenset[str]] = {
    "postgresql": _KINDS,
    "mysql": frozenset({"table", "view", "index", "function", "procedure", "trigger", "event"}),
    "sqlite": frozenset({"table", "view", "index", "trigger"}),
}
"""The kinds of objects that an engine's definitions show."""

_SHOWN_ACTIONS = frozenset({"add", "drop", "rename"})
_SHOWN_ACTIONS_OF_MYSQL = _SHOWN_ACTIONS | {
    *("modify", "change", "alter", "convert", "engine", "comment", "charset", "character", "collate"),
    *("default", "row_format", "auto_increment", "force", "enable", "disable", "order", "partition"),
    *("remove", "rebuild"),
    *("optimize", "analyze", "repair", "check", "coalesce", "reorganize", "algorithm", "lock"),
}
"""What ALTER TABLE does visibly: done, the definition differs, or doing it again changes nothing."""


def changes(sql: str, dialect: Dialect) -> tuple[Change, ...]:
    """The objects that a statement changes, as far as its first words say; empty when they do not."""
    words = _words(sql, dialect)
    verb = words.next()
    if verb == "rename" and words.next() == "table":
        return tuple(words.renames())
    if verb not in ("create", "drop", "alter"):
        return ()
    kind = words.kind()
    if kind is None:
        return ()
    effect: Effect = "create" if verb == "create" else "drop" if verb == "drop" else "alter"
    if kind == "index":
        return _index_changes(effect, words)
    changes_made = [Change(effect, kind, words.name(), qualified=words.qualified)]
    while effect == "drop" and words.peek() == ",":
        words.next()
        changes_made.append(Change(effect, kind, words.name(), qualified=words.qualified))
    return tuple(change for change in changes_made if change.name)


def _index_changes(effect: Effect, words: _Words) -> tuple[Change, ...]:
    words.skip_noise()
    names = [] if words.peek() == "on" else [words.name()]
    while effect == "drop" and words.peek() == ",":
        words.next()
        names.append(words.name())
    table = ""
    if words.peek() == "on":
        words.next()
        table = words.name()
    return tuple(Change(effect, "index", name, table, words.qualified) for name in names or [""])


def objects_of(sql: str, dialect: Dialect) -> list[ObjectName]:
    """The objects whose definitions tell whether the statement ran."""
    objects: list[ObjectName] = []
    for change in changes(sql, dialect):
        if change.effect == "rename" or not change.name:
            objects.append(ObjectName("table", change.other))
        if change.name:
            objects.append(ObjectName(change.kind, change.spelled, change.other))
    return list(dict.fromkeys(objects))


_NO_COLUMN = frozenset(
    {"constraint", "key", "index", "unique", "primary", "foreign", "check", "fulltext", "spatial", "kind"}
    | {"not", "null", "table", "references"}
)
"""Words with which a line begins that is about no column, and that say nothing about which part is meant."""


class _Words:
    """The code of a statement, word by word; `qualified` says whether the last name had a schema before it."""

    def __init__(self, code: Sequence[Token]) -> None:
        self._tokens = code
        self._at = 0
        self.qualified = False

    def peek(self) -> str:
        return self._spelled().lower()

    def next(self) -> str:
        word = self.peek()
        self._at += 1
        return word

    def _spelled(self) -> str:
        return self._tokens[self._at].text if self._at < len(self._tokens) else ""

    def _next_bare(self) -> str:
        name = _bare(self._spelled())
        self._at += 1
        return name

    def skip_noise(self) -> None:
        while self.peek() in _NOISE:
            self.next()

    def kind(self) -> str | None:
        while self._at < len(self._tokens):
            word = self.next()
            if word in _KINDS:
                return word
            if word in _OTHER_KINDS:
                return None
        return None

    def name(self) -> str:
        self.skip_noise()
        name = self._next_bare()
        self.qualified = self.peek() == "."
        while self.peek() == ".":
            self.next()
            name = self._next_bare()
        return name

    def renames(self) -> Iterator[Change]:
        """`a TO b, c TO d`."""
        while self.peek():
            old, qualified = self.name(), self.qualified
            while self.peek() and self.next() != "to":
                pass
            new = self.name()
            yield Change("rename", "table", old, new, qualified or self.qualified)
            self.next()

    def actions(self) -> list[str]:
        """The first word of each part of an ALTER whose name was read."""
        found, depth, at_start = [], 0, True
        while word := self.next():
            if at_start and word in ("wait", "nowait"):
                self._at += word == "wait"
                continue
            if at_start:
                found.append(_bare(word))
            depth += (word == "(") - (word == ")")
            at_start = word == "," and depth == 0
        return found


def _words(sql: str, dialect: Dialect) -> _Words:
    return _Words(statement_code(sql, dialect))


def _bare(word: str) -> str:
    return word.strip('"`[]')


def is_repeatable(sql: str, dialect: Dialect) -> bool:
    """True if running the statement once more does no harm whether or not it ran before."""
    first, statement = _words(sql, dialect).next(), statement_of(sql, dialect)
    # MariaDB's ANALYZE may run a statement that follows, and a SET a function that writes.
    harmful = {"analyze": statement.kind != "ddl", "set": statement.calls_others}
    return first in _REPEATABLE and not harmful.get(first, False)


def judge(
    sql: str,
    dialect: Dialect,
    before: Mapping[str, str],
    now: Mapping[str, str],
    *,
    refused: bool = False,
) -> StatementFate:
    """Decides whether a statement ran; `refused` when the server answered that it did not.

    Undone: the definitions did not change, and they would have if it had run. Done: all that it means to change
    did, and nothing that it does not mention. Anything else cannot be known.
    """
    if is_repeatable(sql, dialect):
        return StatementFate.UNDONE
    wanted = changes(sql, dialect)
    if not wanted:
        return StatementFate.UNCLEAR
    if before == now and refused:
        return StatementFate.UNDONE
    if wanted[0].effect == "rename":
        return _judge_rename(wanted, before, now)
    words = mentioned(sql, dialect)
    if before == now:
        shown = all(_would_show(change, sql, dialect, before) for change in wanted)
        return StatementFate.UNDONE if shown else StatementFate.UNCLEAR
    if (
        dialect == "mysql"
        and wanted[0].effect == "create"
        and "select" in words
        and wanted[0].kind == "table"
    ):
        return StatementFate.UNCLEAR  # The table is there; whether all its rows are, no definition says.
    as_planned = all(_happened(change, before, now, words) for change in wanted)
    replaced = {change.name for change in wanted if change.effect == "create"}
    altered = [key for key in before.keys() & now.keys() if _last_name(key) not in replaced]
    explained = all(
        _explained(line, words)
        for key in altered
        for line in changed_lines({key: before[key]}, {key: now[key]})
    )
    return StatementFate.DONE if as_planned and explained else StatementFate.UNCLEAR


def _judge_rename(
    wanted: Sequence[Change], before: Mapping[str, str], now: Mapping[str, str]
) -> StatementFate:
    """By the names alone: a swap leaves them as they were, so that nothing can be said of it."""
    names, now_names = (
        {_last_name(key) for key in state if key.startswith(("table ", "view "))} for state in (before, now)
    )
    planned = set(names)
    for change in wanted:
        if change.qualified or change.name not in planned:
            return StatementFate.UNCLEAR
        planned = (planned - {change.name}) | {change.other}
    if planned == names or now_names not in (names, planned):
        return StatementFate.UNCLEAR
    return StatementFate.DONE if now_names == planned else StatementFate.UNDONE


def _would_show(change: Change, sql: str, dialect: Dialect, before: Mapping[str, str]) -> bool:
    """True when unchanged definitions prove that the change was not made, or that repeating it is harmless."""
    if change.kind not in _DEFINED[dialect] or (change.qualified and dialect != "postgresql"):
        return False
    words, there = mentioned(sql, dialect), bool(_of(change, before))
    if change.effect == "create":
        if change.kind == "type":
            return "enum" in words
        return not there or change.kind not in ("table", "sequence") or "exists" in words
    if change.effect == "drop":
        return there or "exists" in words
    return there and _shows_all_actions(change, sql, dialect)


def _shows_all_actions(change: Change, sql: str, dialect: Dialect) -> bool:
    if change.kind != "table":
        return dialect == "mysql"
    words = _words(sql, dialect)
    words.kind()
    words.name()
    shown = _SHOWN_ACTIONS_OF_MYSQL if dialect == "mysql" else _SHOWN_ACTIONS
    return set(words.actions()) <= shown


def _happened(change: Change, before: Mapping[str, str], now: Mapping[str, str], words: set[str]) -> bool:
    if not change.name:
        return [text.endswith(" INVALID") for text in unnamed_indexes(before, now, words)] == [False]
    was, is_ = (_of(change, state) for state in (before, now))
    if change.effect == "create":
        return bool(is_) and is_ != was and not any(text.endswith(" INVALID") for text in is_.values())
    if change.effect == "drop":
        return bool(was) and not is_
    return was != is_


def unnamed_indexes(before: Mapping[str, str], now: Mapping[str, str], words: set[str]) -> dict[str, str]:
    """The indexes that came since, all of whose columns a CREATE INDEX without a name mentions."""
    return {
        key: text
        for key, text in now.items()
        if key.startswith("index ")
        and key not in before
        and set(re.findall(r"[\w$]+", text.removesuffix(" INVALID").partition(" USING ")[2].lower()))
        <= words | _METHODS
    }


_METHODS = frozenset({"btree", "hash", "gist", "gin", "brin", "spgist"})


def _of(change: Change, state: Mapping[str, str]) -> dict[str, str]:
    return {
        key: text
        for key, text in state.items()
        if key.partition(" ")[0] in (change.kind, "materialized") and _last_name(key) == change.name
    }


def _last_name(key: str) -> str:
    """`function app.f(integer)` → `f`."""
    return re.sub(r"\(.*", "", key, flags=re.DOTALL).rpartition(" ")[2].rpartition(".")[2].lower()


def changed_lines(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """The differences of two states: `- line` that was, `+ line` that is."""
    lines: list[str] = []
    for key in sorted(before.keys() | now.keys()):
        was = [f"{key}: {line.strip()}" for line in before.get(key, "").splitlines()]
        is_ = [f"{key}: {line.strip()}" for line in now.get(key, "").splitlines()]
        lines += [f"- {line}" for line in was if line.rstrip(",") not in {one.rstrip(",") for one in is_}]
        lines += [f"+ {line}" for line in is_ if line.rstrip(",") not in {one.rstrip(",") for one in was}]
    return lines


def _explained(line: str, words: set[str]) -> bool:
    """True when a statement names a changed line of an altered object: its column, or any part of
    what is no column (constraints have made-up names)."""
    key, _, text = line[2:].partition(": ")
    parts = [word for word in re.findall(r"[\w$]+", text.lower()) if word != "column"]
    if not parts:
        return True
    if parts[0] not in _NO_COLUMN and not text.startswith(")"):
        return parts[0] in words
    return bool((set(parts) & words) - _NO_COLUMN - {_last_name(key)})
