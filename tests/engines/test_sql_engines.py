"""What every SQL engine does alike: one body, run on each of them."""

import threading
from collections.abc import Callable
from functools import partial
from typing import Any, cast

import pytest

from katax_cli.core.resilience.failure import FailureKind
from katax_cli.engines.base import Introspects, ReadOnlyGuard, ReportsServer, SqlEngine
from katax_cli.engines.registry import load
from katax_cli.errors import Refused
from tests.engines.connections import settings_for
from tests.servers.fixtures import Target
from tests.waiting import at_last

# Rows enough to fill every buffer between a server and its client.
MANY = """
WITH d(i) AS (SELECT 0 UNION ALL SELECT 1 UNION ALL SELECT 2 UNION ALL SELECT 3 UNION ALL SELECT 4
    UNION ALL SELECT 5 UNION ALL SELECT 6 UNION ALL SELECT 7 UNION ALL SELECT 8 UNION ALL SELECT 9)
SELECT a.i + 10 * b.i + 100 * c.i + 1000 * e.i + 10000 * f.i AS n, 'a row of some length' AS words
FROM d a, d b, d c, d e, d f
"""


@pytest.fixture
def engine(sql_engine: Target) -> SqlEngine:
    return cast("SqlEngine", load(settings_for(sql_engine.url)))


@pytest.fixture
def connection(engine: SqlEngine, connect: Callable[[Any], Any]) -> Any:
    connection = connect(engine)
    engine.execute(connection, "CREATE TABLE t (id INTEGER PRIMARY KEY, a VARCHAR(40))")
    engine.execute(connection, "INSERT INTO t VALUES (1, 'one')")
    return connection


def rows(engine: SqlEngine, connection: Any, sql: str = "SELECT id, a FROM t ORDER BY id") -> list[Any]:
    return engine.execute(connection, sql).rows


def kind_of(engine: SqlEngine, act: Callable[[], object]) -> FailureKind:
    with pytest.raises(Exception) as caught:
        act()
    return engine.classify(caught.value).kind


def test_abilities(engine: SqlEngine) -> None:
    for ability in (SqlEngine, ReadOnlyGuard, Introspects, ReportsServer):
        assert isinstance(engine, ability)
    assert engine.dialect == engine.name


@pytest.mark.parametrize(
    ("sql", "params"),
    [
        ("SELECT id, a FROM t WHERE a = $1 AND id = $2", ["one", 1]),
        ("SELECT id, a FROM t WHERE id = $2 AND a = $1 AND a = $1", ["one", 1]),
        ("SELECT id, a FROM t WHERE a = ? AND id = ?", ("one", 1)),
        ("SELECT id, a FROM t WHERE a = :a AND id = :id", {"a": "one", "id": 1}),
        ("SELECT id, a FROM t WHERE a LIKE '%ne' AND '?' <> ':a' AND id = ?", [1]),
        ("SELECT id, a FROM t WHERE a LIKE '%ne'", None),
    ],
)
def test_placeholders(engine: SqlEngine, connection: Any, sql: str, params: Any) -> None:
    result = engine.execute(connection, sql, params, timeout=10.0)
    assert (result.columns, result.rows) == (("id", "a"), [(1, "one")])


def test_results(engine: SqlEngine, connection: Any) -> None:
    write = engine.execute(connection, "INSERT INTO t VALUES (2, 'two'), (3, NULL)")
    assert (write.columns, write.rows, write.affected) == ((), [], 2)
    nothing = engine.execute(connection, "SELECT id FROM t WHERE id > 9")
    assert (nothing.columns, nothing.rows) == (("id",), [])
    assert engine.execute(connection, "SELECT 1 AS a, 2 AS a").columns == ("a", "a")
    assert engine.execute(connection, "UPDATE t SET a = 'x' WHERE id > ?", [1]).affected == 2
    assert rows(engine, connection) == [(1, "one"), (2, "x"), (3, "x")]


class TestTransactions:
    def test_autocommit_unless_a_statement_begins(
        self, engine: SqlEngine, connection: Any, connect: Callable[[Any], Any]
    ) -> None:
        assert not engine.in_transaction(connection)
        assert rows(engine, connect(engine)) == [(1, "one")]

    def test_savepoints(self, engine: SqlEngine, connection: Any) -> None:
        facts = engine.facts
        engine.execute(connection, facts.begin)
        assert engine.in_transaction(connection)
        for number, undone in ((2, False), (3, True)):
            engine.execute(connection, facts.savepoint.format(name="s"))
            engine.execute(connection, "INSERT INTO t VALUES (?, 'x')", [number])
            if undone:
                engine.execute(connection, facts.rollback_to.format(name="s"))
            engine.execute(connection, facts.release.format(name="s"))
        engine.execute(connection, "COMMIT")
        assert not engine.in_transaction(connection)
        assert rows(engine, connection) == [(1, "one"), (2, "x")]

    def test_a_read_only_one(self, engine: SqlEngine, connection: Any) -> None:
        engine.execute(connection, engine.facts.begin_read_only)
        assert rows(engine, connection) == [(1, "one")]
        engine.execute(connection, "ROLLBACK")

    def test_reset_rolls_back(self, engine: SqlEngine, connection: Any) -> None:
        engine.execute(connection, engine.facts.begin)
        engine.execute(connection, "DELETE FROM t")
        engine.reset(connection)
        assert not engine.in_transaction(connection)
        assert rows(engine, connection) == [(1, "one")]


