import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import pymysql
import pytest
from pymysql.constants import FIELD_TYPE

from katax_cli.core.resilience.failure import FailureKind
from katax_cli.core.settings import Secret, TlsSettings
from katax_cli.engines.base import Introspects, ReadOnlyGuard, ReportsServer, SqlEngine
from katax_cli.engines.mysql import create
from katax_cli.engines.mysql.engine import MysqlEngine
from katax_cli.engines.mysql.session import MysqlSession, rounded_up_ms
from katax_cli.errors import ConfigError, Refused
from tests.engines.connections import settings_for
from tests.servers.certificates import Certificates, make_certificates
from tests.servers.fixtures import MakeProxy, Throwaway
from tests.servers.server import Server
from tests.waiting import at_last, until

Connect = Callable[[MysqlEngine], MysqlSession]


@pytest.fixture
def engine(mysql_url: str) -> MysqlEngine:
    return create(settings_for(mysql_url))


@pytest.fixture
def session(engine: MysqlEngine, connect: Connect) -> MysqlSession:
    return connect(engine)


@pytest.fixture
def table(engine: MysqlEngine, session: MysqlSession) -> str:
    engine.execute(session, "CREATE TABLE t (id INT PRIMARY KEY, a VARCHAR(40))")
    engine.execute(session, "INSERT INTO t VALUES (1, 'one')")
    return "t"


def failure_of(engine: MysqlEngine, act: Callable[[], object]) -> tuple[FailureKind, str, str | None]:
    with pytest.raises(pymysql.Error) as caught:
        act()
    failure = engine.classify(caught.value)
    return failure.kind, failure.message, failure.code


def connecting(url: str | Server, **changes: Any) -> tuple[FailureKind, str, str | None]:
    engine = create(settings_for(url, **changes))
    return failure_of(engine, lambda: engine.close(engine.connect(60.0)))


def statements(engine: MysqlEngine, session: MysqlSession) -> list[str]:
    """What other sessions of the same database run now."""
    sql = "SELECT info FROM information_schema.processlist WHERE db = DATABASE() AND id <> CONNECTION_ID()"
    return [info for (info,) in engine.execute(session, sql).rows if info]


@contextlib.contextmanager
def once_it_runs(
    engine: MysqlEngine, watcher: MysqlSession, words: str, act: Callable[[], object]
) -> Iterator[None]:
    """Acts in another thread as soon as the server runs a statement with these words in another session."""

    def watch() -> None:
        until(lambda: any(words in statement for statement in statements(engine, watcher)))
        act()

    thread = threading.Thread(target=watch)
    thread.start()
    yield
    thread.join()


def test_has_every_ability_of_sql(engine: MysqlEngine) -> None:
    for ability in (SqlEngine, ReadOnlyGuard, Introspects, ReportsServer):
        assert isinstance(engine, ability)


class TestConnect:
    def test_the_session(self, engine: MysqlEngine, session: MysqlSession) -> None:
        sql = "SELECT @@autocommit, @@character_set_connection, @@character_set_results"
        assert engine.execute(session, sql).rows == [(1, "utf8mb4", "utf8mb4")]

    def test_no_second_statement_and_no_file_of_ours_is_ever_sent(
        self, engine: MysqlEngine, session: MysqlSession, table: str, tmp_path: Path
    ) -> None:
        (tmp_path / "secret.csv").write_text("9,secret")
        load = f"LOAD DATA LOCAL INFILE '{tmp_path}/secret.csv' INTO TABLE t FIELDS TERMINATED BY ','"
        assert failure_of(engine, lambda: engine.execute(session, load))[0] is FailureKind.REJECTED
        two = "SELECT 1; INSERT INTO t VALUES (2, 'two')"
        assert failure_of(engine, lambda: engine.execute(session, two))[2] == "1064"
        assert engine.execute(session, "SELECT count(*) FROM t").rows == [(1,)]

    def test_a_password_beyond_latin_1(
        self, mysql_url: str, engine: MysqlEngine, session: MysqlSession
    ) -> None:
        engine.execute(session, "CREATE USER wide IDENTIFIED BY 'пароль'")
        try:
            other = create(settings_for(mysql_url, user="wide", password=Secret.of("пароль"), database=""))
            other.close(other.connect(60.0))
        finally:
            engine.execute(session, "DROP USER wide")

    def test_a_wrong_password_is_one_attempt(self, mysql_url: str, proxy: MakeProxy) -> None:
        wire = proxy(mysql_url)
        kind, message, code = connecting(wire.url, password=Secret.of("wr0ng-secret"))
        assert (kind, code) == (FailureKind.AUTHENTICATION, "1045")
        assert message.startswith("Access denied for user 'katax'@")
        assert "wr0ng-secret" not in message
        assert wire.connections == 1

    def test_an_unknown_database(self, mysql: Server) -> None:
        kind, message, code = connecting(mysql.database_url("nowhere"))
        assert (kind, code) == (FailureKind.CONFIGURATION, "1049")
        assert message == "Unknown database 'nowhere'"

    def test_nobody_listens(self, mysql_url: str, closed_port: int) -> None:
        kind, message, _ = connecting(mysql_url, port=closed_port)
        assert kind is FailureKind.UNREACHABLE
        assert "Connection refused" in message

    def test_nobody_answers(self, mysql_url: str, deaf_port: int) -> None:
        engine = create(settings_for(mysql_url, port=deaf_port))
        kind, message, _ = failure_of(engine, lambda: engine.connect(0.3))
        assert kind is FailureKind.UNREACHABLE
        assert "timed out" in message

    def test_no_socket_there(self, mysql_url: str, tmp_path: Path) -> None:
        path = tmp_path / "no.sock"
        kind, message, _ = connecting(mysql_url, socket=str(path))
        assert kind is FailureKind.UNREACHABLE
        assert message == f"no server at {path} ([Errno 2] No such file or directory)"

    def test_through_a_socket(self, throwaway: Throwaway) -> None:
        server = throwaway("mysql")
        engine = create(settings_for(server, socket=str(server.socket), host=None, port=None))
        session = engine.connect(60.0)
        assert engine.execute(session, "SELECT 1").rows == [(1,)]
        engine.close(session)

    def test_options_of_the_url(self, mysql_url: str, connect: Connect) -> None:
        engine = create(settings_for(mysql_url, options={"init_command": "SET @given = 7"}))
        assert engine.execute(connect(engine), "SELECT @given").rows == [(7,)]

    def test_an_unknown_option_of_the_url(self, mysql_url: str) -> None:
        with pytest.raises(ConfigError) as caught:
            create(settings_for(mysql_url, options={"charest": "x"})).connect(1.0)
        assert str(caught.value) == (
            "'main': unknown option 'charest' in the url; "
            "known options: bind_address, collation, init_command, sql_mode"
        )

    def test_too_many_connections(
        self, mysql_url: str, engine: MysqlEngine, session: MysqlSession, connect: Connect
    ) -> None:
        engine.execute(session, "CREATE USER single WITH MAX_USER_CONNECTIONS 1")
        alone = create(settings_for(mysql_url, user="single", password=None, database=""))
        try:
            connect(alone)
            kind, _, code = failure_of(alone, lambda: alone.connect(60.0))
        finally:
            engine.execute(session, "DROP USER single")
        assert (kind, code) == (FailureKind.OVERLOADED, "1226")


