import contextlib
import signal
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import date, datetime
from datetime import time as clock_time
from decimal import Decimal
from pathlib import Path
from uuid import UUID

import pytest

from katax_cli.core.resilience.failure import FailureKind
from katax_cli.core.settings import ConnectionSettings
from katax_cli.engines.base import Introspects, ReadOnlyGuard, ReportsServer, SqlEngine
from katax_cli.engines.sqlite import create
from katax_cli.engines.sqlite.engine import SqliteEngine
from katax_cli.engines.sqlite.session import SqliteSession
from katax_cli.errors import ConfigError, Refused

Connect = Callable[[SqliteEngine], SqliteSession]
SLOW = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"


def engine_for(path: Path | str, *, read_only: bool = False, embedded: bool = False) -> SqliteEngine:
    return create(
        ConnectionSettings(name="main", type="sqlite", path=str(path), read_only=read_only, embedded=embedded)
    )


def test_a_session_is_reset_any_number_of_times_and_still_knows_its_file(
    tmp_path: Path, connect: Connect
) -> None:
    engine = engine_for(tmp_path / "a.db")
    session = connect(engine)
    for _ in range(3):
        engine.execute(session, "PRAGMA recursive_triggers = ON")
        engine.reset(session)
        assert engine.execute(session, "PRAGMA recursive_triggers").rows == [(0,)]
    assert not engine.is_broken(session)

    (tmp_path / "a.db").unlink()

    assert engine.is_broken(session)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A database that somebody else made, with one row."""
    path = tmp_path / "app.db"
    with contextlib.closing(sqlite3.connect(path)) as made:
        made.executescript(
            "CREATE TABLE t (id INTEGER PRIMARY KEY, a TEXT); CREATE INDEX by_a ON t (a);"
            "INSERT INTO t VALUES (1, 'one')"
        )
    return path


@pytest.fixture
def engine(file: Path) -> SqliteEngine:
    return engine_for(file)


@pytest.fixture
def session(engine: SqliteEngine, connect: Connect) -> SqliteSession:
    return connect(engine)


def failure_of(engine: SqliteEngine, act: Callable[[], object]) -> tuple[FailureKind, str]:
    with pytest.raises((sqlite3.Error, sqlite3.Warning)) as caught:
        act()
    failure = engine.classify(caught.value)
    return failure.kind, failure.message


def test_has_every_ability_of_sql(engine: SqliteEngine) -> None:
    for ability in (SqlEngine, ReadOnlyGuard, Introspects, ReportsServer):
        assert isinstance(engine, ability)


class TestConnect:
    def test_a_new_file_keeps_a_write_ahead_log(self, tmp_path: Path, connect: Connect) -> None:
        engine = engine_for(tmp_path / "new.db")
        assert engine.server(connect(engine))["journal_mode"] == "wal"

    def test_somebody_elses_file_keeps_its_journal(
        self, engine: SqliteEngine, session: SqliteSession
    ) -> None:
        assert engine.server(session)["journal_mode"] == "delete"

    def test_an_embedded_file_is_private(self, tmp_path: Path, connect: Connect) -> None:
        connect(engine_for(tmp_path / "main.db", embedded=True))
        assert (tmp_path / "main.db").stat().st_mode & 0o777 == 0o600

    def test_names_that_mean_something_in_a_uri(self, tmp_path: Path, connect: Connect) -> None:
        connect(engine_for(tmp_path / "a?b#c%41.db"))
        assert (tmp_path / "a?b#c%41.db").exists()

    def test_the_missing_folder_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError) as caught:
            engine_for(tmp_path / "gone" / "app.db").connect(1.0)
        assert str(caught.value) == f"'main': folder {tmp_path / 'gone'} does not exist; create it"

    def test_a_read_only_connection_makes_no_file(self, tmp_path: Path) -> None:
        path = tmp_path / "new.db"
        with pytest.raises(ConfigError) as caught:
            engine_for(path, read_only=True).connect(1.0)
        assert str(caught.value) == f"'main': file {path} does not exist, and is not made read-only"
        assert not path.exists()

    def test_a_file_that_is_no_database_is_found_out_at_once(self, tmp_path: Path) -> None:
        (tmp_path / "notes.txt").write_text("not a database, but long enough to be read as one" * 20)
        engine = engine_for(tmp_path / "notes.txt")
        kind, message = failure_of(engine, lambda: engine.connect(1.0))
        assert (kind, message) == (FailureKind.CONFIGURATION, "file is not a database")

    def test_a_folder_cannot_be_opened(self, tmp_path: Path) -> None:
        engine = engine_for(tmp_path)
        kind, message = failure_of(engine, lambda: engine.connect(1.0))
        assert (kind, message) == (FailureKind.CONFIGURATION, "unable to open database file")

    def test_foreign_keys_are_enforced(self, engine: SqliteEngine, session: SqliteSession) -> None:
        engine.execute(session, "CREATE TABLE c (t INTEGER REFERENCES t(id))")
        kind, message = failure_of(engine, lambda: engine.execute(session, "INSERT INTO c VALUES (9)"))
        assert (kind, message) == (FailureKind.REJECTED, "FOREIGN KEY constraint failed")


class TestMemory:
    def test_connections_of_one_engine_share_it(self, connect: Connect) -> None:
        engine = engine_for(":memory:")
        first, second = connect(engine), connect(engine)
        engine.execute(first, "CREATE TABLE t (a)")
        assert engine.execute(second, "SELECT count(*) FROM t").rows == [(0,)]

    def test_it_outlives_its_connections(self, connect: Connect) -> None:
        engine = engine_for(":memory:")
        first = connect(engine)
        engine.execute(first, "CREATE TABLE t (a)")
        engine.close(first)
        assert engine.execute(connect(engine), "SELECT count(*) FROM t").rows == [(0,)]

    def test_engines_do_not_share_it(self, connect: Connect) -> None:
        one, other = engine_for(":memory:"), engine_for(":memory:")
        engine = connect(one)
        one.execute(engine, "CREATE TABLE t (a)")
        assert other.tables(connect(other)) == []


class TestValues:
    @pytest.mark.parametrize(
        ("value", "stored"),
        [
            (datetime(2024, 2, 3, 4, 5, 6, 7), "2024-02-03 04:05:06.000007"),
            (date(2024, 2, 3), "2024-02-03"),
            (clock_time(4, 5), "04:05:00"),
            (Decimal("12345678901234567890.10"), "12345678901234567890.10"),
            (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
            (True, 1),
            (b"\x00\xff", b"\x00\xff"),
            (None, None),
        ],
    )
    def test_what_sqlite_has_no_type_for_is_stored_exactly(
        self, engine: SqliteEngine, session: SqliteSession, value: object, stored: object
    ) -> None:
        assert engine.execute(session, "SELECT ?", [value]).rows == [(stored,)]

    def test_text_as_the_server_writes_it(self, engine: SqliteEngine, session: SqliteSession) -> None:
        sql = "SELECT 1, 0.1, 1e300 * 1e300, 'x', NULL, x'00ff'"
        with engine.stream(session, sql, text=True) as stream:
            assert list(stream) == [[("1", "0.1", "Inf", "x", None, b"\x00\xff")]]

    def test_a_number_that_does_not_fit_is_the_statements_fault(
        self, engine: SqliteEngine, session: SqliteSession
    ) -> None:
        with pytest.raises(OverflowError) as caught:
            engine.execute(session, "SELECT ?", [2**64])
        assert engine.classify(caught.value).kind is FailureKind.REJECTED

    def test_rows_changed_behind_with_are_counted(self, engine: SqliteEngine, session: SqliteSession) -> None:
        sql = "WITH n(i) AS (VALUES (7), (8)) INSERT INTO t SELECT i, 'x' FROM n"
        assert engine.execute(session, sql).affected == 2


class TestWaiting:
    def test_a_lock_that_is_released_in_time_is_waited_for(
        self, engine: SqliteEngine, session: SqliteSession, connect: Connect
    ) -> None:
        holder = connect(engine)
        engine.execute(holder, "BEGIN IMMEDIATE")
        release = threading.Timer(0.3, lambda: engine.execute(holder, "COMMIT"))
        release.start()
        assert engine.execute(session, "INSERT INTO t VALUES (2, 'two')", timeout=30.0).affected == 1
        release.join()

    def test_a_lock_that_is_not_is_busy(
        self, engine: SqliteEngine, session: SqliteSession, connect: Connect
    ) -> None:
        engine.execute(connect(engine), "BEGIN IMMEDIATE")
        kind, message = failure_of(
            engine, lambda: engine.execute(session, "INSERT INTO t VALUES (2, 'two')", timeout=0.2)
        )
        assert (kind, message) == (FailureKind.BUSY, "database is locked")

    def test_an_outdated_snapshot_is_a_conflict_at_once(self, tmp_path: Path, connect: Connect) -> None:
        engine = engine_for(tmp_path / "wal.db")
        reader, writer = connect(engine), connect(engine)
        engine.execute(writer, "CREATE TABLE t (a)")
        engine.execute(reader, "BEGIN")
        engine.execute(reader, "SELECT * FROM t")
        engine.execute(writer, "INSERT INTO t VALUES (1)")
        # Without a timeout: it would wait for a minute and the test would be ended.
        kind, _ = failure_of(engine, lambda: engine.execute(reader, "INSERT INTO t VALUES (2)"))
        assert kind is FailureKind.ROLLED_BACK

    def test_interrupt_ends_waiting_for_a_lock(
        self, engine: SqliteEngine, session: SqliteSession, connect: Connect
    ) -> None:
        engine.execute(connect(engine), "BEGIN IMMEDIATE")
        ended = threading.Event()

        def interrupt() -> None:
            while not ended.wait(0.3):
                engine.interrupt(session)

        thread = threading.Thread(target=interrupt)
        thread.start()
        try:
            kind, _ = failure_of(engine, lambda: engine.execute(session, "INSERT INTO t VALUES (2, 'two')"))
        finally:
            ended.set()
            thread.join()
        assert kind is FailureKind.BUSY

    def test_the_timeout_ends_work(self, engine: SqliteEngine, session: SqliteSession) -> None:
        kind, message = failure_of(engine, lambda: engine.execute(session, SLOW, timeout=0.1))
        assert (kind, message) == (FailureKind.TIMED_OUT, "interrupted")
        assert engine.execute(session, "SELECT 1").rows == [(1,)]

    def test_the_timeout_goes_on_while_rows_are_fetched(
        self, engine: SqliteEngine, session: SqliteSession
    ) -> None:
        endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n"

        def consume() -> None:
            with engine.stream(session, endless, timeout=0.2) as stream:
                for _ in stream:
                    pass

        assert failure_of(engine, consume)[0] is FailureKind.TIMED_OUT

    def test_ctrl_c_ends_work(self, engine: SqliteEngine, session: SqliteSession) -> None:
        begun = threading.Event()

        def over() -> bool:
            """What it asks while it works; of the same signal in a trace callback nothing would be left."""
            begun.set()
            return session._over()

        session.set_progress_handler(over, 1000)

        def interrupt() -> None:
            begun.wait()
            signal.raise_signal(signal.SIGINT)

        thread = threading.Thread(target=interrupt)
        thread.start()
        with pytest.raises(KeyboardInterrupt):
            engine.execute(session, SLOW, timeout=600.0)
        thread.join()

    def test_many_writers_all_get_through(self, tmp_path: Path, connect: Connect) -> None:
        engine = engine_for(tmp_path / "wal.db")
        engine.execute(connect(engine), "CREATE TABLE n (i)")
        writers = [connect(engine) for _ in range(8)]

        def write(session: SqliteSession) -> None:
            for number in range(20):
                engine.execute(session, "INSERT INTO n VALUES ($1)", [number], timeout=60.0)

        with ThreadPoolExecutor(8) as threads:
            list(threads.map(write, writers))
        assert engine.execute(writers[0], "SELECT count(*) FROM n").rows == [(160,)]


class TestClosed:
    def test_is_broken_and_nothing_was_sent(self, engine: SqliteEngine, session: SqliteSession) -> None:
        assert not engine.is_broken(session)
        engine.close(session)
        assert engine.is_broken(session)
        kind, message = failure_of(engine, lambda: engine.execute(session, "SELECT 1"))
        assert (kind, message) == (FailureKind.UNREACHABLE, "the connection is closed")

    def test_may_be_cancelled_and_closed_again(self, engine: SqliteEngine, session: SqliteSession) -> None:
        engine.close(session)
        engine.cancel(session, 1.0)
        engine.interrupt(session)
        engine.close(session)


BYPASSES = [
    "INSERT INTO t VALUES (2, 'two')",
    "WITH n AS (SELECT 2) INSERT INTO t SELECT *, 'two' FROM n",
    "DELETE FROM t RETURNING id",
    "CREATE TABLE u (a)",
    "CREATE TEMP TABLE u (a)",
    "DROP TABLE t",
    "VACUUM",
    "VACUUM INTO 'copy.db'",
    "ATTACH 'other.db' AS other",
    "DETACH main",
    "REINDEX",
    "ANALYZE",
    "BEGIN IMMEDIATE",
    "PRAGMA query_only=OFF",
    "PRAGMA query_only(0)",
    "PRAGMA main.journal_mode=WAL",
    "PRAGMA journal_mode=DELETE",
    "PRAGMA writable_schema=1",
    "PRAGMA user_version=7",
    "PRAGMA wal_checkpoint",
    "PRAGMA OPTIMIZE",
    "PRAGMA incremental_vacuum",
    "SELECT * FROM pragma_journal_mode('wal')",
    "SELECT load_extension('evil')",
    "COMMIT; INSERT INTO t VALUES (2, 'two')",
    "SELECT 1; INSERT INTO t VALUES (2, 'two')",
]


class TestReadOnly:
    @pytest.mark.parametrize("sql", BYPASSES)
    @pytest.mark.parametrize("guarded", [True, False], ids=["in a transaction", "on the session"])
    def test_nothing_is_written(self, file: Path, connect: Connect, sql: str, guarded: bool) -> None:
        engine = engine_for(file, read_only=True)
        session = connect(engine)
        folder_before = sorted(file.parent.iterdir())
        bytes_before = file.read_bytes()
        with engine.read_only(session) if guarded else contextlib.nullcontext():
            kind, _ = failure_of(engine, lambda: engine.execute(session, sql))
        assert kind in (FailureKind.READ_ONLY, FailureKind.REJECTED)
        assert file.read_bytes() == bytes_before
        assert sorted(file.parent.iterdir()) == folder_before

    @pytest.mark.parametrize("sql", BYPASSES)
    def test_nothing_is_written_through_a_connection_that_may(
        self, file: Path, engine: SqliteEngine, session: SqliteSession, sql: str
    ) -> None:
        bytes_before = file.read_bytes()
        with engine.read_only(session):
            failure_of(engine, lambda: engine.execute(session, sql))
        assert file.read_bytes() == bytes_before
        assert not list(file.parent.glob("*other*")) + list(file.parent.glob("*copy*"))

    def test_commit_opens_nothing(self, engine: SqliteEngine, session: SqliteSession) -> None:
        with engine.read_only(session):
            engine.execute(session, "COMMIT")
            kind, _ = failure_of(engine, lambda: engine.execute(session, "DELETE FROM t"))
        assert kind is FailureKind.READ_ONLY

    def test_a_connection_that_may_write_writes_afterwards(
        self, engine: SqliteEngine, session: SqliteSession
    ) -> None:
        with engine.read_only(session):
            assert engine.in_transaction(session)
        assert not engine.in_transaction(session)
        assert engine.execute(session, "INSERT INTO t VALUES (2, 'two')").affected == 1

    def test_reading_works_with_everything_that_reads(self, file: Path, connect: Connect) -> None:
        writer = connect(engine_for(file))
        writer.executescript(
            "CREATE VIRTUAL TABLE f USING fts5(x); INSERT INTO f VALUES ('hello');"
            "CREATE VIRTUAL TABLE r USING rtree(id, a, b); CREATE VIEW v AS SELECT * FROM t"
        )
        engine = engine_for(file, read_only=True)
        session = connect(engine)
        for sql, rows in {
            "SELECT x FROM f WHERE f MATCH 'hello'": [("hello",)],
            "SELECT count(*) FROM r": [(0,)],
            "SELECT a FROM v": [("one",)],
            "SELECT name FROM pragma_table_info('t')": [("id",), ("a",)],
            "PRAGMA quick_check": [("ok",)],
            "PRAGMA user_version": [(0,)],
        }.items():
            with engine.read_only(session):
                assert engine.execute(session, sql).rows == rows

    def test_a_refusal_says_why(self, file: Path, connect: Connect) -> None:
        engine = engine_for(file, read_only=True)
        session = connect(engine)
        kind, message = failure_of(engine, lambda: engine.execute(session, "ATTACH 'o.db' AS o"))
        assert (kind, message) == (FailureKind.READ_ONLY, "not authorized on a read-only connection")

    def test_a_session_whose_guard_is_gone_runs_nothing(self, file: Path, connect: Connect) -> None:
        engine = engine_for(file, read_only=True)
        session = connect(engine)
        session.set_authorizer(None)
        session.execute("PRAGMA query_only=OFF")
        with pytest.raises(Refused) as caught, engine.read_only(session):
            pass
        assert str(caught.value) == "refused: 'main' did not become read-only; nothing was run"


class TestTables:
    def test_what_is_listed(self, engine: SqliteEngine, session: SqliteSession) -> None:
        session.executescript(
            "CREATE TABLE Sales (id INTEGER PRIMARY KEY, who TEXT NOT NULL DEFAULT 'me', t INT REFERENCES t,"
            " code TEXT UNIQUE, day TEXT, total INT GENERATED ALWAYS AS (id * 2));"
            "CREATE INDEX by_day ON Sales (day, who); CREATE VIEW v AS SELECT * FROM t;"
            "CREATE VIRTUAL TABLE f USING fts5(x); CREATE TABLE f_notes (a); ANALYZE"
        )
        assert [(one.name, one.kind) for one in engine.tables(session)] == [
            ("Sales", "table"),
            ("f", "table"),
            ("t", "table"),
            ("v", "view"),
        ]

    def test_estimates(self, engine: SqliteEngine, session: SqliteSession) -> None:
        before = engine.tables(session)[0].rows_estimate
        session.execute("ANALYZE")
        table = engine.tables(session)[0]
        assert (before, table.rows_estimate) == (None, 1)
        assert table.size_bytes in (None, 8192)

    def test_describe(self, engine: SqliteEngine, session: SqliteSession) -> None:
        session.executescript(
            "CREATE TABLE s (id INTEGER PRIMARY KEY, who TEXT NOT NULL DEFAULT 'me', t INT REFERENCES t(id),"
            " code TEXT UNIQUE, day TEXT, plain REAL); CREATE INDEX by_day ON s (day, lower(who))"
        )
        found = engine.describe(session, "main.S")
        assert found is not None
        seen = [(c.name, c.type, c.nullable, c.default, c.key, c.references) for c in found.columns]
        assert seen == [
            ("id", "INTEGER", False, None, "primary", None),
            ("who", "TEXT", False, "'me'", None, None),
            ("t", "INT", True, None, "foreign", "t.id"),
            ("code", "TEXT", True, None, "unique", None),
            ("day", "TEXT", True, None, "index", None),
            ("plain", "REAL", True, None, None, None),
        ]
        assert [(i.name, i.columns, i.unique) for i in found.indexes] == [
            ("by_day", ("day", "(expression)"), False),
            ("sqlite_autoindex_s_1", ("code",), True),
        ]

    def test_describe_nothing(self, engine: SqliteEngine, session: SqliteSession) -> None:
        assert engine.describe(session, "nothing") is None


def test_server(engine: SqliteEngine, session: SqliteSession, file: Path) -> None:
    assert engine.server(session) == {
        "version": sqlite3.sqlite_version,
        "journal_mode": "delete",
        "size_bytes": file.stat().st_size,
    }


def test_a_full_disk_is_no_reason_to_try_again(engine: SqliteEngine, session: SqliteSession) -> None:
    session.execute("PRAGMA max_page_count=3")
    kind, message = failure_of(
        engine, lambda: engine.execute(session, "INSERT INTO t VALUES (2, ?)", ["x" * 100_000])
    )
    assert (kind, message) == (FailureKind.REJECTED, "database or disk is full")


def test_other_errors_are_not_sqlites(engine: SqliteEngine) -> None:
    assert engine.classify(ValueError("boom")).kind is FailureKind.UNKNOWN


def test_closing_does_not_wait_for_work(engine: SqliteEngine, session: SqliteSession) -> None:
    with engine.stream(session, "SELECT * FROM t"):
        engine.close(session)
    assert engine.is_broken(session)