class TestMany:
    INSERT = "INSERT INTO t VALUES ($2, $1)"

    def test_all(self, engine: SqlEngine, connection: Any) -> None:
        assert engine.execute_many(connection, self.INSERT, [["x", n] for n in range(2, 2002)]) == 2000
        assert rows(engine, connection, "SELECT count(*) FROM t") == [(2001,)]
        assert not engine.in_transaction(connection)

    def test_updates(self, engine: SqlEngine, connection: Any) -> None:
        engine.execute(connection, "INSERT INTO t VALUES (2, 'two')")
        update = "UPDATE t SET a = :new WHERE id = :id"
        assert engine.execute_many(connection, update, [{"id": n, "new": f"n{n}"} for n in (1, 2)]) == 2
        assert rows(engine, connection) == [(1, "n1"), (2, "n2")]

    def test_or_none(self, engine: SqlEngine, connection: Any) -> None:
        twice = [["x", 2], ["y", 3], ["z", 2]]
        many = kind_of(engine, lambda: engine.execute_many(connection, self.INSERT, twice))
        assert many is FailureKind.REJECTED
        assert not engine.in_transaction(connection)
        assert rows(engine, connection) == [(1, "one")]

    def test_within_a_transaction_of_the_callers(self, engine: SqlEngine, connection: Any) -> None:
        engine.execute(connection, engine.facts.begin)
        engine.execute_many(connection, self.INSERT, [["x", 2], ["y", 3]])
        assert engine.in_transaction(connection)
        engine.execute(connection, "ROLLBACK")
        assert rows(engine, connection) == [(1, "one")]

    def test_nothing(self, engine: SqlEngine, connection: Any) -> None:
        assert engine.execute_many(connection, self.INSERT, []) == 0


class TestStream:
    def test_all_rows_in_batches(self, engine: SqlEngine, connection: Any) -> None:
        with engine.stream(connection, MANY, timeout=60.0) as stream:
            assert stream.columns == ("n", "words")
            batches = list(stream)
        assert 1 < len(batches) <= 100_000 / 100
        assert {n for batch in batches for n, _ in batch} == set(range(100_000))
        assert rows(engine, connection) == [(1, "one")]

    def test_leaving_early(self, engine: SqlEngine, connection: Any) -> None:
        with engine.stream(connection, MANY) as stream:
            assert next(iter(stream))
        assert rows(engine, connection) == [(1, "one")]

    def test_an_error_of_the_reader_passes(self, engine: SqlEngine, connection: Any) -> None:
        def read() -> None:
            with engine.stream(connection, MANY) as stream:
                for _ in stream:
                    raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            read()
        assert rows(engine, connection) == [(1, "one")]

    def test_no_rows(self, engine: SqlEngine, connection: Any) -> None:
        with engine.stream(connection, "SELECT id FROM t WHERE id = ?", [9]) as stream:
            assert (stream.columns, list(stream)) == (("id",), [])

    def test_a_write(self, engine: SqlEngine, connection: Any) -> None:
        with engine.stream(connection, "UPDATE t SET a = 'x'") as stream:
            assert (stream.columns, list(stream)) == ((), [])
            assert stream.affected == 1

    def test_text(self, engine: SqlEngine, connection: Any) -> None:
        with engine.stream(connection, "SELECT id, a, NULL FROM t", text=True) as stream:
            assert list(stream) == [[("1", "one", None)]]
        assert rows(engine, connection) == [(1, "one")]