class TestTls:
    def test_modes(self, tls_mysql: Server, certificates: Certificates) -> None:
        for tls in (
            TlsSettings("require"),
            TlsSettings("verify-ca", ca=str(certificates.ca)),
            TlsSettings("verify-full", ca=str(certificates.ca)),
            None,
        ):
            engine = create(settings_for(tls_mysql, tls=tls))
            session = engine.connect(60.0)
            [(name, cipher)] = engine.execute(session, "SHOW STATUS LIKE 'Ssl_cipher'").rows
            engine.close(session)
            assert name == "Ssl_cipher"
            assert cipher

    def test_an_unknown_authority(self, tls_mysql: Server, tmp_path: Path) -> None:
        other = make_certificates(tmp_path / "other")
        kind, message, _ = connecting(tls_mysql, tls=TlsSettings("verify-ca", ca=str(other.ca)))
        assert kind is FailureKind.CONFIGURATION
        assert "certificate verify failed" in message

    def test_the_name_counts_only_in_verify_full(self, throwaway: Throwaway, tmp_path: Path) -> None:
        elsewhere = make_certificates(tmp_path / "elsewhere", hosts=("db.example.com",))
        server = throwaway("mysql", certificates=elsewhere)
        engine = create(settings_for(server, tls=TlsSettings("verify-ca", ca=str(elsewhere.ca))))
        engine.close(engine.connect(60.0))
        kind, message, _ = connecting(server, tls=TlsSettings("verify-full", ca=str(elsewhere.ca)))
        assert kind is FailureKind.CONFIGURATION
        assert "Hostname mismatch" in message

    def test_a_client_certificate(self, throwaway: Throwaway, certificates: Certificates) -> None:
        server = throwaway("mysql", certificates=certificates, client_certificate=True)
        tls = TlsSettings(
            "verify-full",
            ca=str(certificates.ca),
            cert=str(certificates.client_cert),
            key=str(certificates.client_key),
        )
        engine = create(settings_for(server, tls=tls))
        engine.close(engine.connect(60.0))
        assert connecting(server, tls=TlsSettings("require"))[0] is FailureKind.AUTHENTICATION

    def test_reading_the_authorities_is_not_repeated_and_a_replaced_file_is_noticed(
        self, tls_mysql: Server, connect: Connect, certificates: Certificates, tmp_path: Path
    ) -> None:
        """Reading those of the system takes fifty times as long as a login."""
        careless = create(settings_for(tls_mysql, tls=None))
        one, two = connect(careless), connect(careless)
        assert one.ctx is two.ctx
        assert one.ctx.cert_store_stats()["x509"] == 0

        authority = tmp_path / "authority.pem"
        authority.write_bytes(certificates.ca.read_bytes())
        strict = create(settings_for(tls_mysql, tls=TlsSettings("verify-full", ca=str(authority))))
        assert connect(strict).ctx is connect(strict).ctx
        authority.write_bytes(make_certificates(tmp_path / "other").ca.read_bytes())
        assert failure_of(strict, lambda: strict.connect(60.0))[0] is FailureKind.CONFIGURATION

    def test_a_server_that_insists(self, tls_mysql: Server) -> None:
        kind, _, code = connecting(tls_mysql, tls=TlsSettings("disable"))
        # MariaDB gives no other reason than for a wrong password.
        assert (kind, code) in ((FailureKind.CONFIGURATION, "3159"), (FailureKind.AUTHENTICATION, "1045"))

    def test_a_server_without(self, mysql_url: str, engine: MysqlEngine, session: MysqlSession) -> None:
        [(_, has)] = engine.execute(session, "SHOW VARIABLES LIKE 'have_ssl'").rows
        if has == "YES":  # MySQL 8 makes certificates for itself
            return
        kind, message, _ = connecting(mysql_url, tls=TlsSettings("require"))
        assert kind is FailureKind.CONFIGURATION
        assert message == "SSL is required but the server doesn't support it"

    def test_missing_files_are_the_profiles_fault(self, mysql_url: str) -> None:
        engine = create(settings_for(mysql_url, tls=TlsSettings("verify-ca", ca="/nowhere/ca.pem")))
        with pytest.raises(ConfigError) as caught:
            engine.connect(1.0)
        assert str(caught.value) == (
            "'main': tls files cannot be used: [Errno 2] No such file or directory: '/nowhere/ca.pem'; "
            "check their paths"
        )


