"""PostgreSQL's own side of the SQL engine; what all SQL engines share is in test_sql_engines.py."""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import partial
from itertools import groupby
from pathlib import Path
from types import FrameType
from typing import Any
from uuid import UUID

import psycopg
import pytest
from psycopg.pq import Trace

from katax_cli.core.resilience.failure import Failure, FailureKind, ServerWords, Violation
from katax_cli.core.text.text import RawJson
from katax_cli.engines.postgresql import PostgresEngine, create
from katax_cli.engines.postgresql.failures import classify, connect_failure
from katax_cli.engines.postgresql.session import PostgresConnection
from tests.engines.connections import settings_for
from tests.servers import Server
from tests.servers.fixtures import MakeProxy, Throwaway
from tests.waiting import until

Connect = Callable[[PostgresEngine], PostgresConnection]


@pytest.fixture
def engine(postgresql_url: str) -> PostgresEngine:
    return create(settings_for(postgresql_url))


@pytest.fixture
def connection(engine: PostgresEngine, connect: Connect) -> PostgresConnection:
    return connect(engine)


def failure_of(act: Callable[[], object]) -> Failure:
    with pytest.raises(psycopg.Error) as caught:
        act()
    return classify(caught.value)


def scalar(engine: PostgresEngine, connection: PostgresConnection, sql: str, *params: Any) -> Any:
    return engine.execute(connection, sql, params, 30.0).rows[0][0]


def session_timeout(engine: PostgresEngine, connection: PostgresConnection, timeout: float | None) -> str:
    """What the session is limited to; asked again where the question itself met a short limit."""
    sql = "SELECT current_setting('statement_timeout')"
    while True:
        try:
            return str(engine.execute(connection, sql, None, timeout).rows[0][0])
        except psycopg.errors.QueryCanceled:
            if engine.in_transaction(connection):
                raise


def traced(connection: PostgresConnection, folder: Path, act: Callable[[], object]) -> str:
    """What libpq sent (F) and received (B) during `act`, a line for each message."""
    with (folder / "trace").open("w+") as file:
        connection.pgconn.trace(file.fileno())
        connection.pgconn.set_trace_flags(Trace.SUPPRESS_TIMESTAMPS)
        act()
        connection.pgconn.untrace()
        file.seek(0)
        return file.read()


def round_trips(trace: str) -> int:
    return [sender for sender, _ in groupby(trace.splitlines(), lambda line: line[0])].count("F")


