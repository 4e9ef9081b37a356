"""Every guarded call is seen once, told without its values, and only to those who want to know."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from katax_cli.core.sql import fingerprint
from katax_cli.errors import BreakerOpen, DeadlineExceeded, KataxError, PoolTimeout, QueryError
from katax_cli.health import get_metrics, has_database_metrics
from katax_cli.services.calls.events import Events
from katax_cli.services.calls.observer import Observer, QueryLogging, query_logging
from katax_cli.services.databases.clients import RedisDatabase
from katax_cli.services.databases.mongodb import MongoDatabase
from katax_cli.services.databases.sql import SqlDatabase
from katax_cli.services.runtime.runtime import Runtime
from tests.fake_clock import FakeClock
from tests.servers.fixtures import MakeProxy, Target
from tests.services.profiles import profile

SECRET = "hush-hush-word"
SEEN = f"SELECT '{SECRET}' AS a, 4242 AS b"
SHOWN = "SELECT ? AS a, ? AS b"


@pytest.fixture
def sql(sql_engine: Target, tmp_path: Path) -> Iterator[SqlDatabase]:
    with Runtime(profile(tmp_path, {"main": sql_engine.url})) as runtime:
        yield cast(SqlDatabase, runtime.database("main"))


class Told:
    """What a listener heard."""

    def __init__(self) -> None:
        self.queries: list[str] = []
        self.millis: list[float] = []

    def __call__(self, text: str, duration_ms: float) -> None:
        self.queries.append(text)
        self.millis.append(duration_ms)


def in_transaction(db: SqlDatabase) -> None:
    with db.transaction() as transaction:
        transaction.query(SEEN)


def by_hand(db: SqlDatabase) -> None:
    transaction = db.begin()
    transaction.query(SEEN)
    transaction.rollback()


def in_session(db: SqlDatabase) -> None:
    with db.session() as session:
        session.query(SEEN)


def as_stream(db: SqlDatabase) -> None:
    with db.stream(SEEN) as rows:
        assert [row for batch in rows for row in batch] == [(SECRET, 4242)]


def as_stream_of_a_transaction(db: SqlDatabase) -> None:
    with db.transaction() as transaction, transaction.stream(SEEN) as rows:
        assert len([row for batch in rows for row in batch]) == 1


WAYS: list[Callable[[SqlDatabase], object]] = [
    lambda db: db.query(SEEN),
    lambda db: db.raw(SEEN),
    lambda db: db.execute(SEEN),
    lambda db: db.prepare(SEEN).execute(),
    lambda db: db.transaction(lambda transaction: transaction.query(SEEN)),
    by_hand,
    in_transaction,
    in_session,
    as_stream,
    as_stream_of_a_transaction,
]


@pytest.mark.parametrize("way", range(len(WAYS)))
def test_a_statement_is_told_once_and_without_its_values(way: int, sql: SqlDatabase) -> None:
    told = Told()
    sql.on("query", told)

    WAYS[way](sql)

    assert told.queries == [SHOWN]
    assert 0 < told.millis[0] < 60_000
    assert sql.observer.metrics is not None
    assert sql.observer.metrics.stats().total == 1


def test_many_rows_are_one_call(sql: SqlDatabase) -> None:
    sql.execute("CREATE TABLE seen (a varchar(20))")
    told = Told()
    sql.on("query", told)

    sql.execute_many("INSERT INTO seen VALUES (?)", [(SECRET,), ("b",)])

    assert told.queries == ["INSERT INTO seen VALUES (?)"]


def test_a_statement_that_fails_is_told_and_counted_as_failed(sql: SqlDatabase) -> None:
    told = Told()
    sql.on("query", told)

    with pytest.raises(QueryError):
        sql.query("SELECT nothing_of_this_name")

    assert told.queries == ["SELECT nothing_of_this_name"]
    assert sql.observer.metrics is not None
    assert sql.observer.metrics.stats().failed == 1


def test_what_the_reader_of_a_stream_raises_is_no_failure_of_the_statement(sql: SqlDatabase) -> None:
    with pytest.raises(ZeroDivisionError), sql.stream(SEEN):
        raise ZeroDivisionError

    stats = get_metrics(sql).queries
    assert (stats.total, stats.failed) == (1, 0)


def test_a_stream_that_breaks_under_way_has_failed(postgresql_url: str, tmp_path: Path) -> None:
    with Runtime(profile(tmp_path, {"main": postgresql_url})) as runtime:
        db = cast(SqlDatabase, runtime.database("main"))
        sql = "SELECT 1 / (5000 - n) FROM generate_series(1, 9000) AS n"
        with pytest.raises(QueryError), db.stream(sql) as rows:
            for _ in rows:
                pass

        stats = get_metrics(db).queries
    assert (stats.total, stats.failed) == (1, 1)


def test_pings_are_no_queries(sql: SqlDatabase) -> None:
    sql.connect()
    sql.ping()
    sql.server()

    assert sql.observer.metrics is not None
    assert sql.observer.metrics.stats().total == 0


def test_a_listener_can_leave(sql: SqlDatabase) -> None:
    told = Told()
    leave = sql.on("query", told)
    leave()

    sql.query("SELECT 1")

    assert told.queries == []


def test_a_listener_that_raises_does_no_harm(sql: SqlDatabase, caplog: pytest.LogCaptureFixture) -> None:
    told = Told()
    sql.on("query", lambda _sql, _ms: 1 / 0)
    sql.on("query", told)

    assert sql.query("SELECT 1 AS a") == [{"a": 1}]
    assert told.queries == ["SELECT ? AS a"]
    assert "a listener of 'query' failed" in caplog.text


def test_no_metrics_when_they_are_not_wanted(sql: SqlDatabase) -> None:
    sql.keep_metrics(0)
    sql.query("SELECT 1")
    assert not has_database_metrics(sql)

    sql.keep_metrics(2)
    for _ in range(3):
        sql.query("SELECT 1")
    assert get_metrics(sql).queries.total == 2


def logged(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    """What the logger of queries was told; threads of other tests may log beside it."""
    mine = threading.get_ident()
    return [record for record in caplog.records if (record.name, record.thread) == ("katax.query", mine)]


class TestLog:
    """The logger `katax.query`."""

    def test_slow_statements_are_warned_of_and_others_are_not(
        self, sql: SqlDatabase, caplog: pytest.LogCaptureFixture
    ) -> None:
        sql.enable_query_logging(slow_ms=60_000)
        sql.query(SEEN)
        assert logged(caplog) == []

        sql.enable_query_logging(slow_ms=0)
        sql.query(SEEN)
        (record,) = logged(caplog)
        assert record.levelno == logging.WARNING
        assert record.getMessage().startswith("slow query on 'main' took ")
        assert record.getMessage().endswith(f" ms: {SHOWN}")

    def test_facts_of_a_record(self, sql: SqlDatabase, caplog: pytest.LogCaptureFixture) -> None:
        sql.enable_query_logging(slow=False, all=True)
        with caplog.at_level(logging.INFO):
            sql.query(SEEN)

        facts = vars(logged(caplog)[0])
        assert (facts["connection"], facts["outcome"]) == ("main", "ok")
        assert facts["fingerprint"] == fingerprint(SEEN, sql.engine.dialect)
        assert facts["duration_ms"] > 0
        assert SECRET not in str(facts)

    def test_a_failure_is_logged_by_its_kind_alone(
        self, sql: SqlDatabase, caplog: pytest.LogCaptureFixture
    ) -> None:
        sql.enable_query_logging(all=True)
        with caplog.at_level(logging.INFO), pytest.raises(QueryError):
            sql.query(f"SELECT nothing_of_this_name, '{SECRET}'")

        assert vars(logged(caplog)[0])["outcome"] == "QueryError"
        assert ", QueryError: SELECT nothing_of_this_name, ?" in caplog.text
        assert SECRET not in caplog.text

    @pytest.mark.parametrize("params", ["redacted", "plain"])
    def test_parameters_are_logged_in_a_dev_profile_that_asks_for_them(
        self, params: str, sql_engine: Target, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        extra = f'[logging]\nqueries = "all"\nquery_params = "{params}"\n'
        made = profile(tmp_path, {"main": sql_engine.url}, extra=extra)
        with Runtime(made) as runtime, caplog.at_level(logging.DEBUG, "katax.query"):
            cast(SqlDatabase, runtime.database("main")).query("SELECT ? AS a", (SECRET,))

        assert (SECRET in caplog.text) is (params == "plain")
        assert "SELECT ? AS a" in caplog.text

    @pytest.mark.parametrize(
        ("role", "queries", "one_shot", "slow", "every"),
        [
            ("dev", None, False, logging.WARNING, logging.DEBUG),
            ("prod", None, False, logging.WARNING, None),
            ("prod", "all", False, logging.WARNING, logging.INFO),
            ("prod", "off", False, None, None),
            ("dev", "off", False, None, None),
            # Nobody who runs a single command wants to be told what he just typed, unless he said so.
            ("prod", None, True, logging.DEBUG, None),
            ("dev", None, True, logging.DEBUG, logging.DEBUG),
            ("prod", "all", True, logging.WARNING, logging.INFO),
        ],
    )
    def test_levels_that_a_profile_asks_for(
        self,
        role: str,
        queries: str | None,
        one_shot: bool,
        slow: int | None,
        every: int | None,
        tmp_path: Path,
    ) -> None:
        extra = "" if queries is None else f'[logging]\nqueries = "{queries}"\n'
        made = profile(tmp_path, {"main": "sqlite:///x.db"}, role=role, extra=extra)

        log = query_logging(made, one_shot=one_shot)

        assert (log.slow, log.all, log.slow_ms, log.plain_params) == (slow, every, 100.0, False)


def test_parameters_stay_out_of_the_log_of_every_other_role(tmp_path: Path) -> None:
    """However the profile came to ask for them; its file cannot."""
    made = profile(tmp_path, {"main": "sqlite:///x.db"})
    asking = replace(made, logging=made.logging._replace(query_params="plain"))

    assert query_logging(asking, one_shot=False).plain_params
    for role in ("stage", "prod", "frozen"):
        assert not query_logging(replace(asking, role=role), one_shot=False).plain_params


def observer(clock: FakeClock, log: QueryLogging, redactions: list[str]) -> tuple[Observer, Events]:
    def redacted(statement: str) -> str:
        redactions.append(statement)
        return "redacted"

    events = Events()
    made = Observer("main", events, redacted=redacted, fingerprint=lambda _: "f", clock=clock)
    made.set_log(log)
    return made, events


def test_nothing_is_redacted_while_nobody_listens() -> None:
    clock, redactions = FakeClock(), list[str]()
    made, events = observer(clock, QueryLogging(slow_ms=100.0), redactions)
    told = Told()

    for seconds in (0.05, 0.2):
        with made.watch("SELECT 1"):
            clock.sleep(seconds)
    assert redactions == []

    events.on("slow_query", told)
    for seconds in (0.05, 0.099, 0.101):
        with made.watch("SELECT 1"):
            clock.sleep(seconds)

    assert told.queries == ["redacted"]
    assert told.millis == [pytest.approx(101.0)]
    assert len(redactions) == 1


def test_the_readers_own_time_is_not_the_statements() -> None:
    clock = FakeClock()
    made, _ = observer(clock, QueryLogging(), [])

    with made.watch("SELECT 1") as watch:
        clock.sleep(1.0)
        watch.pause()
        clock.sleep(30.0)
        watch.resume()
        clock.sleep(2.0)
        watch.pause()
        clock.sleep(30.0)

    assert made.metrics is not None
    assert made.metrics.stats().max_ms == 3000.0


@pytest.mark.parametrize(
    "error", [BreakerOpen("main"), PoolTimeout("main", waited=1.0, active=1, max=1, waiting=0)]
)
def test_a_call_that_never_went_out_is_not_counted(error: KataxError) -> None:
    made, _ = observer(FakeClock(), QueryLogging(), [])

    with pytest.raises(type(error)), made.watch("SELECT 1"):
        raise error

    assert made.metrics is not None
    assert made.metrics.stats().total == 0


def test_a_redis_command_is_told_by_its_name_alone(redis_url: str, tmp_path: Path) -> None:
    told = Told()
    with Runtime(profile(tmp_path, {"cache": redis_url})) as runtime:
        db = cast(RedisDatabase, runtime.database("cache"))
        db.on("query", told)
        db.redis("set", f"user:{SECRET}", SECRET)
        db.redis(b"GET", f"user:{SECRET}")
        db.redis("ping")

    assert told.queries == ["SET ?", "GET ?", "PING"]


def test_a_mongodb_command_is_told_by_its_shape(mongodb_url: str, tmp_path: Path) -> None:
    told = Told()
    with Runtime(profile(tmp_path, {"docs": mongodb_url})) as runtime:
        db = cast(MongoDatabase, runtime.database("docs"))
        db.on("query", told)
        db.command({"find": "users", "filter": {"name": SECRET}, "limit": 1})
        db.command({"ping": 1})

    assert told.queries == ["find users {filter, limit}", "ping"]


class TestConnectionErrors:
    """Who listens hears of every call that failed because of the connection, once."""

    def heard(self, runtime: Runtime) -> list[KataxError]:
        errors: list[KataxError] = []
        runtime.database("main").on("connection_error", errors.append)
        return errors

    @pytest.mark.parametrize("scheme", ["postgresql", "mysql", "redis", "mongodb"])
    def test_nobody_listens_at_the_port(self, scheme: str, closed_port: int, tmp_path: Path) -> None:
        made = profile(tmp_path, {"main": f"{scheme}://127.0.0.1:{closed_port}/0"})
        with Runtime(made) as runtime:
            errors = self.heard(runtime)
            assert not runtime.database("main").health_check()

        (error,) = errors
        assert f"127.0.0.1:{closed_port}" in str(error)

    @pytest.mark.parametrize("name", ["postgresql", "mysql"])
    def test_the_wire_is_cut_under_a_statement(
        self, name: str, request: pytest.FixtureRequest, proxy: MakeProxy, tmp_path: Path
    ) -> None:
        wire = proxy(cast(str, request.getfixturevalue(f"{name}_url")))
        extra = "[retry]\nattempts = 1\n"
        with Runtime(profile(tmp_path, {"main": wire.url}, extra=extra)) as runtime:
            errors = self.heard(runtime)
            db = cast(SqlDatabase, runtime.database("main"))
            wire.cut_after(b"UPDATE", forward=False)
            with pytest.raises(KataxError) as raised:
                db.execute("UPDATE nothing SET a = 1")

        assert errors == [raised.value]

    def test_a_deadline_that_passes_is_no_connection_error(
        self, postgresql_url: str, proxy: MakeProxy, tmp_path: Path
    ) -> None:
        wire = proxy(postgresql_url)
        with Runtime(profile(tmp_path, {"main": wire.url})) as runtime:
            errors = self.heard(runtime)
            db = cast(SqlDatabase, runtime.database("main"))
            db.connect()
            wire.stall()
            # A machine that stood still before has the connection looked at first, as one that was idle.
            with pytest.raises((DeadlineExceeded, PoolTimeout)):
                db.query("SELECT 1", timeout=0.3)

        assert errors == []

    def test_an_answer_of_the_server_is_no_connection_error(self, sql: SqlDatabase) -> None:
        errors: list[KataxError] = []
        sql.on("connection_error", errors.append)

        with pytest.raises(QueryError):
            sql.query("SELECT nothing_of_this_name")

        assert errors == []