VALUES = {
    "CAST('0000-00-00' AS DATE)": "0000-00-00",
    "CAST('0000-00-00 00:00:00' AS DATETIME)": "0000-00-00 00:00:00",
    "CAST('2024-02-03' AS DATE)": date(2024, 2, 3),
    "CAST('2024-02-03 04:05:06.000007' AS DATETIME(6))": datetime(2024, 2, 3, 4, 5, 6, 7),
    "CAST('-300:00:01' AS TIME)": -timedelta(hours=300, seconds=1),
    "CAST(12345678901234567890.123456789 AS DECIMAL(40, 9))": Decimal("12345678901234567890.123456789"),
    "18446744073709551615": 2**64 - 1,
    "'žluťoučký 🐎'": "žluťoučký 🐎",
    "x'00ff27'": b"\x00\xff'",
    "NULL": None,
}


class TestValues:
    @pytest.mark.parametrize(("sql", "value"), VALUES.items())
    def test_out(self, engine: MysqlEngine, session: MysqlSession, sql: str, value: object) -> None:
        assert engine.execute(session, f"SELECT {sql}").rows == [(value,)]

    @pytest.mark.parametrize(
        "value", ["it's 100% \\ 🐎\0", b"\x00\xff'\\", Decimal("-0.10"), None, True, 1.5]
    )
    def test_in(self, engine: MysqlEngine, session: MysqlSession, value: object) -> None:
        assert engine.execute(session, "SELECT ?", [value]).rows == [(value,)]

    @pytest.mark.parametrize(
        ("value", "kind"),
        [
            (datetime(2024, 2, 3, 4, 5, tzinfo=timezone(timedelta(hours=2))), "datetime"),
            (time(4, 5, tzinfo=UTC), "time"),
        ],
    )
    def test_a_time_zone_is_refused_because_it_would_be_lost(
        self, engine: MysqlEngine, session: MysqlSession, value: object, kind: str
    ) -> None:
        with pytest.raises(ValueError) as error:
            engine.execute(session, "SELECT ?", [value])
        assert str(error.value) == (
            f"a {kind} with a time zone was given, and MySQL keeps none; "
            "give it without one, in the session's time zone"
        )
        naive = datetime(2024, 2, 3, 4, 5, 6, 7)
        assert engine.execute(session, "SELECT CAST(? AS DATETIME(6))", [naive]).rows == [(naive,)]

    def test_columns(self, engine: MysqlEngine, session: MysqlSession) -> None:
        engine.execute(session, "CREATE TABLE v (bits BIT(10), doc JSON, raw BLOB, kind ENUM('a', 'b'))")
        engine.execute(session, """INSERT INTO v VALUES (b'1000000001', '{"a": [1]}', x'ff', 'b')""")
        row = (513, '{"a": [1]}', b"\xff", "b")
        assert engine.execute(session, "SELECT * FROM v").rows == [row]
        with engine.stream(session, "SELECT * FROM v", text=True) as stream:
            assert list(stream) == [[("513", '{"a": [1]}', b"\xff", "b")]]

    def test_text_as_the_server_writes_it(self, engine: MysqlEngine, session: MysqlSession) -> None:
        sql = "SELECT 1.10, 7, 1e300, CAST('100:00:00' AS TIME), CAST('2024-02-03' AS DATE), 'ž', NULL, x'ff'"
        with engine.stream(session, sql, text=True) as stream:
            [[row]] = list(stream)
        assert row == ("1.10", "7", "1e300", "100:00:00", "2024-02-03", "ž", None, b"\xff")
        assert engine.execute(session, "SELECT 7").rows == [(7,)]

    def test_affected_rows_are_changed_rows(
        self, engine: MysqlEngine, session: MysqlSession, table: str
    ) -> None:
        assert engine.execute(session, "UPDATE t SET a = 'one'").affected == 0
        assert engine.execute(session, "UPDATE t SET a = 'two'").affected == 1