class TestValues:
    @pytest.mark.parametrize(
        ("sql", "value"),
        [
            ("1.10::numeric", Decimal("1.10")),
            ("'NaN'::float8 > 1", True),
            ("'2024-02-29 12:00+02'::timestamptz", datetime(2024, 2, 29, 10, tzinfo=UTC)),
            ("'2024-02-29'::date", date(2024, 2, 29)),
            ("'infinity'::timestamptz", "infinity"),
            ("'-infinity'::date", "-infinity"),
            ("'0044-03-15 BC'::date", "0044-03-15 BC"),
            ("'24:00'::time", "24:00:00"),
            ("ARRAY['infinity', '2024-02-29']::date[]", ["infinity", date(2024, 2, 29)]),
            ("interval '90 minutes'", timedelta(minutes=90)),
            ("""'{"a": [1, null]}'::jsonb""", {"a": [1, None]}),
            ("""'{"a": 1}'::json""", {"a": 1}),
            ("'0.1'::jsonb", 0.1),
            ("""'1e99999999999999999999'::json""", float("inf")),
            ("'12345678-1234-1234-1234-123456789abc'::uuid", UUID("12345678-1234-1234-1234-123456789abc")),
            ("ARRAY[1, NULL, 3]", [1, None, 3]),
            ("'[1,5)'::int4range", "[1,5)"),
            ("ARRAY['[1,5)'::int4range]", ["[1,5)"]),
            (r"'\x00ff'::bytea", b"\x00\xff"),
            ("'(1,2)'::point", "(1,2)"),
            ("NULL", None),
        ],
    )
    def test_from_the_server(
        self, engine: PostgresEngine, connection: PostgresConnection, sql: str, value: object
    ) -> None:
        assert scalar(engine, connection, f"SELECT {sql}") == value

    @pytest.mark.parametrize(
        ("type_", "value"),
        [
            ("jsonb", {"a": [1, "ü"]}),
            ("jsonb", {"price": 1.1, "n": [1e-20, 2]}),
            ("int[]", [1, 2]),
            ("text", "O'Neil \\ 😀"),
            ("bytea", b"\x00'\\"),
            ("numeric", Decimal("1e-20")),
            ("bigint", 2**62),
            ("timestamptz", datetime(2024, 1, 1, tzinfo=UTC)),
        ],
    )
    def test_there_and_back(
        self, engine: PostgresEngine, connection: PostgresConnection, type_: str, value: object
    ) -> None:
        assert scalar(engine, connection, f"SELECT ?::{type_}", value) == value

    @pytest.mark.parametrize("type_", ["json", "jsonb"])
    def test_numbers_in_json_keep_their_digits_on_request(
        self, postgresql_url: str, connect: Connect, type_: str
    ) -> None:
        """And their kind: a whole number stays an int."""
        engine = create(settings_for(postgresql_url, decimals=True))
        connection = connect(engine)
        sql = f"""SELECT '{{"a": 1.10, "b": [0.30000000000000000001, 7], "c": 1e400}}'::{type_}"""
        value = scalar(engine, connection, sql)

        assert str(value["a"]) == "1.10"
        assert value["b"] == [Decimal("0.30000000000000000001"), 7]
        assert type(value["b"][1]) is int
        assert Decimal(value["c"]) == Decimal("1e400")
        assert scalar(engine, connection, "SELECT ?::jsonb", value) == value

    def test_json_may_come_as_the_server_wrote_it(
        self, engine: PostgresEngine, connection: PostgresConnection
    ) -> None:
        """Beside a value that Python lacks too, and every other value stays one of Python."""
        sql = """SELECT '{"a":  1.10,\n"b": 1}'::json, '[1e2, 1.10]'::jsonb, ARRAY['1.0'::jsonb], 7, 'infinity'::date"""
        with engine.stream(connection, sql, text="json") as rows:
            (row,) = [row for batch in rows for row in batch]
        assert row == ('{"a":  1.10,\n"b": 1}', "[100, 1.10]", ["1.0"], 7, "infinity")
        assert [type(row[0]), type(row[1]), type(row[2][0])] == [RawJson] * 3

    def test_rows_before_and_after_a_value_that_python_lacks(
        self, engine: PostgresEngine, connection: PostgresConnection
    ) -> None:
        sql = "SELECT CASE g WHEN 3500 THEN 'infinity'::date ELSE date '2024-01-01' END FROM generate_series(1, 5000) g"
        with engine.stream(connection, sql) as rows:
            seen = [row[0] for batch in rows for row in batch]
        assert seen[3499] == "infinity"
        assert seen.count(date(2024, 1, 1)) == 4999

    def test_as_text(self, engine: PostgresEngine, connection: PostgresConnection) -> None:
        sql = r"""SELECT 1.50::numeric, true, '\x00ff'::bytea, '2024-01-01 00:00Z'::timestamptz, NULL,
            ARRAY[1,2], '{}'::jsonb"""
        with engine.stream(connection, sql, text=True) as rows:
            assert list(rows) == [[("1.50", "t", "\\x00ff", "2024-01-01 00:00:00+00", None, "{1,2}", "{}")]]

    def test_a_nul_character_does_not_cut_the_statement(
        self, engine: PostgresEngine, connection: PostgresConnection
    ) -> None:
        failure = failure_of(lambda: engine.execute(connection, "SELECT 1 \0 WHERE false"))
        assert failure.kind is FailureKind.REJECTED
        assert scalar(engine, connection, "SELECT 1") == 1


