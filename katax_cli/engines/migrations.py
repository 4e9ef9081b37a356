"""The questions of `migrate` to an engine: session locks, definitions, and effects of DDL. See base."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

from katax_cli.core.sql import AnySql
from katax_cli.engines.base import Params

CUT = "\N{HORIZONTAL ELLIPSIS}"
"""Ends a note that the server did not keep whole."""


class MigrationFacts(NamedTuple):
    """Facts of an engine for migrations, as strings; `{ms}` and `{seconds}` stand for a time limit."""

    transactional_ddl: bool
    long_text: str
    server_sessions: bool = False
    """Locks are held by sessions of the server, which may outlive their processes, and whose numbers return."""
    set_lock_timeout: str = ""
    reset_lock_timeout: str = ""
    home: str = ""
    """Asks for the schema of the table `$1`, or the one where it would be made; empty where there are none."""
    elsewhere: str = ""
    """Asks for schemas with a table called `$1`, where the search path is of the database and not of the client."""


class LockSession(NamedTuple):
    """The session that holds a lock, and the note that it left; None where the server does not say."""

    session: str
    note: str
    user: str | None = None
    client: str | None = None


class SessionLocks(Protocol):
    """Locks that end with their session. None of these calls waits or opens a transaction."""

    def lock(self, connection: Any, name: str, note: str) -> bool:
        """Acquires the lock if it is free, and leaves a note for waiters; False when it is held."""
        ...

    def renew(self, connection: Any, name: str, note: str) -> bool:
        """Leaves another note; False when the lock is lost."""
        ...

    def unlock(self, connection: Any, name: str) -> None: ...

    def holder(self, connection: Any, name: str) -> LockSession | None: ...

    def end_session(self, connection: Any, session: str) -> bool:
        """Ends the session that holds a lock; False when there is no such session."""
        ...


class ListsNotes(Protocol):
    """Knows all sessions that left a note with their lock."""

    def noted(self, connection: Any) -> list[LockSession] | None:
        """Sessions that hold a lock with a note, whose end is CUT where the server cut it; None: it keeps no list."""
        ...


class ObjectName(NamedTuple):
    """A table, index, routine … as a statement spells it, without its schema; `table` is that of an index."""

    kind: str
    name: str
    table: str = ""


class ReadsDefinitions(Protocol):
    """Reads the schema as text, one line for each part, equal for equal schemas."""

    def definitions(self, connection: Any, objects: Sequence[ObjectName] | None = None) -> dict[str, str]:
        """`kind schema.name` → definition of these objects, at a cost that does not grow with others; None: of all.

        Where names know no letter case, of all with such a name, whatever their kind.
        """
        ...


class DdlImpact(NamedTuple):
    """The effect of one statement of a migration on others: the lock that it takes and on what, whether it may run
    in a transaction, whether it rewrites the table (None: not known), and a gentler way."""

    lock: str | None = None
    objects: tuple[str, ...] = ()
    transactional: bool = True
    rewrites: bool | None = False
    advice: str | None = None


class DdlImpacts(Protocol):
    """Knows the effects of statements on others that use the same tables."""

    def impact(self, sql: AnySql) -> DdlImpact: ...

    def blockers(self, connection: Any, table: str) -> list[str]:
        """Sessions that hold locks on the table now, one line each."""
        ...


@runtime_checkable
class LimitsPackets(Protocol):
    """Takes no statement beyond a size, and drops the connection that sends one."""

    def packet_limit(self, connection: Any) -> int: ...


@runtime_checkable
class KeepsSettings(Protocol):
    """Takes back what a file left in its session: settings, role, database, temporary tables. Its locks stay."""

    def settings(self, connection: Any) -> Mapping[str, str | None]:
        """The settings of the session before a file, for `take_back`; empty where the server knows them."""
        ...

    def take_back(
        self, connection: Any, settings: Mapping[str, str | None], temporary: Sequence[str]
    ) -> None:
        """`temporary`: the tables that its statements made for the session, for a server that keeps no list."""
        ...


@runtime_checkable
class LacksTransactions(Protocol):
    """Has tables whose changes no rollback undoes."""

    def without_transactions(self, connection: Any) -> frozenset[str]:
        """Their names in lower case, and those of views, routines and triggered tables that may write to them."""
        ...


@runtime_checkable
class SendsTogether(Protocol):
    """Sends several statements in one round trip."""

    def together(
        self, connection: Any, batch: Sequence[tuple[AnySql, Params]], note: str
    ) -> tuple[int, BaseException] | None:
        """Runs statements in order, up to the first that is refused; returns which that was, and its error.

        While they run, the note (unless empty) is what `holder` of the session's locks says.
        """
        ...

    def in_turn(
        self,
        connection: Any,
        last: Sequence[tuple[AnySql, Params]],
        then: Sequence[tuple[AnySql, Params]],
        note: str,
    ) -> Generator[tuple[int, BaseException] | None]:
        """Sends what ends a transaction and what begins the next at once; yields for each, as soon as it is answered,
        what `together` returns. `then` runs with the note, and only if all of `last` was accepted.

        Closed before both were asked for, it cancels what runs and closes the connection.
        """
        ...


@runtime_checkable
class RunsScripts(Protocol):
    """Runs many small statements as fast as the server's own client, and undoes only the one that is refused."""

    def script(self, connection: Any, statements: Sequence[str]) -> tuple[int, BaseException] | None:
        """Runs statements in order, up to the first that is refused; returns which that was, and its error."""
        ...


class Migrates(SessionLocks, ReadsDefinitions, DdlImpacts, Protocol):
    """The methods that `migrate` needs of an SQL engine; made by `create(engine)` of its module `migrate`."""

    facts: MigrationFacts