class TestRowsOnTheWire:
    """Where a row's length, a value's length and the read buffer's end fall."""

    # Length bytes change at 251, 2^16 and 2^24, packets at 2^24 - 1; the buffer holds 8 KiB.
    LENGTHS = (0, 1, 249, 250, 251, 252, 8000, 8185, 8190, 8192, 65_535, 65_536, 2**24 - 9, 2**24 - 1, 2**24)

    @pytest.mark.parametrize("length", LENGTHS)
    def test_a_value_of_any_length(self, engine: MysqlEngine, session: MysqlSession, length: int) -> None:
        sql = "SELECT repeat('x', ?), NULL, 'end' UNION ALL SELECT NULL, repeat('y', ?), ''"
        rows = [("x" * length, None, "end"), (None, "y" * length, "")]
        assert engine.execute(session, sql, [length, length]).rows == rows
        assert engine.execute(session, "SELECT 1").rows == [(1,)]

    def test_rows_across_the_ends_of_buffers(self, engine: MysqlEngine, session: MysqlSession) -> None:
        numbers = list(range(1, 3000))
        engine.execute(session, "CREATE TABLE n (n INT)")
        engine.execute_many(session, "INSERT INTO n VALUES (?)", [[n] for n in numbers])
        found = engine.execute(session, "SELECT n, repeat('é', n % 97), n * 0.5 FROM n ORDER BY n").rows
        assert found == [(n, "é" * (n % 97), Decimal(n) / 2) for n in numbers]

    def test_results_of_a_procedure(self, engine: MysqlEngine, session: MysqlSession) -> None:
        body = "BEGIN SELECT 1 AS a; SELECT 2 AS b UNION SELECT 3; DO 1; END"
        engine.execute(session, f"CREATE PROCEDURE twice() {body}")
        first = engine.execute(session, "CALL twice()")
        assert (first.columns, first.rows) == (("a",), [(1,)])
        with engine.stream(session, "CALL twice()") as stream:
            assert list(stream) == [[(1,)]]
        assert engine.execute(session, "SELECT 4").rows == [(4,)]

    def test_a_procedure_that_fails_behind_its_first_result_has_failed(
        self, engine: MysqlEngine, session: MysqlSession
    ) -> None:
        engine.execute(session, "CREATE PROCEDURE fails() BEGIN SELECT 1; SELECT * FROM nothing; END")

        def consume() -> None:
            with engine.stream(session, "CALL fails()") as stream:
                assert list(stream) == [[(1,)]]

        assert failure_of(engine, lambda: engine.execute(session, "CALL fails()"))[2] == "1146"
        assert failure_of(engine, consume)[2] == "1146"
        assert engine.execute(session, "SELECT 4").rows == [(4,)]

    def test_ctrl_c_in_the_middle_leaves_no_answer_for_the_next(
        self, engine: MysqlEngine, session: MysqlSession
    ) -> None:
        engine.execute(session, "CREATE TABLE bits (b BIT(8))")
        engine.execute_many(session, "INSERT INTO bits VALUES (?)", [[1]] * 5000)

        def interrupted(value: str | bytes) -> int:
            raise KeyboardInterrupt

        session.decoders = {**session.decoders, FIELD_TYPE.BIT: interrupted}
        with pytest.raises(KeyboardInterrupt):
            engine.execute(session, "SELECT b FROM bits")
        assert engine.is_broken(session)


def ended_by_the_server(
    engine: MysqlEngine, connect: Connect, sql: str
) -> tuple[MysqlSession, FailureKind, str | None]:
    """Where the server stands still for longer than the client's grace, the client is first: then it begins anew."""
    while True:
        session = connect(engine)
        kind, _, code = failure_of(engine, partial(engine.execute, session, sql, timeout=0.3))
        if kind is not FailureKind.LOST:
            return session, kind, code
        with contextlib.suppress(pymysql.Error):
            engine.execute(connect(engine), f"KILL {session.server_thread_id[0]}")


class TestTimeout:
    def test_the_server_ends_a_read(self, engine: MysqlEngine, connect: Connect) -> None:
        sleep = (
            "SELECT count(*) FROM information_schema.columns a, information_schema.columns b WHERE sleep(60)"
        )
        session, kind, code = ended_by_the_server(engine, connect, sleep)
        assert kind is FailureKind.TIMED_OUT
        assert code in ("1969", "3024")
        assert engine.execute(session, "SELECT 1").rows == [(1,)]

    def test_mariadb_ends_a_write_too(
        self, engine: MysqlEngine, session: MysqlSession, table: str, connect: Connect
    ) -> None:
        if not session.is_mariadb:
            return
        session, _, code = ended_by_the_server(engine, connect, "UPDATE t SET a = sleep(60)")
        assert code == "1969"
        assert engine.execute(session, "SELECT a FROM t").rows == [("one",)]

    def test_a_shorter_limit_of_the_user_stands(self, engine: MysqlEngine, session: MysqlSession) -> None:
        limit = "max_statement_time = 0.2" if session.is_mariadb else "max_execution_time = 200"
        endless = (
            "SELECT count(*) FROM information_schema.columns a, information_schema.columns b WHERE sleep(60)"
        )
        engine.execute(session, f"SET SESSION {limit}")
        for timeout in (30.0, None):
            kind, _, _ = failure_of(engine, partial(engine.execute, session, endless, timeout=timeout))
            assert kind is FailureKind.TIMED_OUT
        engine.reset(session)
        assert engine.execute(session, "SELECT sleep(0.3)", timeout=30.0).rows == [(0,)]

    def test_a_limit_is_not_left_behind(self, engine: MysqlEngine, connect: Connect) -> None:
        def limited() -> MysqlSession:
            """Each time on another session: where the client is first, the connection is lost."""
            session = connect(engine)
            engine.execute(session, "SELECT 1", timeout=0.05)
            return session

        assert engine.execute(at_last(limited), "SELECT sleep(0.3)").rows == [(0,)]

    def test_a_limit_costs_no_round_trip_of_its_own(
        self, engine: MysqlEngine, session: MysqlSession, proxy: MakeProxy, mysql_url: str, connect: Connect
    ) -> None:
        seen: list[bytes] = []
        wire = proxy(mysql_url)
        other = connect(create(settings_for(wire.url)))
        wire.on_client_bytes(seen.append)
        for timeout in (5.0, 4.5):
            engine.execute(other, "SELECT 1", timeout=timeout)
        expected = {
            True: [
                (b"SET STATEMENT max_statement_time=IF(", b" 5.000000) FOR SELECT 1"),
                (b"SET STATEMENT", b" 4.500000) FOR SELECT 1"),
            ],
            False: [
                (b"SELECT @@SESSION.max", b""),
                (b"SET SESSION max", b"=8192"),
                (b"SELECT 1", b""),
                (b"SELECT 1", b""),
            ],
        }[session.is_mariadb]
        assert len(seen) == len(expected)
        for chunk, (start, end) in zip(seen, expected, strict=True):
            assert chunk[5:].startswith(start)
            assert chunk.endswith(end)

    @pytest.mark.parametrize(
        ("seconds", "limit"), [(None, 0), (0.0, 1), (0.3, 512), (4.096, 4096), (30.0, 32768)]
    )
    def test_mysqls_limit_changes_seldom_and_is_never_too_short(
        self, seconds: float | None, limit: int
    ) -> None:
        assert rounded_up_ms(seconds) == limit

    def test_a_server_that_falls_silent(
        self, mysql_url: str, engine: MysqlEngine, proxy: MakeProxy, connect: Connect
    ) -> None:
        wire = proxy(mysql_url)
        session = connect(create(settings_for(wire.url)))
        wire.stall()
        kind, message, _ = failure_of(engine, lambda: engine.execute(session, "SELECT 1", timeout=0.2))
        assert (kind, "timed out" in message) == (FailureKind.LOST, True)
        assert engine.is_broken(session)
        wire.resume()

    def test_cancel_ends_a_write(
        self, engine: MysqlEngine, session: MysqlSession, table: str, connect: Connect
    ) -> None:
        watcher = connect(engine)
        write = "UPDATE t SET a = sleep(600)"
        with once_it_runs(engine, watcher, write, lambda: engine.cancel(session, 60.0)):
            assert failure_of(engine, lambda: engine.execute(session, write))[2] == "1317"
        assert engine.execute(session, "SELECT a FROM t").rows == [("one",)]
        until(lambda: statements(engine, watcher) == [])

    def test_cancel_never_raises(self, mysql_url: str, session: MysqlSession, closed_port: int) -> None:
        create(settings_for(mysql_url, port=closed_port)).cancel(session, 1.0)

    @pytest.mark.parametrize("tls", [False, True])
    def test_interrupt_returns_at_once(
        self, request: pytest.FixtureRequest, connect: Connect, tls: bool
    ) -> None:
        server: Server = request.getfixturevalue("tls_mysql" if tls else "mysql")
        engine = create(settings_for(server, tls=TlsSettings("require") if tls else None))
        session, watcher = connect(engine), connect(engine)
        with once_it_runs(engine, watcher, "sleep(600)", lambda: engine.interrupt(session)):
            kind, _, _ = failure_of(engine, lambda: engine.execute(session, "SELECT sleep(600)"))
        engine.execute(watcher, f"KILL {session.server_thread_id[0]}")
        assert (kind, engine.is_broken(session)) == (FailureKind.LOST, True)
        engine.interrupt(session)


