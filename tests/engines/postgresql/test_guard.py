"""Ways around PostgreSQL's read-only transaction that do not lead around ours."""

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest

from katax_cli.core.resilience.failure import FailureKind
from katax_cli.engines.postgresql import PostgresEngine, create
from katax_cli.engines.postgresql.failures import classify
from katax_cli.engines.postgresql.session import PostgresConnection
from katax_cli.errors import Refused
from tests.engines.connections import settings_for
from tests.servers import Server
from tests.servers.fresh import fresh_database

SETUP = (
    "CREATE TABLE t (id int)",
    "CREATE SEQUENCE s",
    "CREATE FUNCTION writes() RETURNS int LANGUAGE sql AS 'INSERT INTO t VALUES (1) RETURNING id'",
    "CREATE PROCEDURE commits() LANGUAGE plpgsql AS 'BEGIN COMMIT; INSERT INTO t VALUES (1); END'",
    """CREATE FUNCTION sets() RETURNS int LANGUAGE plpgsql AS $$BEGIN
        SET transaction_read_only = off; INSERT INTO t VALUES (1); RETURN 1; END$$""",
)
WRITES = (
    "INSERT INTO t VALUES (1)",
    "WITH x AS (INSERT INTO t VALUES (1) RETURNING id) SELECT * FROM x",
    "SELECT * INTO copied FROM t",
    "CREATE TABLE made ()",
    "CREATE TEMP TABLE t2 AS SELECT nextval('s')",
    "TRUNCATE t",
    "SELECT nextval('s')",
    "SELECT setval('s', 5)",
    "SELECT writes()",
    "SELECT sets()",
    "CALL commits()",
    "EXPLAIN ANALYZE INSERT INTO t VALUES (1)",
    "SELECT query_to_xml('DELETE FROM t', true, false, '')",
    "SELECT * FROM t FOR UPDATE",
    "BEGIN READ WRITE",
    "SET TRANSACTION READ WRITE",
    "SET transaction_read_only = off",
    "SELECT set_config('transaction_read_only', 'off', false)",
    "COMMIT; INSERT INTO t VALUES (1)",
    "ROLLBACK; INSERT INTO t VALUES (1)",
    "SELECT 1; INSERT INTO t VALUES (1)",
    "VACUUM t",
    "ALTER SYSTEM SET work_mem = '8MB'",
)
# Accepted by the server: each ends with the transaction, and what comes after it is refused or read-only.
FIRST_STEPS = (
    "COMMIT",
    "ROLLBACK",
    "COMMIT AND CHAIN",
    "SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE",
    "SET default_transaction_read_only = off",
    "PREPARE x AS INSERT INTO t VALUES (1)",
    "SELECT lo_create(4711)",
    "LISTEN somewhere",
)
REFUSED = {
    "COPY t TO '/tmp/katax-leak'": "COPY TO",
    "COPY t FROM '/etc/passwd'": "COPY FROM",
    "COPY t TO PROGRAM 'touch /tmp/katax-leak'": "COPY TO",
    " /* x */ copy (SELECT 1) TO PROGRAM 'true'": "COPY TO",
    "DO $$ BEGIN EXECUTE 'COPY t TO PROGRAM ''true'''; END $$": "DO",
    "DO $$ BEGIN COMMIT; INSERT INTO t VALUES (1); END $$": "DO",
    "SELECT lo_export(1, '/tmp/katax-leak')": "lo_export",
    "SELECT pg_catalog.\"lo_export\"(1, '/tmp/katax-leak')": "lo_export",
    "SELECT LO_EXPORT(1, '/tmp/katax-leak')": "lo_export",
    "SELECT pg_create_physical_replication_slot('katax_leak')": "pg_create_physical_replication_slot",
    "SELECT pg_catalog.pg_drop_replication_slot('katax_leak')": "pg_drop_replication_slot",
    "SELECT 1 FROM t WHERE pg_terminate_backend(0)": "pg_terminate_backend",
    "SELECT pg_stat_reset()": "pg_stat_reset",
    "SELECT pg_logical_emit_message(false, 'a', 'b')": "pg_logical_emit_message",
    "SELECT * FROM dblink('', 'DELETE FROM t RETURNING 1') AS x(i int)": "dblink",
    "SELECT ext . \"dblink_send_query\" /* x */ ('c', 'DELETE FROM t')": "dblink_send_query",
    "SELECT * FROM run_command_on_workers('DELETE FROM t')": "run_command_on_workers",
    'SELECT U&"pg\\005fstat_reset"()': 'U&"…"',
    "SELECT query_to_xml('SELECT pg_stat_reset()', true, false, '')": "pg_stat_reset",
    "SELECT query_to_xml(query => $a$SELECT pg_stat_reset()$a$, nulls => true, tableforest => false, targetns => '')": (
        "pg_stat_reset"
    ),
    "SELECT query_to_xml('SELECT query_to_xml(''SELECT pg_stat_reset()'', true, false, '''')', true, false, '')": (
        "pg_stat_reset"
    ),
    "SELECT query_to_xml(format('SELECT pg_stat_reset(), %I FROM t', 'id'), true, false, '')": "pg_stat_reset",
    "SELECT query_to_xml(format('SELECT %I()', 'pg_stat_reset'), true, false, '')": "query_to_xml",
    "SELECT query_to_xml(format('SELECT %I /* x */ ()', 'pg_stat_reset'), true, false, '')": "query_to_xml",
    "SELECT query_to_xml(format('SELECT %Ireset()', 'pg_stat_'), true, false, '')": "query_to_xml",
    "SELECT query_to_xml(format('SELECT \"%1$I\"()', 'pg_stat_reset'), true, false, '')": "query_to_xml",
    "SELECT query_to_xml(format('SELECT %s', 'pg_stat_reset()'), true, false, '')": "query_to_xml",
    "SELECT query_to_xml('SELECT pg_stat_'||'reset()', true, false, '')": "query_to_xml",
    "SELECT query_to_xml(E'SELECT pg\\x5fstat_reset()', true, false, '')": "query_to_xml",
    "SELECT query_to_xml('SELECT pg_stat_'\n'reset()', true, false, '')": "query_to_xml",
    "SELECT query_to_xml_and_xmlschema(x, true, false, '') FROM (VALUES ('SELECT 1')) AS y(x)": (
        "query_to_xml_and_xmlschema"
    ),
    "SELECT * FROM ts_stat('SELECT to_tsvector(pg_switch_wal()::text)')": "pg_switch_wal",
    "SELECT ts_rewrite('a'::tsquery, 'SELECT ''a''::tsquery, (SELECT ''b''::tsquery FROM pg_switch_wal())')": (
        "pg_switch_wal"
    ),
}