class TestTimeouts:
    @pytest.mark.parametrize(
        ("timeout", "seen"),
        [
            (30.0, "30s"),
            (29.99, "30s"),
            (25.0, "30s"),
            (24.9, "25s"),
            (30.1, "31s"),
            (0.0501, "51ms"),
            (None, "0"),
        ],
    )
    def test_the_session_is_set_only_when_it_is_too_far_off(
        self, engine: PostgresEngine, connection: PostgresConnection, timeout: float | None, seen: str
    ) -> None:
        assert session_timeout(engine, connection, timeout) == seen

    def test_one_round_trip_with_the_setting_and_without(
        self, engine: PostgresEngine, connection: PostgresConnection, tmp_path: Path
    ) -> None:
        for timeout, messages in ((30.0, 1), (20.0, 2), (18.0, 1), (None, 2)):
            trace = traced(connection, tmp_path, partial(session_timeout, engine, connection, timeout))
            assert (round_trips(trace), trace.count("\tParse\t")) == (1, messages)

    def test_round_trips_of_the_guard(
        self, engine: PostgresEngine, connection: PostgresConnection, tmp_path: Path
    ) -> None:
        def guarded() -> None:
            with engine.read_only(connection):
                session_timeout(engine, connection, 30.0)

        assert round_trips(traced(connection, tmp_path, guarded)) == 3

    def test_local_to_a_transaction(self, engine: PostgresEngine, connection: PostgresConnection) -> None:
        engine.execute(connection, "BEGIN", None, 30.0)
        assert session_timeout(engine, connection, 20.0) == "20s"
        assert session_timeout(engine, connection, 30.0) == "30s"
        engine.execute(connection, "SAVEPOINT s", None, 30.0)
        assert session_timeout(engine, connection, 20.0) == "20s"
        engine.execute(connection, "ROLLBACK TO s", None, 20.0)
        assert session_timeout(engine, connection, 20.0) == "20s"
        engine.execute(connection, "ROLLBACK", None, 20.0)
        assert session_timeout(engine, connection, 30.0) == "30s"

    def test_set_with_the_begin_outlives_the_rollback(
        self, engine: PostgresEngine, connection: PostgresConnection
    ) -> None:
        engine.execute(connection, "BEGIN", None, 20.0)
        engine.execute(connection, "ROLLBACK", None, 20.0)
        assert session_timeout(engine, connection, 20.0) == "20s"

    def test_what_the_user_set_is_not_trusted(
        self, engine: PostgresEngine, connection: PostgresConnection
    ) -> None:
        engine.execute(connection, "SET statement_timeout = 0", None, 30.0)
        assert session_timeout(engine, connection, 30.0) == "30s"

    def test_a_shorter_limit_of_the_user_stands(
        self, engine: PostgresEngine, connection: PostgresConnection
    ) -> None:
        engine.execute(connection, "SET statement_timeout = '400s'", None, 3100.0)
        assert session_timeout(engine, connection, 3100.0) == "400s"
        assert session_timeout(engine, connection, None) == "400s"
        assert session_timeout(engine, connection, 200.0) == "200s"
        assert session_timeout(engine, connection, 500.0) == "400s"
        engine.execute(connection, "BEGIN", None, 500.0)
        engine.execute(connection, "SAVEPOINT s", None, 500.0)
        engine.execute(connection, "SELECT set_config($1, '310s', true)", ["statement_timeout"], 500.0)
        assert session_timeout(engine, connection, 500.0) == "310s"
        engine.execute(connection, "ROLLBACK TO s", None, 500.0)
        assert session_timeout(engine, connection, 500.0) == "400s"
        engine.execute(connection, "SET LOCAL statement_timeout = '310s'", None, 500.0)
        engine.execute(connection, "COMMIT", None, 500.0)
        assert session_timeout(engine, connection, 500.0) == "400s"
        engine.execute(connection, "RESET statement_timeout", None, 500.0)
        assert session_timeout(engine, connection, 500.0) == "500s"
        engine.execute(connection, "SET statement_timeout = '350s'", None, 3100.0)
        engine.reset(connection)
        assert session_timeout(engine, connection, 3100.0) == "3100s"

    @pytest.mark.parametrize("place", ["database", "url"])
    def test_a_shorter_limit_of_the_servers_or_the_url_stands(
        self, postgresql_url: str, place: str, connect: Connect
    ) -> None:
        settings = settings_for(postgresql_url)
        if place == "url":
            settings = replace(settings, options={"options": "-c statement_timeout=400"})
        else:
            admin = create(settings)
            sql = f"ALTER DATABASE {settings.database} SET statement_timeout = '400ms'"
            admin.execute(connect(admin), sql)
        engine = create(settings)
        connection = connect(engine)
        for timeout, seen in ((30.0, "400ms"), (None, "400ms"), (0.1, "100ms"), (30.0, "400ms")):
            assert session_timeout(engine, connection, timeout) == seen
        engine.execute(connection, "SET app.tenant = 'a'")
        engine.reset(connection)
        assert session_timeout(engine, connection, 30.0) == "400ms"
        failure = failure_of(lambda: engine.execute(connection, "SELECT pg_sleep(20)", None, 30.0))
        assert failure.kind is FailureKind.TIMED_OUT

    def test_a_statement_that_no_transaction_may_hold(
        self, engine: PostgresEngine, connection: PostgresConnection
    ) -> None:
        engine.execute(connection, "CREATE TABLE t (id int)", None, 30.0)
        engine.execute(connection, "VACUUM t", None, 7.0)
        engine.execute(connection, "CREATE INDEX CONCURRENTLY i ON t (id)", None, None)

    def test_the_setting_stays_when_the_statement_fails(
        self, engine: PostgresEngine, connection: PostgresConnection
    ) -> None:
        failure_of(lambda: engine.execute(connection, "SELECT 1/0", None, 5.0))
        assert session_timeout(engine, connection, 5.0) == "5s"

    def test_the_server_ends_the_statement(
        self, engine: PostgresEngine, connection: PostgresConnection
    ) -> None:
        failure = failure_of(lambda: engine.execute(connection, "SELECT pg_sleep(20)", None, 0.1))
        assert (failure.kind, failure.code) == (FailureKind.TIMED_OUT, "57014")
        assert not engine.is_broken(connection)

    def test_in_a_failed_transaction_the_rollback_goes_through(
        self, engine: PostgresEngine, connection: PostgresConnection
    ) -> None:
        engine.execute(connection, "BEGIN", None, 30.0)
        failure_of(lambda: engine.execute(connection, "SELECT 1/0", None, 30.0))
        engine.execute(connection, "ROLLBACK", None, 10.0)
        assert not engine.in_transaction(connection)