class TestLosses:
    def test_a_connection_that_the_server_closed_sends_nothing(
        self, engine: MysqlEngine, session: MysqlSession, connect: Connect
    ) -> None:
        engine.execute(connect(engine), f"KILL {session.server_thread_id[0]}")
        while not engine.is_broken(session):
            pass
        kind, message, _ = failure_of(engine, lambda: engine.execute(session, "DO 1"))
        assert (kind, message) == (FailureKind.UNREACHABLE, "the connection is closed")

    def test_a_write_without_an_answer_is_lost(
        self, mysql_url: str, engine: MysqlEngine, table: str, proxy: MakeProxy, connect: Connect
    ) -> None:
        wire = proxy(mysql_url)
        session = connect(create(settings_for(wire.url)))
        wire.cut_after(b"INSERT", forward=True)
        insert = "INSERT INTO t VALUES (2, 'two')"
        assert failure_of(engine, lambda: engine.execute(session, insert))[0] is FailureKind.LOST
        with pytest.raises(pymysql.Error):
            engine.reset(session)

    def test_a_login_that_breaks_off_lost_nothing(self, mysql_url: str, proxy: MakeProxy) -> None:
        wire = proxy(mysql_url)
        wire.cut_after(b"katax", forward=False)
        kind, message, code = connecting(wire.url)
        assert (kind, code) == (FailureKind.UNREACHABLE, "2003")
        assert message.startswith("no login: ")

    def test_a_deadlock_ends_the_transaction(
        self, engine: MysqlEngine, session: MysqlSession, table: str, connect: Connect
    ) -> None:
        other = connect(engine)
        engine.execute(session, "INSERT INTO t VALUES (2, 'two')")
        engine.execute(session, "CREATE TABLE heavy (a INT)")
        for one, row in ((session, 1), (other, 2)):
            engine.execute(one, "START TRANSACTION")
            engine.execute(one, f"UPDATE t SET a = 'x' WHERE id = {row}")
        # The lighter of the two is the victim.
        engine.execute_many(other, "INSERT INTO heavy VALUES (?)", [[n] for n in range(100)])
        crossing = threading.Thread(target=lambda: engine.execute(other, "UPDATE t SET a = 'y' WHERE id = 1"))
        crossing.start()
        kind, _, code = failure_of(
            engine, lambda: engine.execute(session, "UPDATE t SET a = 'y' WHERE id = 2")
        )
        crossing.join()
        engine.execute(other, "COMMIT")
        assert (kind, code) == (FailureKind.DEADLOCK, "1213")
        assert not engine.in_transaction(session)

    def test_a_lock_that_is_not_granted_is_busy(
        self, engine: MysqlEngine, session: MysqlSession, table: str, connect: Connect
    ) -> None:
        other = connect(engine)
        engine.execute(other, "START TRANSACTION")
        engine.execute(other, "UPDATE t SET a = 'x'")
        engine.execute(session, "SET innodb_lock_wait_timeout = 1")
        kind, _, code = failure_of(engine, lambda: engine.execute(session, "UPDATE t SET a = 'y'"))
        assert (kind, code) == (FailureKind.BUSY, "1205")

    def test_a_server_that_is_read_only(self, throwaway: Throwaway) -> None:
        server = throwaway("mysql")
        engine = create(settings_for(server))
        session = engine.connect(60.0)
        engine.execute(session, "CREATE TABLE t (a INT)")
        engine.execute(session, "CREATE USER plain")
        engine.execute(session, f"GRANT ALL ON {server.database}.* TO plain")
        engine.execute(session, "SET GLOBAL read_only = 1")
        assert engine.server(session)["role"] == "replica"
        plain = create(settings_for(server, user="plain", password=None))
        weak = plain.connect(60.0)
        several = create(replace(plain.settings, replicas=(plain.settings,)))

        def write() -> object:
            return plain.execute(weak, "INSERT INTO t VALUES (1)")

        (kind, message, code), (among_others, _, _) = failure_of(plain, write), failure_of(several, write)
        engine.close(weak)
        engine.close(session)
        assert (kind, code) == (FailureKind.READ_ONLY, "1290")
        assert message.startswith("the server is read-only, as a standby is: ")
        assert among_others is FailureKind.UNREACHABLE

    def test_other_errors_are_not_mysqls(self, engine: MysqlEngine) -> None:
        assert engine.classify(ValueError("boom")).kind is FailureKind.UNKNOWN


