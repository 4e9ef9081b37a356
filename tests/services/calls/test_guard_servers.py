"""Guarded calls on real servers behind a wire that breaks; what happened is asked of the server itself."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

import pytest

from katax_cli.core.resilience.deadline import Deadline
from katax_cli.core.resilience.retry import RetryPolicy
from katax_cli.engines.base import SqlEngine
from katax_cli.engines.registry import load
from katax_cli.errors import OutcomeUnknown
from katax_cli.services.calls.guard import Guard, OnRetry, Safety, Sent
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

    def call(self, sql: str, safety: Safety) -> Any:
        """One guarded call with a connection for each attempt."""
        guard = Guard(
            "main",
            self.engine.classify,
            retry=RetryPolicy(attempts=3),
            breaker=None,
            on_retry=self.on_retry,
            clock=FakeClock(),
        )
        return guard.call(lambda sent: self.attempt(sql, sent), deadline=Deadline(PATIENCE), safety=safety)

    def attempt(self, sql: str, sent: Sent) -> Any:
        connection = self.engine.connect(PATIENCE)
        try:
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


def test_a_write_is_repeated_while_the_server_cannot_be_reached(behind: Behind) -> None:
    failed: list[int] = []

    def come_back(attempt: int, _error: BaseException) -> None:
        failed.append(attempt)
        behind.proxy.come_back()

    behind.on_retry = come_back
    behind.proxy.refuse()
    behind.call(WRITE, Safety.WRITE)

    assert (behind.rows(), failed) == (1, [1])
