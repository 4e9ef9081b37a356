"""Kinds of failures, independent of drivers: engines classify by code, other modules decide by kind."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal, NamedTuple


class FailureKind(StrEnum):
    """The meaning of a driver's error for the server and for the statement under way."""

    REJECTED = "rejected"
    """The server answered no: syntax, constraint, permission, disk full. Not applied."""
    AUTHENTICATION = "authentication"
    """Wrong user or password. Never retried, never counted."""
    CONFIGURATION = "configuration"
    """Unknown database, TLS mismatch: repeating it changes nothing."""
    READ_ONLY = "read_only"
    """The session's read-only guard refused a write. Not applied."""
    UNREACHABLE = "unreachable"
    """Nothing was sent: connecting failed, or the server refused to start work."""
    OVERLOADED = "overloaded"
    """Nothing was done, the server has too much to do (too many connections)."""
    FULL = "full"
    """The server has no room, or does not dare, to write: not applied. Reads go on, and waiting alone mends nothing."""
    ROLLED_BACK = "rolled_back"
    """Serialization failure: the server rolled the transaction back, or lets it do nothing else."""
    DEADLOCK = "deadlock"
    """Transactions waited for each other: the server rolled this one back."""
    BUSY = "busy"
    """A lock was not granted in time; the statement alone was not applied."""
    TIMED_OUT = "timed_out"
    """The server ended the statement at its own timeout or on cancel. Not applied."""
    LOST = "lost"
    """The connection broke after something was sent: a write's outcome is unknown."""
    UNKNOWN_OUTCOME = "unknown_outcome"
    """The server itself says that it does not know (PostgreSQL 40003, 08007)."""
    UNKNOWN = "unknown"
    """Not an error of this driver."""


_TRANSIENT = frozenset(
    {
        FailureKind.UNREACHABLE,
        FailureKind.OVERLOADED,
        FailureKind.ROLLED_BACK,
        FailureKind.DEADLOCK,
        FailureKind.BUSY,
        FailureKind.LOST,
    }
)
# A server that cancels a statement or lets it wait for a lock is there: only what says that it is not counts.
_COUNTED = frozenset({FailureKind.UNREACHABLE, FailureKind.OVERLOADED, FailureKind.LOST})


class ServerWords(NamedTuple):
    """The rest of what a server said about a statement; each None or empty where it said none."""

    hint: str | None = None
    detail: str | None = None
    position: int | None = None
    """The character of the statement, from 1."""
    sqlstate: str | None = None
    excerpt: tuple[str, ...] = ()
    """The line of the statement, and below it a caret."""


ConstraintKind = Literal["unique", "foreign_key", "not_null", "check"]


class Violation(NamedTuple):
    """The constraint that a row does not meet; names are None where the server says none."""

    kind: ConstraintKind
    constraint: str | None = None
    table: str | None = None
    column: str | None = None


class Failure(NamedTuple):
    """A classified error: its kind, the server's own code, and one line of text without secrets."""

    kind: FailureKind
    message: str
    code: str | None = None
    words: ServerWords = ServerWords()
    violation: Violation | None = None

    @property
    def transient(self) -> bool:
        """True if the same call may succeed later. Whether it may be repeated is another question."""
        return self.kind in _TRANSIENT

    @property
    def counts(self) -> bool:
        """True if it says something about the server's health (and so counts against a breaker)."""
        return self.kind in _COUNTED