class TestStream:
    MANY = "SELECT a.id, repeat('x', 200) FROM t a, t b, t c, t d, t e, t f"

    @pytest.fixture(autouse=True)
    def _rows(self, engine: MysqlEngine, session: MysqlSession, table: str) -> None:
        engine.execute_many(session, "INSERT INTO t VALUES (?, 'x')", [[n] for n in range(2, 13)])

    def test_leaving_early_ends_it_on_the_server_and_keeps_the_transaction(
        self, engine: MysqlEngine, session: MysqlSession, connect: Connect
    ) -> None:
        engine.execute(session, "START TRANSACTION")
        engine.execute(session, "INSERT INTO t VALUES (99, 'mine')")
        with engine.stream(session, self.MANY) as stream:
            first = next(iter(stream))
        assert len(first) == 1000
        watcher = connect(engine)
        until(lambda: statements(engine, watcher) == [])
        assert engine.execute(session, "SELECT a FROM t WHERE id = 99").rows == [("mine",)]

    def test_leaving_at_the_last_row_leaves_no_kill_behind(
        self, engine: MysqlEngine, session: MysqlSession
    ) -> None:
        for _ in range(20):
            with engine.stream(session, "SELECT id FROM t") as stream:
                next(iter(stream))
            assert engine.execute(session, "SELECT 1").rows == [(1,)]

    def test_a_second_statement_in_between_is_refused_and_breaks_nothing(
        self, engine: MysqlEngine, session: MysqlSession
    ) -> None:
        with engine.stream(session, self.MANY) as stream:
            batches = iter(stream)
            next(batches)
            kind, message, _ = failure_of(engine, lambda: engine.execute(session, "SELECT 1"))
            assert len(next(batches)) == 1000
            assert not engine.is_broken(session)
        assert kind is FailureKind.REJECTED
        assert message == "rows of another statement are still to be read on this connection"

    def test_when_the_kill_does_not_arrive_the_connection_goes(
        self, mysql_url: str, engine: MysqlEngine, proxy: MakeProxy, connect: Connect
    ) -> None:
        wire = proxy(mysql_url)
        session = connect(create(settings_for(wire.url)))
        other = create(settings_for(wire.url))
        with other.stream(session, self.MANY) as stream:
            next(iter(stream))
            wire.refuse()
        assert engine.is_broken(session)

    def test_a_cut_wire_is_an_error_not_an_end(
        self, mysql_url: str, engine: MysqlEngine, proxy: MakeProxy, connect: Connect
    ) -> None:
        wire = proxy(mysql_url)
        session = connect(create(settings_for(wire.url)))

        def consume() -> None:
            with engine.stream(session, self.MANY) as stream:
                for _ in stream:
                    wire.cut()

        assert failure_of(engine, consume)[0] is FailureKind.LOST

    def test_an_error_in_the_middle_leaves_the_connection_usable(
        self, engine: MysqlEngine, session: MysqlSession, connect: Connect
    ) -> None:
        def consume() -> None:
            with engine.stream(session, self.MANY, timeout=0.3) as stream:
                for _ in stream:
                    threading.Event().wait(0.01)

        # Where the server stands still for longer than the client's grace, the client is first.
        while (kind := failure_of(engine, consume)[0]) is FailureKind.LOST:
            session = connect(engine)
        assert kind is FailureKind.TIMED_OUT
        assert engine.execute(session, "SELECT 1").rows == [(1,)]


