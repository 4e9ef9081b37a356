"""What a statement was meant to change, and whether it did: decided from definitions before and now. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from enum import Enum, auto
from typing import Literal, NamedTuple

from katax_cli.core.sql import Dialect, Token, code_tokens

Effect = Literal["create", "drop", "alter"]


class Verdict(Enum):
    """What became of a statement whose runner was killed."""

    UNDONE = auto()
    DONE = auto()
    UNCLEAR = auto()


class Change(NamedTuple):
    """One object that a statement creates, drops or alters, as it is spelled there, without its schema.

    `table` is what a statement about an index says after ON.
    """

    effect: Effect
    kind: str
    spelled: str
    table: str = ""

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
    {"grant", "revoke", "comment", "analyze", "vacuum", "optimize", "checkpoint", "truncate", "reindex"}
    | {"refresh", "cluster", "set", "use", "reset", "reassign", "pragma"}
)
"""Statements that end in the same state however often they are run."""


def changes(sql: str, dialect: Dialect) -> tuple[Change, ...]:
    """The objects that a statement changes, as far as its first words say; empty when they do not."""
    words = _Words([token for token in code_tokens(sql, dialect) if token.kind != "hint"])
    verb = words.next()
    if verb == "rename" and words.next() == "table":
        return (Change("alter", "table", words.name()),)
    if verb not in ("create", "drop", "alter"):
        return ()
    kind = words.kind()
    if kind is None:
        return ()
    effect: Effect = "create" if verb == "create" else "drop" if verb == "drop" else "alter"
    names = [words.name()]
    while effect == "drop" and words.peek() == ",":
        words.next()
        names.append(words.name())
    table = words.table() if kind == "index" else ""
    return tuple(Change(effect, kind, name, table) for name in names if name)


_NO_COLUMN = frozenset(
    {
        "constraint",
        "key",
        "index",
        "unique",
        "primary",
        "foreign",
        "check",
        "fulltext",
        "spatial",
        "kind",
        "not",
    }
    | {"null", "table", "references"}
)
"""Words with which a line begins that is about no column, and that say nothing about which part is meant."""


class _Words:
    """The code of a statement, word by word."""

    def __init__(self, found: Sequence[Token]) -> None:
        self._tokens = found
        self._at = 0

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

    def kind(self) -> str | None:
        while self._at < len(self._tokens):
            word = self.next()
            if word in _KINDS:
                return word
            if word in _OTHER_KINDS:
                return None
        return None

    def name(self) -> str:
        while self.peek() in _NOISE:
            self.next()
        name = self._next_bare()
        while self.peek() == ".":
            self.next()
            name = self._next_bare()
        return name

    def table(self) -> str:
        while self.peek() not in ("on", ""):
            self.next()
        self.next()
        return self.name()


def _bare(word: str) -> str:
    return word.strip('"`[]')


def is_repeatable(sql: str, dialect: Dialect) -> bool:
    """True if running the statement once more does no harm whether or not it ran before."""
    first = next((token.text.lower() for token in code_tokens(sql, dialect)), "")
    return first in _REPEATABLE


def judge(sql: str, dialect: Dialect, before: Mapping[str, str], now: Mapping[str, str]) -> Verdict:
    """Whether a statement ran: nothing changed → no; all that it means to change did, and nothing that it does
    not mention → yes; anything else cannot be known."""
    wanted = changes(sql, dialect)
    if not wanted:
        return Verdict.UNDONE if is_repeatable(sql, dialect) else Verdict.UNCLEAR
    if before == now:
        return Verdict.UNDONE
    mentioned = {_bare(token.text.lower()) for token in code_tokens(sql, dialect)}
    as_planned = all(_happened(change, before, now) for change in wanted)
    replaced = {change.name for change in wanted if change.effect == "create"}
    altered = [key for key in before.keys() & now.keys() if _last_name(key) not in replaced]
    explained = all(
        _explained(line, mentioned)
        for key in altered
        for line in changed_lines({key: before[key]}, {key: now[key]})
    )
    return Verdict.DONE if as_planned and explained else Verdict.UNCLEAR


def _happened(change: Change, before: Mapping[str, str], now: Mapping[str, str]) -> bool:
    was, is_ = (_of(change, state) for state in (before, now))
    if change.effect == "create":
        return bool(is_) and is_ != was and not any(text.endswith(" INVALID") for text in is_.values())
    if change.effect == "drop":
        return bool(was) and not is_
    return was != is_


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
    """What differs between two states: `- line` that was, `+ line` that is."""
    lines: list[str] = []
    for key in sorted(before.keys() | now.keys()):
        was = [f"{key}: {line.strip()}" for line in before.get(key, "").splitlines()]
        is_ = [f"{key}: {line.strip()}" for line in now.get(key, "").splitlines()]
        lines += [f"- {line}" for line in was if line.rstrip(",") not in {one.rstrip(",") for one in is_}]
        lines += [f"+ {line}" for line in is_ if line.rstrip(",") not in {one.rstrip(",") for one in was}]
    return lines


def _explained(line: str, mentioned: set[str]) -> bool:
    """Whether a statement speaks of a changed line of an altered object: of its column, or of any part of
    what is no column (constraints have made-up names)."""
    key, _, text = line[2:].partition(": ")
    words = [word for word in re.findall(r"[\w$]+", text.lower()) if word != "column"]
    if not words:
        return True
    if words[0] not in _NO_COLUMN and not text.startswith(")"):
        return words[0] in mentioned
    return bool((set(words) & mentioned) - _NO_COLUMN - {_last_name(key)})