class TestPooler:
    def test_settings_in_transactions_only(
        self, pgbouncer_url: str, connect: Connect, postgresql: Server
    ) -> None:
        engine = create(settings_for(pgbouncer_url, pooler="transaction"))
        connection = connect(engine)
        before = session_timeout(engine, connection, 20.0)
        engine.execute(connection, "BEGIN", None, 20.0)
        assert session_timeout(engine, connection, 20.0) == "20s"
        engine.execute(connection, "ROLLBACK", None, 20.0)
        assert session_timeout(engine, connection, 20.0) == before == "0"

    def test_no_prepared_statement_is_left(self, pgbouncer_url: str, connect: Connect) -> None:
        engine = create(settings_for(pgbouncer_url, pooler="transaction"))
        connection = connect(engine)
        engine.execute(connection, "CREATE TABLE t (id int)")
        for start in range(0, 100, 10):
            rows = [[n] for n in range(start, start + 10)]
            assert engine.execute_many(connection, "INSERT INTO t VALUES (?)", rows) == 10
            assert scalar(engine, connection, "SELECT count(*) FROM pg_prepared_statements") == 0

    def test_a_read_only_connection_is_guarded(self, pgbouncer_url: str, connect: Connect) -> None:
        engine = create(settings_for(pgbouncer_url, pooler="transaction", read_only=True))
        connection = connect(engine)
        with engine.read_only(connection):
            failure = failure_of(lambda: engine.execute(connection, "CREATE TABLE t ()"))
        assert failure.kind is FailureKind.READ_ONLY