BYPASSES = [
    "INSERT INTO t VALUES (2, 'two')",
    "INSERT INTO kept VALUES (1)",
    "/*! INSERT INTO t VALUES (2, 'two') */",
    "/*M!100000 DELETE FROM t */",
    "SELECT 1 /*! INTO OUTFILE 'out.txt' */",
    "WITH n AS (SELECT 1) DELETE FROM t",
    "SELECT writes()",
    "CALL writing()",
    "DO writes()",
    "BEGIN",
    "START TRANSACTION READ WRITE",
    "COMMIT",
    "ROLLBACK AND CHAIN",
    "COMMIT; INSERT INTO t VALUES (2, 'two')",
    "BEGIN NOT ATOMIC COMMIT; INSERT INTO t VALUES (2, 'two'); END",
    "SET TRANSACTION READ WRITE",
    "SET SESSION TRANSACTION READ WRITE",
    "SET @@session.tx_read_only = 0",
    "SET GLOBAL max_connections = 17",
    "SET PASSWORD = ''",
    "SET STATEMENT tx_read_only = 0 FOR INSERT INTO t VALUES (2, 'two')",
    "CREATE TABLE u (a INT)",
    "CREATE TEMPORARY TABLE u (a INT)",
    "CREATE TABLE u AS SELECT * FROM t",
    "DROP TABLE t",
    "TRUNCATE t",
    "ALTER TABLE t ADD b INT",
    "RENAME TABLE t TO u",
    "OPTIMIZE TABLE t",
    "ANALYZE TABLE t",
    "ANALYZE DELETE FROM t",
    "SELECT * FROM t INTO OUTFILE 'out.txt'",
    "SELECT a INTO DUMPFILE 'out.txt' FROM t",
    "SELECT * FROM t FOR UPDATE",
    "LOAD DATA INFILE 'in.txt' INTO TABLE t",
    "FLUSH TABLES",
    "FLUSH TABLES WITH READ LOCK",
    "GRANT SELECT ON *.* TO katax",
    "CREATE USER evil",
    "LOCK TABLES t WRITE",
    "XA START 'x'",
    "PREPARE p FROM 'DELETE FROM t'",
    "EXECUTE IMMEDIATE 'DELETE FROM t'",
    "HANDLER t OPEN",
    "KILL 1",
    "SHUTDOWN",
    "RESET MASTER",
    "PURGE BINARY LOGS BEFORE '2000-01-01'",
    "INSTALL SONAME 'x'",
]
REFUSED_BY = (FailureKind.READ_ONLY, FailureKind.REJECTED)


class TestReadOnly:
    @pytest.fixture(autouse=True)
    def _writers(self, engine: MysqlEngine, session: MysqlSession, table: str) -> None:
        engine.execute(session, "CREATE TABLE kept (a INT) ENGINE = MyISAM")
        engine.execute(session, "CREATE PROCEDURE writing() INSERT INTO t VALUES (7, 'seven')")
        engine.execute(
            session,
            "CREATE FUNCTION writes() RETURNS INT MODIFIES SQL DATA "
            "BEGIN INSERT INTO t VALUES (8, 'eight'); RETURN 1; END",
        )

    @staticmethod
    def state(engine: MysqlEngine, session: MysqlSession) -> list[Any]:
        questions = [
            "SELECT * FROM t",
            "SELECT * FROM kept",
            "SHOW FULL TABLES",
            "SHOW CREATE TABLE t",
            "SELECT @@GLOBAL.max_connections",
            "SELECT user FROM mysql.user",
        ]
        return [engine.execute(session, question).rows for question in questions]

    def refused(self, engine: MysqlEngine, session: MysqlSession, sql: str) -> None:
        with pytest.raises((pymysql.Error, Refused)) as caught:
            engine.execute(session, sql)
        assert isinstance(caught.value, Refused) or engine.classify(caught.value).kind in REFUSED_BY

    # One database for all of them: making and dropping one for each takes half a minute.
    def test_nothing_is_written(
        self, mysql_url: str, engine: MysqlEngine, session: MysqlSession, connect: Connect
    ) -> None:
        before = self.state(engine, session)
        frozen = create(settings_for(mysql_url, read_only=True))
        for sql in BYPASSES:
            own, plain = connect(frozen), connect(engine)
            with frozen.read_only(own):
                self.refused(frozen, own, sql)
            with engine.read_only(plain):
                self.refused(engine, plain, sql)
            assert self.state(engine, session) == before, sql

    def test_nothing_is_written_outside_of_a_transaction_either(
        self, mysql_url: str, engine: MysqlEngine, session: MysqlSession, connect: Connect
    ) -> None:
        before = self.state(engine, session)
        frozen = create(settings_for(mysql_url, read_only=True))
        for sql in set(BYPASSES) - {"COMMIT", "ROLLBACK AND CHAIN"}:
            own = connect(frozen)
            self.refused(frozen, own, sql)
            with pytest.raises((pymysql.Error, Refused)), frozen.stream(own, sql):
                pass
            assert self.state(engine, session) == before, sql
        with pytest.raises((pymysql.Error, Refused)):
            frozen.execute_many(connect(frozen), "INSERT INTO t VALUES (?, 'x')", [[5], [6]])

    @pytest.mark.parametrize(
        "sql", ["INSERT INTO t VALUES (2, 'x')", "CREATE TABLE u (a INT)", "SELECT writes()"]
    )
    def test_the_server_refuses_by_itself(self, mysql_url: str, connect: Connect, sql: str) -> None:
        """What katax would let pass by mistake, the session does not."""
        frozen = create(settings_for(mysql_url, read_only=True))
        own = connect(frozen)
        assert failure_of(frozen, lambda: own.send(sql))[::2] == (FailureKind.READ_ONLY, "1792")
        own.send("COMMIT")
        assert failure_of(frozen, lambda: own.send(sql))[2] == "1792"

    def test_a_refusal_names_what_and_where(self, engine: MysqlEngine, session: MysqlSession) -> None:
        with engine.read_only(session), pytest.raises(Refused) as caught:
            engine.execute(session, "SELECT 1 INTO OUTFILE '/tmp/x'")
        assert str(caught.value) == "refused: SELECT INTO OUTFILE on 'main', which is read-only"

    def test_reading_works_and_writing_works_afterwards(
        self, engine: MysqlEngine, session: MysqlSession
    ) -> None:
        for sql in ("SELECT a FROM t", "SHOW TABLES", "DESCRIBE t", "EXPLAIN SELECT * FROM t", "(SELECT 1)"):
            with engine.read_only(session):
                assert engine.execute(session, sql, timeout=60.0).rows
        assert not engine.in_transaction(session)
        assert engine.execute(session, "INSERT INTO t VALUES (2, 'two')").affected == 1

    def test_a_lost_connection_ends_quietly_and_is_broken(
        self, engine: MysqlEngine, session: MysqlSession
    ) -> None:
        with engine.read_only(session):
            engine.interrupt(session)
        assert engine.is_broken(session)


