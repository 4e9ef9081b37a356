"""Several statements on one connection, outside a transaction of katax."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from katax_cli.core.resilience.deadline import Deadline
from katax_cli.core.sql import Statement
from katax_cli.core.text.duration import Duration
from katax_cli.errors import Refused
from katax_cli.services.calls.guard import Safety, Sent
from katax_cli.services.calls.observer import Watch
from katax_cli.services.databases.lease import ending_overdue
from katax_cli.services.databases.origin import TransactionOrigin
from katax_cli.services.databases.statements import ConnectionQueries
from katax_cli.services.databases.transaction import Transaction


class Session(ConnectionQueries):
    """One connection for statements that build on each other: what they SET, BEGIN or lock lasts until the end.

    Nothing is repeated, and a transaction that is still open at the end is rolled back.
    """

    def __init__(self, origin: TransactionOrigin, connection: Any, deadline: Deadline) -> None:
        super().__init__(origin, connection, deadline)
        self._has_ended = False

    @property
    def ended(self) -> bool:
        """True after its block; the connection is somebody else's then."""
        return self._has_ended or self.is_inherited

    def end(self) -> None:
        """From now on every call raises KataxError."""
        self._has_ended = True

    @property
    def connection(self) -> Any:
        """The driver's connection. Raises Refused when it is read-only, as nothing would keep the driver so."""
        if self._origin.read_only:
            raise Refused(
                f"{self.engine.settings.name!r} is read-only, so its driver's connection is not handed out"
            )
        return self._connection

    @property
    def held(self) -> Any:
        """The same for code of its engine, on a read-only connection too."""
        return self._connection

    @property
    def in_transaction(self) -> bool:
        """True while a statement's own transaction is open."""
        return self.engine.in_transaction(self._connection)

    @contextmanager
    def within(self, seconds: Duration | None) -> Iterator[Session]:
        """The session for calls that take so long together; what outlives it is cancelled on the server."""
        deadline = Deadline(seconds)
        with ending_overdue(self.engine, self._connection, deadline):
            yield Session(self._origin, self._connection, deadline)

    @contextmanager
    def translated(self, doing: str, safety: Safety) -> Iterator[float | None]:
        """Gives a driver's errors their meaning; the seconds that are left."""
        with self._origin.guard.translating(deadline=self.deadline, safety=safety, doing=doing):
            yield self.deadline.within(None)

    def undo(self) -> None:
        """Rolls back the open transaction of a statement. Raises QueryError for changes that the server kept."""
        if not self.engine.is_broken(self._connection):
            with self.translated("rollback", Safety.PART):
                self.engine.undo(self._connection)

    def transaction(self) -> Transaction:
        """A transaction on this connection, as a `with` block; inside one that is open, a savepoint."""
        self._refuse_after_end()
        level = 1 if self.in_transaction else 0
        return Transaction(self._origin, self._connection, self.deadline, Sent(), level, outer=self)

    @contextmanager
    def _statement(
        self, statement: Statement, params: object, timeout: Duration | None = None
    ) -> Iterator[tuple[Watch, float | None]]:
        self._refuse_after_end()
        lasts = not self.in_transaction or statement.ends_transaction or statement.commits_by_itself
        safety = self._origin.safety(statement) if lasts else Safety.PART
        deadline = self.deadline.shorter(timeout)
        deadline.check(self._origin.engine.settings.name, "query")
        with (
            self._origin.observer.watch(statement.text, params) as watch,
            self._origin.guard.translating(deadline=deadline, safety=safety),
            self._origin.guarded(self._connection, statement),
        ):
            yield watch, deadline.within(None)