class TestStatements:
    @pytest.mark.parametrize("sql", ["SELECT 1; SELECT 2", "COMMIT; CREATE TABLE t ()", "BEGIN; SELECT 1"])
    def test_one_at_a_time(self, engine: PostgresEngine, connection: PostgresConnection, sql: str) -> None:
        for act in (
            lambda: engine.execute(connection, sql),
            lambda: engine.execute(connection, sql, None, 5.0),
            lambda: engine.execute_many(connection, sql, [()]),
            lambda: engine.stream(connection, sql).__enter__(),
        ):
            failure = failure_of(act)
            assert failure.message == "cannot insert multiple commands into a prepared statement"
            assert not engine.in_transaction(connection)

    @pytest.mark.parametrize("sql", ["COPY (SELECT 1) TO STDOUT", "COPY t FROM STDIN"])
    @pytest.mark.parametrize("timeout", [30.0, 5.0])
    def test_copy_with_the_client_fails_and_gives_the_connection_up(
        self, engine: PostgresEngine, connection: PostgresConnection, sql: str, timeout: float
    ) -> None:
        engine.execute(connection, "CREATE TABLE t (id int)", None, 30.0)
        failure = failure_of(lambda: engine.execute(connection, sql, None, timeout))
        assert failure.kind is FailureKind.REJECTED
        assert engine.is_broken(connection)

    def test_many_rows_are_applied_together_whatever_their_types(
        self, engine: PostgresEngine, connection: PostgresConnection
    ) -> None:
        engine.execute(connection, "CREATE TABLE many (place int PRIMARY KEY, value numeric, note text)")
        insert = "INSERT INTO many VALUES (?, ?, ?)"
        values = [1, 70_000, 2**40, 2**70, Decimal("1.5"), None]
        rows: list[Any] = [(n, values[n % 6], "x" * (n % 3) or None) for n in range(3_000)]

        # The last is there already: what went before it, in batches that were answered, is undone.
        failure = failure_of(lambda: engine.execute_many(connection, insert, [*rows, rows[0]]))
        assert (failure.kind, failure.code) == (FailureKind.REJECTED, "23505")
        assert scalar(engine, connection, "SELECT count(*) FROM many") == 0
        assert engine.needs_reset(connection)
        engine.reset(connection)
        assert scalar(engine, connection, "SELECT count(*) FROM pg_prepared_statements") == 0

        assert engine.execute_many(connection, insert, rows) == 3_000
        sql = "SELECT place, value, note FROM many ORDER BY place"
        assert engine.execute(connection, sql).rows == rows
        prepared = scalar(engine, connection, "SELECT count(*) FROM pg_prepared_statements")
        assert not engine.needs_reset(connection)

        engine.execute(connection, "DELETE FROM many")
        assert engine.execute_many(connection, insert, rows) == 3_000
        # Those of before are used again, and one that the server has lost is made anew.
        assert scalar(engine, connection, "SELECT count(*) FROM pg_prepared_statements") <= prepared + 1
        engine.execute(connection, "DELETE FROM many")
        connection.execute("DEALLOCATE ALL")
        assert engine.execute_many(connection, insert, rows) == 3_000
        assert engine.execute_many(connection, "SET work_mem = '8MB'", [()]) == -1

    def test_what_recurs_is_prepared(
        self, engine: PostgresEngine, connection: PostgresConnection, tmp_path: Path
    ) -> None:
        engine.execute(connection, "CREATE TABLE t AS SELECT 1 AS a", None, 30.0)

        def read() -> list[Any]:
            return engine.execute(connection, "SELECT *, ?::int FROM t", [7], 30.0).rows

        assert [read() for _ in range(6)] == [[(1, 7)]] * 6
        assert "\tParse\t" not in traced(connection, tmp_path, read)
        engine.execute(connection, "ALTER TABLE t ADD b int DEFAULT 2", None, 30.0)
        assert read() == [(1, 2, 7)]
        assert [read() for _ in range(6)] == [[(1, 2, 7)]] * 6
        engine.execute(connection, "DEALLOCATE ALL", None, 30.0)
        assert read() == [(1, 2, 7)]

    def test_a_table_that_changed_within_a_transaction_is_the_callers_to_repeat(
        self, engine: PostgresEngine, connection: PostgresConnection
    ) -> None:
        engine.execute(connection, "CREATE TABLE t AS SELECT 1 AS a", None, 30.0)
        for _ in range(6):
            engine.execute(connection, "SELECT * FROM t", None, 30.0)
        engine.execute(connection, "BEGIN", None, 30.0)
        engine.execute(connection, "ALTER TABLE t ADD b int", None, 30.0)
        failure = failure_of(lambda: engine.execute(connection, "SELECT * FROM t", None, 30.0))
        assert failure.message == "cached plan must not change result type"
        engine.execute(connection, "ROLLBACK", None, 30.0)
        assert engine.execute(connection, "SELECT * FROM t", None, 30.0).rows == [(1,)]

    def test_prepared_statements_do_not_pile_up(
        self, engine: PostgresEngine, connection: PostgresConnection
    ) -> None:
        for number in range(120):
            for _ in range(5):
                assert scalar(engine, connection, f"SELECT {number}") == number
        assert scalar(engine, connection, "SELECT count(*) FROM pg_prepared_statements") == 100
        assert scalar(engine, connection, "SELECT 0") == 0

    def test_the_count_of_a_stream(self, engine: PostgresEngine, connection: PostgresConnection) -> None:
        with engine.stream(connection, "SELECT generate_series(1, 2500)") as rows:
            assert sum(map(len, rows)) == 2500
            assert rows.affected == 2500
        engine.execute(connection, "CREATE TABLE t (id int)")
        with engine.stream(connection, "INSERT INTO t SELECT generate_series(1, 7)") as rows:
            assert (rows.columns, list(rows), rows.affected) == ((), [], 7)

    def test_a_stream_that_fails_on_the_way(
        self, engine: PostgresEngine, connection: PostgresConnection
    ) -> None:
        seen = 0

        def read() -> None:
            nonlocal seen
            with engine.stream(connection, "SELECT 1 / (5000 - g) FROM generate_series(1, 6000) g") as rows:
                for batch in rows:
                    seen += len(batch)

        assert failure_of(read).message == "division by zero"
        assert 0 < seen < 5000
        assert scalar(engine, connection, "SELECT 1") == 1

    def test_a_stream_left_early_is_ended_on_the_server(
        self, engine: PostgresEngine, connection: PostgresConnection, connect: Connect
    ) -> None:
        with engine.stream(connection, "SELECT generate_series(1, 1000000000)") as rows:
            next(iter(rows))
        assert not engine.is_broken(connection)
        active = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND pid = $1"
        assert scalar(engine, connect(engine), active, connection.pgconn.backend_pid) == 0