Pair = tuple[PostgresEngine, PostgresConnection]


@contextmanager
def connected(url: str, *, read_only: bool = False) -> Iterator[Pair]:
    engine = create(settings_for(url, read_only=read_only))
    connection = engine.connect(60.0)
    yield engine, connection
    engine.close(connection)


@contextmanager
def owning(url: str) -> Iterator[Pair]:
    """A connection that may write, and what the attempts need."""
    with connected(url) as (engine, connection):
        for statement in SETUP:
            engine.execute(connection, statement)
        yield engine, connection


@pytest.fixture
def owner(postgresql_url: str) -> Iterator[Pair]:
    with owning(postgresql_url) as pair:
        yield pair


@pytest.fixture(scope="module")
def unharmed_url(postgresql: Server) -> Iterator[str]:
    """A database that nothing may change, so that all attempts can share it."""
    with fresh_database(postgresql) as url:
        yield url


@pytest.fixture(scope="module")
def onlooker(unharmed_url: str) -> Iterator[Pair]:
    """Who owns what the attempts are after."""
    with owning(unharmed_url) as pair:
        yield pair


@pytest.fixture(params=[False, True], ids=["writable connection", "read-only connection"])
def guarded(request: pytest.FixtureRequest, unharmed_url: str, onlooker: Pair) -> Iterator[Pair]:
    with connected(unharmed_url, read_only=request.param) as pair:
        yield pair