@pytest.mark.needs_mysql8
class TestMysql8:
    def test_its_passwords_work_without_tls(
        self, mysql_url: str, engine: MysqlEngine, session: MysqlSession, connect: Connect
    ) -> None:
        engine.execute(session, "CREATE USER sha IDENTIFIED WITH caching_sha2_password BY 's3cret'")
        try:
            plain = TlsSettings("disable")
            settings = settings_for(
                mysql_url, user="sha", password=Secret.of("s3cret"), database="", tls=plain
            )
            other = create(settings)
            assert other.execute(connect(other), "SELECT 1").rows == [(1,)]
        finally:
            engine.execute(session, "DROP USER sha")


class TestReset:
    def test_rolls_back(self, engine: MysqlEngine, session: MysqlSession, table: str) -> None:
        engine.execute(session, "START TRANSACTION")
        engine.execute(session, "DELETE FROM t")
        engine.reset(session)
        assert engine.execute(session, "SELECT count(*) FROM t").rows == [(1,)]

    def test_raises_when_broken(self, engine: MysqlEngine, session: MysqlSession) -> None:
        engine.close(session)
        with pytest.raises(pymysql.Error):
            engine.reset(session)


class TestTables:
    @pytest.fixture(autouse=True)
    def _tables(self, engine: MysqlEngine, session: MysqlSession, table: str) -> None:
        engine.execute(
            session,
            "CREATE TABLE sales (id INT AUTO_INCREMENT PRIMARY KEY, who VARCHAR(9) NOT NULL DEFAULT 'me', "
            "t INT, code CHAR(2) UNIQUE, day DATE, plain DOUBLE, "
            "FOREIGN KEY (t) REFERENCES t (id), KEY by_day (day, who))",
        )
        engine.execute(session, "CREATE VIEW v AS SELECT * FROM t")

    def test_list(self, engine: MysqlEngine, session: MysqlSession) -> None:
        schema = engine.settings.database
        found = engine.tables(session, 5.0)
        assert [(one.schema, one.name, one.kind) for one in found] == [
            (schema, "sales", "table"),
            (schema, "t", "table"),
            (schema, "v", "view"),
        ]
        assert found[1].size_bytes == 16384
        assert isinstance(found[1].rows_estimate, int)
        assert found[2].size_bytes is None

    def test_list_without_a_database(self, mysql_url: str, engine: MysqlEngine, connect: Connect) -> None:
        everywhere = create(settings_for(mysql_url, database=""))
        found = {(one.schema, one.name) for one in everywhere.tables(connect(everywhere))}
        assert (engine.settings.database, "sales") in found
        assert "mysql" not in {schema for schema, _ in found}

    def test_describe(self, engine: MysqlEngine, session: MysqlSession) -> None:
        found = engine.describe(session, f"{engine.settings.database}.sales")
        assert found is not None
        assert found == engine.describe(session, "sales")
        seen = [(c.name, c.nullable, c.key, c.references) for c in found.columns]
        assert seen == [
            ("id", False, "primary", None),
            ("who", False, None, None),
            ("t", True, "foreign", "t.id"),
            ("code", True, "unique", None),
            ("day", True, "index", None),
            ("plain", True, None, None),
        ]
        assert (found.columns[1].type, (found.columns[1].default or "").strip("'")) == ("varchar(9)", "me")
        assert found.columns[2].default is None
        assert [(i.name, i.columns, i.unique) for i in found.indexes] == [
            ("PRIMARY", ("id",), True),
            ("by_day", ("day", "who"), False),
            ("code", ("code",), True),
            ("t", ("t",), False),
        ]

    def test_describe_nothing(self, engine: MysqlEngine, session: MysqlSession) -> None:
        assert engine.describe(session, "nothing") is None
        assert engine.describe(session, "nowhere.t") is None


def test_server(engine: MysqlEngine, session: MysqlSession, mysql: Server) -> None:
    found = dict(engine.server(session))
    assert found["version"] == mysql.version
    assert (found["flavour"], found["role"]) == (mysql.flavour, "primary")
    assert isinstance(found["max_connections"], int)
    assert isinstance(found["connections"], int)
    assert found["connections"] >= 1


def test_closing_in_the_middle_of_a_result_does_not_read_it(
    engine: MysqlEngine, session: MysqlSession, connect: Connect
) -> None:
    with contextlib.suppress(pymysql.Error), engine.stream(session, "SELECT 1 UNION SELECT 2"):
        engine.close(session)
    engine.close(session)
    assert engine.is_broken(session)


def test_a_peer_that_vanished_is_noticed_within_a_minute(session: MysqlSession) -> None:
    wire = session._sock
    assert wire is not None
    assert wire.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    names = (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
    idle, between, count = (wire.getsockopt(socket.IPPROTO_TCP, name) for name in names)
    assert idle + between * count == 60