class TestFailures:
    @pytest.mark.parametrize(
        ("sql", "kind", "code"),
        [
            ("SELEC", FailureKind.REJECTED, "42601"),
            ("SELECT nope", FailureKind.REJECTED, "42703"),
            ("SELECT 1/0", FailureKind.REJECTED, "22012"),
            ("SELECT lo_get(1)", FailureKind.REJECTED, "42704"),
        ],
    )
    def test_of_statements(
        self, engine: PostgresEngine, connection: PostgresConnection, sql: str, kind: FailureKind, code: str
    ) -> None:
        failure = failure_of(lambda: engine.execute(connection, sql))
        assert (failure.kind, failure.code) == (kind, code)
        assert "\n" not in failure.message

    @pytest.mark.parametrize(
        ("code", "kind"),
        [
            ("40001", FailureKind.ROLLED_BACK),
            ("40P01", FailureKind.DEADLOCK),
            ("40003", FailureKind.UNKNOWN_OUTCOME),
            ("08007", FailureKind.UNKNOWN_OUTCOME),
            # Of severity ERROR, as RAISE makes them: the session goes on, so they are about another server.
            ("08006", FailureKind.REJECTED),
            ("57P01", FailureKind.REJECTED),
            ("57P03", FailureKind.REJECTED),
            ("53300", FailureKind.OVERLOADED),
            ("53100", FailureKind.REJECTED),
            ("23505", FailureKind.REJECTED),
            ("55P03", FailureKind.BUSY),
            ("57014", FailureKind.TIMED_OUT),
            ("25006", FailureKind.READ_ONLY),
            ("28P01", FailureKind.AUTHENTICATION),
            ("3D000", FailureKind.CONFIGURATION),
            ("XX000", FailureKind.REJECTED),
        ],
    )
    def test_by_the_servers_code(
        self, engine: PostgresEngine, connection: PostgresConnection, code: str, kind: FailureKind
    ) -> None:
        sql = f"DO $do$ BEGIN RAISE EXCEPTION 'on purpose' USING ERRCODE = '{code}'; END $do$"
        failure = failure_of(lambda: engine.execute(connection, sql))
        violation = Violation("unique") if code == "23505" else None
        assert failure == Failure(kind, "on purpose", code, ServerWords(sqlstate=code), violation)

    def test_a_lock_that_is_not_granted(
        self, engine: PostgresEngine, connection: PostgresConnection, connect: Connect
    ) -> None:
        other = connect(engine)
        engine.execute(other, "CREATE TABLE t (id int)")
        engine.execute(other, "BEGIN")
        engine.execute(other, "LOCK TABLE t")
        engine.execute(connection, "SET lock_timeout = '50ms'")
        assert failure_of(lambda: engine.execute(connection, "SELECT * FROM t")).kind is FailureKind.BUSY

    @pytest.mark.parametrize(
        ("text", "kind", "code"),
        [
            ("FATAL:  the database system is starting up", FailureKind.UNREACHABLE, "57P03"),
            (
                "FATAL:  the database system is not yet accepting connections",
                FailureKind.UNREACHABLE,
                "57P03",
            ),
            ("FATAL:  sorry, too many clients already", FailureKind.OVERLOADED, "53300"),
            (
                "FATAL:  remaining connection slots are reserved for roles with the SUPERUSER attribute",
                FailureKind.OVERLOADED,
                "53300",
            ),
            ('FATAL:  Peer authentication failed for user "x"', FailureKind.AUTHENTICATION, "28000"),
            ('FATAL:  permission denied for database "x"', FailureKind.AUTHENTICATION, "42501"),
            ("could not receive data from server: Connection reset by peer", FailureKind.UNREACHABLE, None),
        ],
    )
    def test_by_words_while_connecting(self, text: str, kind: FailureKind, code: str | None) -> None:
        seen = connect_failure(f'connection to server at "10.0.0.1", port 5432 failed: {text}\n')
        assert (seen.kind, seen.code) == (kind, code)
        assert "10.0.0.1" not in seen.message
        assert "FATAL" not in seen.message

    def test_a_refused_password_in_another_language(self) -> None:
        text = "FATAL:  Passwort-Authentifizierung für Benutzer »app« fehlgeschlagen"
        assert connect_failure(text, password_was_sent=True).kind is FailureKind.AUTHENTICATION

    @pytest.mark.parametrize(
        "text",
        [
            "server closed the connection unexpectedly",
            "could not receive data from server: Connection reset by peer",
            "could not send data to server: Broken pipe",
            "SSL connection has been closed unexpectedly",
            "SSL SYSCALL error: EOF detected",
            "FATAL:  terminating connection due to unexpected postmaster exit",
            "FATAL:  terminating connection because of crash of another server process",
            "FATAL:  terminating connection due to administrator command",
            "FATAL:  canceling authentication due to timeout",
            "could not fork new process for connection: Resource temporarily unavailable",
            "FATAL:  out of memory",
        ],
    )
    def test_a_server_that_dies_during_the_login_refused_nobody(self, text: str) -> None:
        assert connect_failure(text, password_was_sent=True).kind is FailureKind.UNREACHABLE

    def test_psycopgs_own_connect_errors(self, closed_port: int) -> None:
        failure = failure_of(lambda: psycopg.connect(host="127.0.0.1", port=closed_port, connect_timeout=2))
        assert failure.kind is FailureKind.UNREACHABLE

    def test_errors_of_others(self) -> None:
        assert classify(ValueError("x")) == Failure(FailureKind.UNKNOWN, "x")


