"""Redis commands typed one by one; a MULTI is kept on this side until its EXEC, so that no lost connection opens it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from katax_cli.core.resilience.failure import Failure
from katax_cli.core.text.text import to_bytes
from katax_cli.errors import ConfigError, KataxError, QueryError
from katax_cli.services.databases.clients import RedisDatabase
from katax_cli.services.dialogue.client import ClientDialogue
from katax_cli.services.dialogue.sql import TransactionState

RedisWords = tuple[bytes, ...]
_WORD = re.compile(rb"""\s*(?:"((?:[^"\\]|\\.)*)"|'((?:[^'\\]|\\.)*)'|([^\s"']\S*))(?=\s|$)""", re.DOTALL)
_ESCAPE = re.compile(rb"\\(?:x([0-9a-fA-F]{2})|(.))", re.DOTALL)
_NAMED_ESCAPES = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"a": b"\a", b"b": b"\b"}
_ELSEWHERE = {
    **dict.fromkeys(
        ("SUBSCRIBE", "PSUBSCRIBE", "SSUBSCRIBE"), "listens for ever; use 'katax pubsub subscribe'"
    ),
    **dict.fromkeys(("MONITOR", "SYNC", "PSYNC"), "never ends; use redis-cli"),
    **dict.fromkeys(
        ("SELECT", "AUTH", "HELLO", "RESET", "READONLY", "READWRITE", "ASKING"),
        "changes the connection of a pool; say it in the connection's url",
    ),
    **dict.fromkeys(("WATCH", "UNWATCH"), "needs a connection of its own; use a script, or --native"),
}
"""Commands that do not fit a shared connection, and what does."""


class RedisDialogue(ClientDialogue):
    """Commands on one Redis; `seconds` is how long each may take."""

    def __init__(self, database: RedisDatabase, *, seconds: float | None) -> None:
        super().__init__(database, seconds=seconds)
        self._redis = database
        self._queued: list[RedisWords] | None = None

    @property
    def state(self) -> TransactionState:
        """`open` between MULTI and EXEC."""
        return "none" if self._queued is None else "open"

    def run(self, words: RedisWords) -> Any:
        """The reply of one command. Raises ConfigError for one that this shell cannot run."""
        name = words[0].decode("latin-1").upper()
        refuse_elsewhere(words)
        if name in ("MULTI", "EXEC", "DISCARD"):
            return self._transaction(name)
        if self._queued is not None:
            self._queued.append(words)
            return b"QUEUED"
        return self._cancellable(
            lambda: self._redis.redis(*words, timeout=self._seconds), reads=self.only_reads(words)
        )

    def only_reads(self, words: RedisWords) -> bool:
        """True for a command that is known to change nothing."""
        return self._redis.engine.only_reads(words)

    def writes(self, words: RedisWords) -> bool:
        """False for what is known to change nothing, and for MULTI, EXEC and DISCARD, which only frame what does."""
        return not (self.only_reads(words) or words[0].upper() in (b"MULTI", b"EXEC", b"DISCARD"))

    def close(self) -> bool:
        """Forgets a MULTI; True when there was one. Nothing of it was sent."""
        was_open, self._queued = self._queued is not None, None
        return was_open

    def _transaction(self, name: str) -> Any:
        queued = self._queued
        if name == "MULTI":
            if queued is not None:
                raise KataxError("MULTI is open already; end it with EXEC or DISCARD")
            if self._database.settings.topology == "cluster":
                raise ConfigError("MULTI works on one node, and this is a cluster; use a script")
            self._queued = []
            return b"OK"
        if queued is None:
            raise KataxError(f"{name} without MULTI")
        self._queued = None
        if name == "DISCARD":
            return b"OK"
        commands = [(b"MULTI",), *queued, (b"EXEC",)]
        replies = self._cancellable(
            lambda: self._redis.pipeline(commands, timeout=self._seconds, tolerant=True), reads=False
        )
        refused = [reply for reply in replies if isinstance(reply, Failure)]
        if refused:
            raise QueryError(
                self._database.name,
                f"{refused[0].message}; nothing of the transaction was run",
                code=refused[0].code,
            )
        return replies[-1]


def refuse_elsewhere(words: Sequence[bytes]) -> None:
    """Raises ConfigError for a command that needs a connection of its own, with what does it instead."""
    name, sub, *_ = [*(word.decode("latin-1").upper() for word in words[:2]), "", ""]
    reason = _ELSEWHERE.get(name)
    if name == "CLIENT" and sub in ("REPLY", "TRACKING", "CACHING", "NO-EVICT", "NO-TOUCH", "SETNAME"):
        reason = _ELSEWHERE["SELECT"]
    if reason is not None:
        raise ConfigError(f"{name} {reason}")


def words_of(line: str) -> RedisWords:
    """The words of a line as redis-cli reads them: quotes, and `\\x00` within double quotes.

    Raises ConfigError for a quote that is not closed, or does not end its word.
    """
    text = to_bytes(line.strip())
    words = []
    at = 0
    while at < len(text):
        match = _WORD.match(text, at)
        if match is None:
            raise ConfigError('a quote is not closed, or does not end its word; write "…" around whole words')
        double, single, bare = match.groups()
        if double is not None:
            words.append(_ESCAPE.sub(_unescaped, double))
        else:
            words.append(bare if single is None else single.replace(b"\\'", b"'"))
        at = match.end()
    return tuple(words)


def _unescaped(match: re.Match[bytes]) -> bytes:
    if match[1]:
        return bytes([int(match[1], 16)])
    return _NAMED_ESCAPES.get(match[2], match[2])
