"""Statements whose effect no definition proves: `kill -9` between them leads to no silent repeat and no silent skip."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from katax_cli.errors import OutcomeUnknown
from katax_cli.services.databases.sql import SqlDatabase
from katax_cli.services.migrate.access import migrates
from katax_cli.services.migrate.connection import MigrationConnection
from katax_cli.services.migrate.migrator import Migrator
from tests.servers.fixtures import MakeFresh
from tests.services.migrate.conftest import Write
from tests.services.migrate.killable import PATIENCE
from tests.services.migrate.test_killed import runners as runners

OpenUrl = Callable[..., SqlDatabase]
Unit = tuple[str, str | None]
"""A statement, and for one that resume may ask about the query that says 1 when it was done."""

SETUP = {
    "mysql": [
        "CREATE TABLE people (id int PRIMARY KEY) PARTITION BY RANGE (id) (PARTITION p VALUES LESS THAN (9))",
        "CREATE TABLE guests (id int PRIMARY KEY)",
        "INSERT INTO guests VALUES (1), (2)",
        "CREATE TABLE log_b (id int) ENGINE=MyISAM",
        "CREATE TABLE noted (id int) ENGINE=MyISAM",
        "CREATE FUNCTION note(n int) RETURNS int DETERMINISTIC MODIFIES SQL DATA "
        "BEGIN INSERT INTO noted VALUES (n); RETURN n; END",
    ],
    "postgresql": [
        "CREATE TABLE base (id int, day int)",
        "CREATE TABLE child (id int, day int)",
        "CREATE TABLE parted (id int) PARTITION BY RANGE (id)",
        "CREATE TABLE part (id int)",
        "CREATE PROCEDURE twice() LANGUAGE plpgsql AS $$ BEGIN INSERT INTO part VALUES (2); COMMIT; "
        "INSERT INTO part VALUES (3); END $$",
    ],
}
STATEMENTS: dict[str, list[Unit]] = {
    "mysql": [
        ("ALTER TABLE people EXCHANGE PARTITION p WITH TABLE guests", "SELECT count(*) > 0 FROM people"),
        ("CREATE TABLE log_a (id int) ENGINE=MyISAM", None),
        ("INSERT INTO log_a SELECT id FROM people", "SELECT count(*) > 0 FROM log_a"),
        ("RENAME TABLE log_a TO log_c, log_b TO log_a, log_c TO log_b", "SELECT count(*) > 0 FROM log_b"),
        ("CREATE TABLE copied SELECT id FROM people", "SELECT count(*) FROM information_schema.tables WHERE "
         "table_schema = DATABASE() AND table_name = 'copied'"),
        ("BEGIN", None),
        ("INSERT INTO guests VALUES (3)", None),
        ("ALTER TABLE guests ADD COLUMN name varchar(20)", None),
        ("INSERT INTO guests VALUES (4, 'x')", None),
        ("BEGIN", None),
        ("UPDATE guests SET name = concat(coalesce(name, ''), '!')", None),
        ("COMMIT", None),
        ("TRUNCATE TABLE log_b", "SELECT count(*) = 0 FROM log_b"),
        ("RENAME TABLE guests TO visitors", None),
        ("SET @x = note(1)", "SELECT count(*) FROM noted WHERE id = 1"),
        ("SET GLOBAL max_error_count = note(64)", "SELECT count(*) FROM noted WHERE id = 64"),
        ("/*M! SET STATEMENT max_statement_time = 60 FOR */ INSERT INTO noted VALUES (2)",
         "SELECT count(*) FROM noted WHERE id = 2"),
        ("/*M! ANALYZE */ INSERT INTO noted VALUES (3)", "SELECT count(*) FROM noted WHERE id = 3"),
    ],
    "postgresql": [
        ("ALTER TABLE child INHERIT base", None),
        ("ALTER TABLE parted ATTACH PARTITION part FOR VALUES FROM (0) TO (9)", None),
        ("CREATE INDEX ON child (day)", None),
        ("CREATE INDEX CONCURRENTLY ON child (id)", None),
        ("CALL twice()", "SELECT count(*) / 2 FROM part"),
        ("ALTER TABLE parted DETACH PARTITION part CONCURRENTLY", "SELECT 1 - count(*) FROM pg_inherits "
         "WHERE inhrelid = 'part'::regclass"),
        ("ALTER TABLE part ALTER COLUMN id TYPE int USING id + 1", None),
    ],
}  # fmt: skip


def state_of(database: SqlDatabase) -> dict[str, object]:
    with MigrationConnection(database) as session:
        schema = session.ask(migrates(database).definitions, None)
    names = [key.rpartition(" ")[2].rpartition(".")[2] for key in schema if key.startswith("table ")]
    rows = {name: database.query(f"SELECT * FROM {name} ORDER BY 1") for name in names if "katax" not in name}
    return {**schema, **rows}


def empty(database: SqlDatabase) -> None:
    """Drops everything: sooner done than a new database is made."""
    name = "public" if database.engine.dialect == "postgresql" else database.settings.database
    database.execute(f"DROP SCHEMA {name}{' CASCADE' if name == 'public' else ''}")
    database.execute(f"CREATE SCHEMA {name}")


def set_up(database: SqlDatabase) -> None:
    for sql in SETUP["postgresql" if database.engine.dialect == "postgresql" else "mysql"]:
        database.execute(sql)


def answered(migrator: Migrator, database: SqlDatabase, units: list[Unit]) -> str | None:
    """Resumes, and says what the data say where that is asked; returns the statement that was asked about."""
    try:
        migrator.resume()
    except OutcomeUnknown as error:
        line = re.search(r"line (\d+) of", str(error))
        assert line is not None
        sql, probe = units[int(line[1]) - 3]
        assert probe is not None, sql
        done = next(iter(database.query(probe)[0].values()))
        migrator.resume(assume="done" if int(str(done)) else "undone")
        return sql
    return None


@pytest.mark.begins_first
@pytest.mark.parametrize("engine", ["mysql", "postgresql"])
def test_a_kill_between_any_two_statements_repeats_and_skips_none(
    engine: str, fresh: MakeFresh, open_url: OpenUrl, folder: Path, write: Write, runners: Callable[..., int]
) -> None:
    units = STATEMENTS[engine]
    text = ";\n".join(sql for sql, _ in units)
    write("001_a.sql", f"-- katax: no-transaction\n{text}")
    target = fresh(engine)
    clean = open_url(target.url)
    set_up(clean)
    Migrator(clean, str(folder)).up()
    wanted = state_of(clean)
    empty(clean)
    clean.close()
    number, status = 0, -9
    asked: set[str | None] = set()
    while status == -9:
        number += 1
        with open_url(target.url) as bare:
            set_up(bare)
        status = runners(target.url, folder, number, "up")
        database = open_url(target.url)
        migrator = Migrator(database, str(folder), lock_timeout=PATIENCE)
        asked.add(answered(migrator, database, units))
        migrator.up()
        assert state_of(database) == wanted, f"killed at exchange {number}"
        empty(database)
        database.close()
    assert status == 0
    assert number > len(units)
    assert asked == {None, *(sql for sql, probe in units if probe)}


def test_a_set_whose_function_writes_runs_it_once(
    fresh: MakeFresh, open_url: OpenUrl, folder: Path, write: Write, runners: Callable[..., int]
) -> None:
    write(
        "001_a.sql",
        "CREATE TABLE noted (id int);\nCREATE FUNCTION note(n int) RETURNS int DETERMINISTIC MODIFIES SQL DATA "
        "BEGIN INSERT INTO noted VALUES (n); RETURN n; END;\nSET @x = note(1);\nSET @y = (SELECT id FROM noted);\n"
        "CREATE TABLE a (id int);\nCREATE TABLE b (id int)",
    )
    target = fresh("mysql")
    number, status = 0, -9
    while status == -9:
        number += 1
        status = runners(target.url, folder, number, "up")
        database = open_url(target.url)
        migrator = Migrator(database, str(folder), lock_timeout=PATIENCE)
        migrator.resume()
        migrator.up()
        assert database.query("SELECT id FROM noted") == [{"id": 1}], f"killed at exchange {number}"
        empty(database)
        database.close()
    assert status == 0
    assert number > 15