@contextmanager
def interrupted_once_sent() -> Iterator[None]:
    """Raises KeyboardInterrupt where the first statement of the block has been given to libpq."""

    def profile(frame: FrameType, event: str, _: object) -> None:
        if event == "return" and frame.f_code.co_qualname == "_SentStatement.send":
            sys.setprofile(None)
            raise KeyboardInterrupt

    sys.setprofile(profile)
    try:
        yield
    finally:
        sys.setprofile(None)


@contextmanager
def once_it_sleeps(
    engine: PostgresEngine, watcher: PostgresConnection, pid: int, act: Callable[[], object]
) -> Iterator[None]:
    """Acts in another thread as soon as the server runs pg_sleep in the session `pid`."""
    sleeping = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND pid = $1"

    def watch() -> None:
        until(lambda: scalar(engine, watcher, sleeping, pid) == 1)
        act()

    thread = threading.Thread(target=watch)
    thread.start()
    yield
    thread.join()


class TestBrokenWires:
    def test_a_session_that_the_server_ended_is_noticed_before_anything_is_sent(
        self, engine: PostgresEngine, connection: PostgresConnection, connect: Connect
    ) -> None:
        killer = connect(engine)
        scalar(engine, killer, "SELECT pg_terminate_backend($1, 5000)", connection.pgconn.backend_pid)
        failure = failure_of(lambda: engine.execute(connection, "CREATE TABLE t ()"))
        assert failure.kind is FailureKind.UNREACHABLE
        assert engine.is_broken(connection)

    def test_a_session_that_the_server_ends_during_a_statement_is_lost(
        self, engine: PostgresEngine, connection: PostgresConnection, connect: Connect
    ) -> None:
        killer = connect(engine)
        pid = connection.pgconn.backend_pid
        end = "SELECT pg_terminate_backend($1)"
        with once_it_sleeps(engine, killer, pid, lambda: scalar(engine, killer, end, pid)):
            failure = failure_of(lambda: engine.execute(connection, "SELECT pg_sleep(600)"))
        assert (failure.kind, failure.code) == (FailureKind.LOST, "57P01")
        assert engine.is_broken(connection)

    @pytest.mark.parametrize("timeout", [30.0, 5.0])
    def test_a_write_that_was_sent_and_not_answered_is_lost(
        self, postgresql_url: str, proxy: MakeProxy, connect: Connect, timeout: float
    ) -> None:
        gate = proxy(postgresql_url)
        engine = create(settings_for(gate.url))
        connection = connect(engine)
        gate.cut_after(b"CREATE TABLE", forward=True)
        failure = failure_of(lambda: engine.execute(connection, "CREATE TABLE t ()", None, timeout))
        assert failure.kind is FailureKind.LOST
        assert engine.is_broken(connection)
        direct = create(settings_for(postgresql_url))
        witness = connect(direct)
        until(lambda: scalar(direct, witness, "SELECT count(*) FROM pg_class WHERE relname = 't'") == 1)

    def test_a_server_that_is_frozen_is_left_by_interrupt(
        self, throwaway: Throwaway, proxy: MakeProxy, connect: Connect
    ) -> None:
        server = throwaway("postgresql")
        gate, sent = proxy(server), threading.Event()
        engine = create(settings_for(gate.url))
        connection = connect(engine)
        gate.on_client_bytes(lambda _: sent.set())
        server.stop_signal()

        def interrupt() -> None:
            sent.wait()
            engine.interrupt(connection)

        thread = threading.Thread(target=interrupt)
        thread.start()
        failure = failure_of(lambda: engine.ping(connection, 1000.0))
        thread.join()
        assert failure.kind is FailureKind.LOST
        engine.close(connection)
        server.resume()

    @pytest.mark.parametrize("timeout", [1000.0, 500.0])
    def test_ctrl_c_leaves_no_query_on_the_server(
        self, engine: PostgresEngine, connection: PostgresConnection, connect: Connect, timeout: float
    ) -> None:
        pid = connection.pgconn.backend_pid
        watcher = connect(engine)
        interrupt = partial(os.kill, os.getpid(), signal.SIGINT)
        with once_it_sleeps(engine, watcher, pid, interrupt), pytest.raises(KeyboardInterrupt):
            engine.execute(connection, "SELECT pg_sleep(600)", None, timeout)
        active = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND pid = $1"
        assert scalar(engine, watcher, active, pid) == 0

    def test_ctrl_c_in_a_stream_leaves_no_query_on_the_server(
        self, engine: PostgresEngine, connection: PostgresConnection, connect: Connect
    ) -> None:
        with (
            pytest.raises(KeyboardInterrupt),
            engine.stream(connection, "SELECT generate_series(1, 1000000000)"),
        ):
            raise KeyboardInterrupt
        active = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND pid = $1"
        assert scalar(engine, connect(engine), active, connection.pgconn.backend_pid) == 0

    @pytest.mark.parametrize(
        "run", [PostgresEngine.execute, lambda *given: PostgresEngine.stream(*given).__enter__()]
    )
    def test_ctrl_c_between_sending_and_waiting_leaves_the_transaction_usable(
        self, engine: PostgresEngine, connection: PostgresConnection, run: Callable[..., object]
    ) -> None:
        engine.execute(connection, "BEGIN")
        with interrupted_once_sent(), pytest.raises(KeyboardInterrupt):
            run(engine, connection, "SELECT pg_sleep(600)")
        assert engine.transaction_failed(connection)
        engine.undo(connection)
        assert scalar(engine, connection, "SELECT 1") == 1

    def test_cancel_says_nothing_when_there_is_nothing(
        self, engine: PostgresEngine, connection: PostgresConnection
    ) -> None:
        engine.cancel(connection, 1.0)
        assert scalar(engine, connection, "SELECT 1") == 1
        engine.close(connection)
        engine.cancel(connection, 1.0)
        engine.interrupt(connection)
        engine.close(connection)
