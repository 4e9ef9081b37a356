"""Guarded calls on real servers behind a wire that breaks; what happened is asked of the server itself."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from katax_cli.core.resilience.deadline import Deadline
from katax_cli.core.resilience.retry import RetryPolicy
from katax_cli.engines.base import SqlEngine
from katax_cli.engines.registry import load
from katax_cli.errors import DeadlineExceeded, OutcomeUnknown, Unavailable
from katax_cli.services.calls.guard import Guard, OnRetry, Safety, Sent
from katax_cli.services.calls.watchdog import watchdog
from tests.engines.connections import settings_for
from tests.fake_clock import FakeClock
from tests.servers.fixtures import MakeFresh, MakeProxy
from tests.servers.proxy import Proxy

PATIENCE = 60.0
READ = "SELECT count(*) FROM guarded"
WRITE = "INSERT INTO guarded VALUES (7)"


@dataclass
class Behind:
    """A server twice: by way of the proxy, and directly to see what it holds."""

    proxy: Proxy
    engine: SqlEngine
    direct: SqlEngine
    connection: Any
    on_retry: OnRetry | None = None
    clock: FakeClock = field(default_factory=FakeClock)
    """The time of deadlines: one ends when its watchdog has fired, not while a busy machine has sent nothing."""

    def guard(self) -> Guard:
        return Guard(
            "main",
            self.engine.classify,
            retry=RetryPolicy(attempts=3),
            breaker=None,
            on_retry=self.on_retry,
            clock=FakeClock(),
        )

    def call(self, sql: str, safety: Safety, *, seconds: float = PATIENCE) -> Any:
        """One guarded call with a connection for each attempt."""
        deadline = Deadline(seconds, clock=self.clock)
        return self.guard().call(
            lambda sent: self.attempt(sql, sent, deadline), deadline=deadline, safety=safety
        )

    def attempt(self, sql: str, sent: Sent, deadline: Deadline) -> Any:
        connection = self.engine.connect(PATIENCE)

        def end() -> None:
            self.clock.at += PATIENCE
            self.engine.interrupt(connection)

        try:
            with watchdog.limit(deadline.within(None), end):
                sent.sent = True
                return self.engine.execute(connection, sql, None, PATIENCE).rows
        finally:
            self.engine.close(connection)

    def rows(self) -> int:
        return int(self.direct.execute(self.connection, READ).rows[0][0])


@pytest.fixture(params=["postgresql", "mysql"])
def behind(request: pytest.FixtureRequest, fresh: MakeFresh, proxy: MakeProxy) -> Iterator[Behind]:
    target = fresh(request.param)
    wire = proxy(target)
    direct = cast(SqlEngine, load(settings_for(target.url)))
    connection = direct.connect(PATIENCE)
    direct.execute(connection, "CREATE TABLE guarded (id integer)")
    yield Behind(wire, cast(SqlEngine, load(settings_for(wire.url))), direct, connection)
    direct.close(connection)


def test_a_write_that_was_applied_but_not_answered_is_unknown_and_applied_once(behind: Behind) -> None:
    behind.proxy.cut_after(b"INSERT", forward=True)

    with pytest.raises(OutcomeUnknown):
        behind.call(WRITE, Safety.WRITE)

    assert (behind.rows(), behind.proxy.connections) == (1, 1)


def test_the_same_write_declared_idempotent_is_applied_twice(behind: Behind) -> None:
    """The bad twin: it shows that a replay would be seen."""
    behind.proxy.cut_after(b"INSERT", forward=True)

    behind.call(WRITE, Safety.IDEMPOTENT)

    assert (behind.rows(), behind.proxy.connections) == (2, 2)


def test_a_write_that_never_arrived_is_unknown_too(behind: Behind) -> None:
    behind.proxy.cut_after(b"INSERT", forward=False)

    with pytest.raises(OutcomeUnknown):
        behind.call(WRITE, Safety.WRITE)

    assert (behind.rows(), behind.proxy.connections) == (0, 1)


def test_a_read_that_was_cut_is_repeated(behind: Behind) -> None:
    behind.proxy.cut_after(b"SELECT count", forward=True)

    assert int(behind.call(READ, Safety.READ)[0][0]) == 0
    assert behind.proxy.connections == 2


def test_attempts_at_the_proxy_are_those_of_the_policy(behind: Behind) -> None:
    def cut_every(chunk: bytes) -> None:
        if b"SELECT count" in chunk:
            behind.proxy.cut_after(b"SELECT count", forward=False)

    behind.proxy.on_client_bytes(cut_every)

    with pytest.raises(Unavailable):
        behind.call(READ, Safety.READ)

    assert behind.proxy.connections == 3


def test_a_write_is_repeated_while_the_server_cannot_be_reached(behind: Behind) -> None:
    failed: list[int] = []

    def come_back(attempt: int, _error: BaseException) -> None:
        failed.append(attempt)
        behind.proxy.come_back()

    behind.on_retry = come_back
    behind.proxy.refuse()
    behind.call(WRITE, Safety.WRITE)

    assert (behind.rows(), failed) == (1, [1])


@pytest.mark.parametrize(
    ("sql", "safety", "error"),
    [(READ, Safety.READ, DeadlineExceeded), (WRITE, Safety.WRITE, OutcomeUnknown)],
    ids=["read", "write"],
)
def test_a_silent_wire_is_left_at_the_deadline(
    behind: Behind, sql: str, safety: Safety, error: type[Exception]
) -> None:
    def stall(chunk: bytes) -> None:
        if b"guarded" in chunk:
            behind.proxy.stall()

    behind.proxy.on_client_bytes(stall)

    with pytest.raises(error):
        behind.call(sql, safety, seconds=1.0)

    assert behind.proxy.connections == 1


def test_a_transaction_that_the_server_rolled_back_is_run_again_as_a_whole(behind: Behind) -> None:
    behind.direct.execute(behind.connection, "INSERT INTO guarded VALUES (1), (2)")
    runs: list[int] = []

    def whole(sent: Sent) -> None:
        runs.append(1)
        connection = behind.engine.connect(PATIENCE)
        try:
            behind.engine.execute(connection, behind.engine.facts.begin)
            behind.engine.execute(connection, "UPDATE guarded SET id = id + 10 WHERE id = 1")
            if len(runs) == 1:
                raise_rolled_back(behind, connection)
            sent.sent = True
            behind.engine.execute(connection, "COMMIT")
        finally:
            behind.engine.close(connection)

    behind.guard().call(whole, deadline=Deadline(PATIENCE), safety=Safety.WHOLE)

    found = behind.direct.execute(behind.connection, "SELECT id FROM guarded ORDER BY id").rows
    assert ([int(row[0]) for row in found], len(runs)) == ([2, 11], 2)


def raise_rolled_back(behind: Behind, connection: Any) -> None:
    """Lets the server itself answer with its code for a rolled back transaction."""
    if behind.engine.dialect == "postgresql":
        behind.engine.execute(
            connection, "DO $$ BEGIN RAISE EXCEPTION 'again' USING ERRCODE = '40001'; END $$"
        )
    else:
        behind.engine.execute(connection, "SIGNAL SQLSTATE '40001' SET MYSQL_ERRNO = 1213")
