"""PostgreSQL behind PgBouncer in transaction mode: `pooler = "transaction"` in the profile."""

from __future__ import annotations

import pytest

from katax_cli.errors import DeadlineExceeded, Refused
from katax_cli.services.databases.lease import Patience
from katax_cli.services.databases.sql import SqlDatabase
from tests.servers.fixtures import MakeProxy
from tests.services.runtimes import QUICK, OpenRuntime
from tests.waiting import until


class Pooled:
    """A database through PgBouncer, writable and read-only, and past it."""

    def __init__(self, open_runtime: OpenRuntime, through: str, past: str) -> None:
        pooled = {"url": through, "pooler": "transaction", "direct_url": past}
        self.runtime = open_runtime(QUICK, main=pooled, reader={**pooled, "read_only": True}, direct=past)
        self.main, self.reader, self.direct = (
            self.runtime.sql(self.runtime.profile.connection(name)) for name in ("main", "reader", "direct")
        )
        self.main.leases.patience = Patience(grace=10.0)


@pytest.fixture
def pooled(open_runtime: OpenRuntime, pgbouncer_url: str, postgresql_url: str) -> Pooled:
    return Pooled(open_runtime, pgbouncer_url, postgresql_url)


def limit(on: SqlDatabase) -> str:
    return str(on.query("SHOW statement_timeout")[0]["statement_timeout"])


def test_statements_take_turns_on_the_poolers_sessions(pooled: Pooled) -> None:
    """The same statement again and again, on whatever session: nothing is prepared on any of them."""
    pooled.main.execute("CREATE TABLE t (n INT)")
    with pooled.main.session() as one, pooled.main.session() as other:
        for number in range(12):
            one.execute("INSERT INTO t VALUES ($1)", [number])
            other.execute("INSERT INTO t VALUES ($1)", [number + 100])
    assert pooled.main.query("SELECT count(*) AS n FROM t") == [{"n": 24}]
    assert pooled.main.query("SELECT count(*) AS n FROM pg_prepared_statements") == [{"n": 0}]


def test_a_transaction_and_its_savepoints(pooled: Pooled) -> None:
    pooled.main.execute("CREATE TABLE t (n INT)")
    with pooled.main.transaction() as transaction:
        transaction.execute("INSERT INTO t VALUES (1)")
        with pytest.raises(ZeroDivisionError), transaction.transaction() as inner:  # noqa: PT012
            inner.execute("INSERT INTO t VALUES (2)")
            raise ZeroDivisionError
    assert pooled.main.transaction(lambda t: t.query("SELECT n FROM t")) == [{"n": 1}]


def test_a_timeout_is_set_for_the_transaction_alone(pooled: Pooled) -> None:
    with pooled.main.transaction(timeout=47.0) as transaction:
        assert limit_in(transaction.query("SHOW statement_timeout")) == "47s"
    for _ in range(10):  # on whatever session of the pooler
        assert limit_in(pooled.main.query("SHOW statement_timeout", timeout=60.0)) == "0"
    assert limit(pooled.direct) == "30s"


def limit_in(rows: list[dict[str, object]]) -> str:
    return str(rows[0]["statement_timeout"])


def test_the_deadline_ends_a_transaction_on_the_server(pooled: Pooled) -> None:
    pooled.main.ping()
    with pytest.raises(DeadlineExceeded), pooled.main.transaction(timeout=0.3) as transaction:
        transaction.query("SELECT pg_sleep(600)")
    until(lambda: running(pooled) == 0)


def test_the_deadline_ends_a_write_that_has_no_limit_on_the_server(pooled: Pooled) -> None:
    pooled.main.execute("CREATE TABLE t (n INT)")
    with pytest.raises(DeadlineExceeded):
        pooled.main.execute("INSERT INTO t SELECT 1 FROM pg_sleep(600)", timeout=0.3)
    until(lambda: running(pooled) == 0)
    assert pooled.direct.query("SELECT * FROM t") == []


def running(pooled: Pooled) -> int:
    sql = (
        "SELECT count(*) AS n FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%pg\\_sleep(600)'"
    )
    return int(pooled.direct.query(sql)[0]["n"])


def test_a_read_only_profile_is_enforced_by_the_server(pooled: Pooled) -> None:
    pooled.main.execute("CREATE TABLE t (n INT)")
    pooled.main.execute(
        "CREATE FUNCTION writes() RETURNS INT LANGUAGE sql AS 'INSERT INTO t VALUES (1) RETURNING n'"
    )
    assert pooled.reader.query("SELECT count(*) AS n FROM t") == [{"n": 0}]
    for attempt in ("INSERT INTO t VALUES (1)", "SELECT writes()"):
        with pytest.raises(Refused):
            pooled.reader.execute(attempt)
        with pytest.raises(Refused), pooled.reader.transaction() as transaction:
            transaction.execute(attempt)
    assert pooled.direct.query("SELECT * FROM t") == []
    assert (
        pooled.main.query("SHOW default_transaction_read_only")[0]["default_transaction_read_only"] == "off"
    )


def test_a_stream_passes(pooled: Pooled) -> None:
    with pooled.main.stream("SELECT n FROM generate_series(1, 5000) AS s(n)") as rows:
        assert sum(len(batch) for batch in rows) == 5000


def test_the_direct_url_leads_past_the_pooler(pooled: Pooled) -> None:
    settings = pooled.main.settings.direct
    assert settings is not None
    assert settings.pooler is None
    assert limit(pooled.runtime.sql(settings)) == "30s"


def test_a_cut_wire_to_the_pooler_is_survived_by_reads(
    open_runtime: OpenRuntime, proxy: MakeProxy, pgbouncer_url: str
) -> None:
    wire = proxy(pgbouncer_url)
    pooled = {"url": wire.url, "pooler": "transaction", "read_only": True}
    runtime = open_runtime(QUICK, main=pooled)
    reader = runtime.sql(runtime.profile.connection("main"))
    wire.cut_after(b"SELECT 7", forward=True)
    assert reader.query("SELECT 7 AS n") == [{"n": 7}]
    assert wire.connections == 2