def state(owner: Pair) -> list[object]:
    engine, connection = owner
    sql = """SELECT (SELECT count(*) FROM t), (SELECT is_called FROM s),
        (SELECT count(*) FROM pg_class WHERE relname IN ('copied', 'made', 't2')),
        (SELECT count(*) FROM pg_largeobject_metadata)"""
    return list(engine.execute(connection, sql).rows[0])


@pytest.mark.parametrize("sql", WRITES)
def test_writes_are_refused_by_the_server(onlooker: Pair, guarded: Pair, sql: str) -> None:
    engine, connection = guarded
    with engine.read_only(connection), pytest.raises(psycopg.Error) as error:
        engine.execute(connection, sql)
    assert classify(error.value).kind in (FailureKind.READ_ONLY, FailureKind.REJECTED)
    assert state(onlooker) == [0, False, 0, 0]
    assert not engine.in_transaction(connection)
    assert engine.execute(connection, "SELECT 1").rows == [(1,)]


@pytest.mark.parametrize("sql", FIRST_STEPS)
@pytest.mark.parametrize("then", ["INSERT INTO t VALUES (1)", "EXECUTE x"])
def test_a_first_step_leads_nowhere(onlooker: Pair, guarded: Pair, sql: str, then: str) -> None:
    engine, connection = guarded
    with engine.read_only(connection):
        engine.execute(connection, sql)
        with pytest.raises((psycopg.Error, Refused)):
            engine.execute(connection, then)
    assert state(onlooker) == [0, False, 0, 0]


@pytest.mark.parametrize("sql", REFUSED)
def test_files_and_programs_of_the_server_are_refused(guarded: Pair, sql: str) -> None:
    engine, connection = guarded
    acts = (
        lambda: engine.execute(connection, sql),
        lambda: engine.execute_many(connection, sql, [()]),
        lambda: engine.stream(connection, sql).__enter__(),
    )
    with engine.read_only(connection):
        for act in acts:
            with pytest.raises(Refused) as error:
                act()
            assert str(error.value).startswith(f"refused: {REFUSED[sql]} on a read-only connection")


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT 'COPY', $$DO$$ AS lo",
        "SELECT 1 AS copy",
        "SELECT 1 AS dblink_name",
        "SELECT 'a'::tsquery AS query_to_xml",
        "SELECT query_to_xml('SELECT id FROM t'::text, true, false, 'a:b')",
        "SELECT query_to_xml(format('SELECT count(*) FROM %I.%I', schemaname, tablename), false, true, '') "
        "FROM pg_tables WHERE tablename = 't'",
        "SELECT ts_rewrite(a, a, a) FROM (VALUES ('a'::tsquery)) AS b(a)",
    ],
)
def test_reading_is_not_in_the_way(guarded: Pair, sql: str) -> None:
    engine, connection = guarded
    with engine.read_only(connection):
        assert len(engine.execute(connection, sql).rows) == 1
    with engine.read_only(connection), engine.stream(connection, sql, text=True) as rows:
        assert len(list(rows)) == 1


def test_outside_the_guard_everything_runs(owner: Pair) -> None:
    engine, connection = owner
    engine.execute(connection, "DO $$ BEGIN INSERT INTO t VALUES (1); END $$")
    with engine.read_only(connection):
        engine.execute(connection, "SELECT 1")
    engine.execute(connection, "INSERT INTO t VALUES (2)")
    assert state(owner) == [2, False, 0, 0]


def test_not_inside_another_transaction(owner: Pair) -> None:
    engine, connection = owner
    engine.execute(connection, "BEGIN")
    engine.execute(connection, "INSERT INTO t VALUES (1)")
    with pytest.raises(Refused) as error, engine.read_only(connection):
        pytest.fail("it began")
    assert str(error.value).startswith("refused: a transaction is open on 'main'")
    engine.execute(connection, "COMMIT")
    assert state(owner)[0] == 1


def test_a_server_that_does_not_confirm(owner: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    engine, connection = owner
    monkeypatch.setattr("katax_cli.engines.postgresql.guard._BEGIN", b"BEGIN READ WRITE")
    with pytest.raises(Refused) as error, engine.read_only(connection):
        pytest.fail("it began")
    assert str(error.value) == "refused: 'main' did not confirm that the transaction is read-only"
    assert engine.is_broken(connection)
