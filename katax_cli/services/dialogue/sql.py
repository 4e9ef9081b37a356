"""SQL statements typed one by one on one connection, which keeps what they SET and BEGIN until it is lost."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from typing import Literal, TypeVar

from katax_cli.core.clock import SYSTEM, Clock
from katax_cli.core.engine_names import TABLE_ENGINES
from katax_cli.core.sql import Statement
from katax_cli.core.text.duration import FOREVER
from katax_cli.engines.base import (
    FailsTransactions,
    Introspects,
    Row,
    Table,
    TableDescription,
    Text,
    require,
)
from katax_cli.errors import KataxError
from katax_cli.services.calls.guard import Safety
from katax_cli.services.databases.lease import CANCEL_SECONDS
from katax_cli.services.databases.session import Session
from katax_cli.services.databases.sql import SqlDatabase

T = TypeVar("T")
TransactionState = Literal["none", "open", "failed", "lost"]
"""`failed`: only a rollback is taken. `lost`: it ended by itself, and its user was not asked yet what comes now."""
Take = Callable[[Sequence[str], Iterable[Sequence[Row]]], object]
_CHECK_AFTER = 1.0
"""Seconds of silence after which a connection is asked whether it still lives before a statement is sent on it."""


class SqlDialogue:
    """One session on a database; opened at the first statement, and again after its connection was lost.

    A transaction that is lost with its connection, or rolled back by the server itself, stays `lost` until its user
    rolls it back: no statement that was meant for it runs outside it. `note` gets remarks about such things.
    """

    def __init__(
        self,
        database: SqlDatabase,
        *,
        seconds: float | None,
        note: Callable[[str], object],
        clock: Clock = SYSTEM,
    ) -> None:
        self._database = database
        self._engine = database.engine
        self._seconds = seconds
        self._note = note
        self._clock = clock
        self._stack = ExitStack()
        self._session: Session | None = None
        self._used_at = clock.monotonic()
        self.state: TransactionState = "none"
        self._is_cancelled = False

    def run(self, statement: Statement, take: Take, *, text: Text) -> int | None:
        """Runs one statement and hands its rows to `take`; returns the rows that it changed, None where nobody says.

        Raises KataxError for a statement of a transaction that is lost, and for a COMMIT that the server answered
        with a rollback.
        """
        if self.state == "lost":
            self._close_lost(statement)
            return None
        session = self._ready()
        before = self.state
        self._is_cancelled = False
        try:
            with (
                session.within(self._seconds) as limited,
                limited.stream(statement, text=text) as rows,
            ):
                if rows.columns:
                    take(rows.columns, self._wanted(rows))
                for _ in rows:
                    pass
                affected = rows.affected
        except BaseException as error:
            self._settle(statement, error)
            raise
        self._settle(statement, None)
        if before == "failed" and statement.effect.verb in ("COMMIT", "END"):
            raise KataxError("the transaction was rolled back: a statement in it had failed")
        return None if affected < 0 else affected

    def tables(self) -> list[Table]:
        """Tables and views, as the open transaction sees them."""
        engine = require(self._engine, Introspects, lacks="tables", wanted_by="\\d", works_on=TABLE_ENGINES)
        return self._asked(engine.tables, "listing the tables")

    def describe(self, name: str) -> TableDescription | None:
        """One table, as the open transaction sees it; None when there is none."""
        engine = require(self._engine, Introspects, lacks="tables", wanted_by="\\d", works_on=TABLE_ENGINES)
        return self._asked(
            lambda connection, seconds: engine.describe(connection, name, seconds), f"describing {name!r}"
        )

    def cancel(self) -> None:
        """Ends the statement under way on the server, from another thread; rows that still arrive are dropped."""
        self._is_cancelled = True
        if self._session is not None:
            self._engine.cancel(self._session.held, CANCEL_SECONDS)

    def interrupt(self) -> None:
        """Breaks the connection under a statement that could not be cancelled, from another thread."""
        if self._session is not None:
            self._engine.interrupt(self._session.held)

    @property
    def connected(self) -> bool:
        """True while there is a connection, as far as is known."""
        return self._session is not None

    def close(self) -> bool:
        """Ends the session; True when a transaction was open, which is rolled back. Raises what rolling back raises."""
        session, was_open = self._session, self.state in ("open", "failed")
        try:
            if session is not None and was_open:
                with session.within(CANCEL_SECONDS) as limited:
                    limited.undo()
        finally:
            self._drop()
            self.state = "none"
        return was_open

    def _wanted(self, rows: Iterable[Sequence[Row]]) -> Iterator[Sequence[Row]]:
        """Rows until they are cancelled: to show a million takes longer than to drop them."""
        for batch in rows:
            if self._is_cancelled:
                return
            yield batch

    def _close_lost(self, statement: Statement) -> None:
        if statement.ends_transaction and statement.effect.verb in ("ROLLBACK", "ABORT"):
            self.state = "none"
            self._note("the lost transaction is closed; the next statement runs outside it")
            return
        raise KataxError(
            f"the transaction on {self._database.name!r} is lost, so nothing was run outside it; "
            "close it with ROLLBACK"
        )

    def _ready(self) -> Session:
        """The session, after a silence only if its connection still lives."""
        if self._session is not None and self._clock.monotonic() - self._used_at > _CHECK_AFTER:
            self._check(self._session)
        if self._session is None:
            self._session = self._stack.enter_context(self._database.session(timeout=FOREVER))
        return self._session

    def _check(self, session: Session) -> None:
        try:
            with (
                session.within(self._database.settings.connect_timeout) as limited,
                limited.translated("ping", Safety.READ) as seconds,
            ):
                self._engine.ping(session.held, seconds)
        except KataxError as error:
            was_open = self.state in ("open", "failed")
            self._drop()
            self.state = "lost" if was_open else "none"
            if was_open:
                raise KataxError(
                    f"the connection was lost, and the open transaction with it: {error}; nothing was run; "
                    "close it with ROLLBACK"
                ) from error
            self._note(
                "the connection was lost; its settings and temporary tables are gone, connecting again"
            )

    def _asked(self, question: Callable[..., T], doing: str) -> T:
        session = self._ready()
        try:
            with (
                session.within(self._seconds) as limited,
                limited.translated(doing, Safety.PART if session.in_transaction else Safety.READ) as seconds,
            ):
                answer = question(session.held, seconds)
        except BaseException as error:
            self._settle(None, error)
            raise
        self._settle(None, None)
        return answer

    def _settle(self, statement: Statement | None, error: BaseException | None) -> None:
        """Takes note of what a statement did to its transaction and its connection."""
        session, before = self._session, self.state
        if session is None:
            return
        self._used_at = self._clock.monotonic()
        was_open = before in ("open", "failed")
        ended = statement is not None and (statement.ends_transaction or statement.commits_by_itself)
        if self._engine.is_broken(session.held):
            self._drop()
            self.state = "lost" if was_open and not ended else "none"
        elif session.in_transaction:
            failed = isinstance(self._engine, FailsTransactions) and self._engine.transaction_failed(
                session.held
            )
            self.state = "failed" if failed else "open"
        else:
            self.state = "lost" if was_open and error is not None and not ended else "none"
            if was_open and error is None and statement is not None and not statement.ends_transaction:
                self._note(f"{statement.effect.verb} committed the open transaction")
        if self.state == "lost" and before != "lost":
            self._note("the transaction is lost, the server rolls it back; close it with ROLLBACK")

    def _drop(self) -> None:
        self._session = None
        self._stack.close()