class TestFailures:
    @pytest.mark.parametrize(
        "sql",
        ["SELEC 1", "SELECT * FROM nothing", "INSERT INTO t VALUES (1, 'again')"],
        ids=["syntax", "missing table", "duplicate"],
    )
    def test_the_server_says_no(self, engine: SqlEngine, connection: Any, sql: str) -> None:
        with pytest.raises(Exception) as caught:
            engine.execute(connection, sql)
        failure = engine.classify(caught.value)
        assert failure.kind is FailureKind.REJECTED
        assert failure.code
        assert "\n" not in failure.message
        assert not engine.is_broken(connection)
        assert rows(engine, connection) == [(1, "one")]

    def test_not_the_drivers(self, engine: SqlEngine) -> None:
        assert engine.classify(ZeroDivisionError("x")).kind is FailureKind.UNKNOWN

    def test_cancel(self, engine: SqlEngine, connection: Any) -> None:
        ended = threading.Event()

        def cancel() -> None:
            """A statement that has not begun cannot be cancelled: then again."""
            while not ended.wait(0.3):
                engine.cancel(connection, 60.0)

        canceller = threading.Thread(target=cancel)
        canceller.start()
        endless = f"SELECT count(*) FROM ({MANY}) a, ({MANY}) b"
        try:
            assert kind_of(engine, lambda: engine.execute(connection, endless)) is FailureKind.TIMED_OUT
        finally:
            ended.set()
            canceller.join()
        # One that comes late would meet the next statement.
        assert at_last(lambda: rows(engine, connection)) == [(1, "one")]

    def test_timeout(self, engine: SqlEngine, connection: Any, connect: Callable[[Any], Any]) -> None:
        endless = f"SELECT count(*) FROM ({MANY}) a, ({MANY}) b"
        # Where the server stands still for longer than the client's grace, the client is first.
        while (
            kind := kind_of(engine, partial(engine.execute, connection, endless, timeout=0.2))
        ) is FailureKind.LOST:
            connection = connect(engine)
        assert kind is FailureKind.TIMED_OUT
        assert rows(engine, connection) == [(1, "one")]

    def test_closed(self, engine: SqlEngine, connection: Any) -> None:
        engine.close(connection)
        engine.close(connection)
        assert engine.is_broken(connection)
        engine.cancel(connection, 1.0)
        engine.interrupt(connection)
        assert kind_of(engine, lambda: engine.execute(connection, "SELECT 1")) is FailureKind.UNREACHABLE

    def test_ping(self, engine: SqlEngine, connection: Any) -> None:
        engine.ping(connection, 5.0)
        engine.close(connection)
        assert kind_of(engine, lambda: engine.ping(connection, 5.0)) is FailureKind.UNREACHABLE


class TestReadOnly:
    @pytest.fixture
    def frozen(self, sql_engine: Target) -> Any:
        return load(settings_for(sql_engine.url, read_only=True))

    @pytest.mark.parametrize(
        "sql",
        ["INSERT INTO t VALUES (2, 'x')", "UPDATE t SET a = 'x'", "DROP TABLE t", "CREATE TABLE u (a INT)"],
    )
    def test_writes_are_refused(self, frozen: Any, engine: SqlEngine, connection: Any, sql: str) -> None:
        own = frozen.connect(60.0)
        with pytest.raises(Exception) as caught, frozen.read_only(own):
            frozen.execute(own, sql)
        frozen.close(own)
        refused = isinstance(caught.value, Refused)
        assert refused or frozen.classify(caught.value).kind is FailureKind.READ_ONLY
        assert rows(engine, connection) == [(1, "one")]

    def test_reads_pass_and_end_rolled_back(self, frozen: Any, engine: SqlEngine, connection: Any) -> None:
        own = frozen.connect(60.0)
        for _ in range(2):
            with frozen.read_only(own):
                assert rows(frozen, own) == [(1, "one")]
        with frozen.read_only(own), frozen.stream(own, "SELECT a FROM t") as stream:
            assert list(stream) == [[("one",)]]
        assert not frozen.in_transaction(own)
        frozen.close(own)


class TestIntrospection:
    def test_tables(self, engine: Any, connection: Any) -> None:
        engine.execute(connection, "CREATE VIEW v AS SELECT * FROM t")
        assert [(one.name, one.kind) for one in engine.tables(connection)] == [("t", "table"), ("v", "view")]

    def test_describe(self, engine: Any, connection: Any) -> None:
        engine.execute(
            connection,
            "CREATE TABLE u (id INTEGER PRIMARY KEY, t INTEGER, code VARCHAR(9) UNIQUE, "
            "FOREIGN KEY (t) REFERENCES t (id))",
        )
        engine.execute(connection, "CREATE INDEX by_t ON u (t, code)")
        found = engine.describe(connection, "u")
        seen = [(column.name, column.nullable, column.key) for column in found.columns]
        assert seen == [("id", False, "primary"), ("t", True, "foreign"), ("code", True, "unique")]
        by_t = next(index for index in found.indexes if index.name == "by_t")
        assert (by_t.columns, by_t.unique) == (("t", "code"), False)
        assert engine.describe(connection, "nothing") is None

    def test_server(self, engine: Any, connection: Any) -> None:
        assert str(engine.server(connection)["version"])[0].isdigit()
