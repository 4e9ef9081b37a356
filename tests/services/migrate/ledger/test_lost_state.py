"""What a killed runner's session had: repeated where that is the same, else refused by its line, never guessed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from katax_cli.core.sql import Dialect, split
from katax_cli.errors import MigrationError, StatementFailed
from katax_cli.services.databases.sql import SqlDatabase
from katax_cli.services.migrate.ledger.lost_state import lost_state
from katax_cli.services.migrate.migrator import Migrator
from tests.servers.fixtures import MakeFresh
from tests.services.migrate.conftest import Write

OpenUrl = Callable[..., SqlDatabase]
CASES: list[tuple[Dialect, str, str, str | None]] = [
    ("mysql", "SET @a = 5, @b = @a", "INSERT INTO t VALUES (@a, @b)", None),
    ("mysql", "SET @old = @@sql_mode; SET sql_mode = concat(@@sql_mode, '')", "SET sql_mode = @old", None),
    ("mysql", "SET @id = last_insert_id()", "INSERT INTO t VALUES (@ID)", "@id"),
    ("mysql", "SET @n = (SELECT count(*) FROM t); SET @m = @n", "DELETE FROM t WHERE id = @m", "@m"),
    ("mysql", "SELECT max(id) INTO @id FROM t", "INSERT INTO t VALUES (@id)", "@id"),
    ("mysql", "SELECT @id := max(id) FROM t", "INSERT INTO t VALUES (@id)", "@id"),
    ("mysql", "SELECT 1 INTO @id; SET @id = 2", "INSERT INTO t VALUES (@id)", None),
    ("mysql", "SELECT 1 INTO @id", "SET @id = 2; INSERT INTO t VALUES (@id)", None),
    ("mysql", "SELECT 1 INTO @id", "SELECT 2 INTO @id; INSERT INTO t VALUES (@id)", None),
    ("mysql", "SELECT 1 INTO @id", "SET @id = @id + 1", "@id"),
    ("mysql", "INSERT INTO t VALUES ()", "INSERT INTO u VALUES (LAST_INSERT_ID())", "last_insert_id"),
    ("mysql", "INSERT INTO t VALUES ()", "INSERT INTO t VALUES (); DO last_insert_id()", None),
    ("mysql", "CREATE TABLE t (id int)", "INSERT INTO t VALUES ('@id'), (last_insert_id())", None),
    ("mysql", "CREATE TEMPORARY TABLE IF NOT EXISTS `t` (id int)", "INSERT INTO T VALUES (1)", "t"),
    ("mysql", "CREATE TEMPORARY TABLE t (id int); DROP TABLE t", "INSERT INTO t VALUES (1)", None),
    ("mysql", "CREATE TEMPORARY TABLE t (id int)", "DROP TEMPORARY TABLE IF EXISTS t", None),
    ("mysql", "CREATE TEMPORARY TABLE t (id int)", "DROP TABLE IF EXISTS t", "t"),
    ("mysql", "SET @x = bump()", "INSERT INTO t VALUES (@x)", "@x"),
    ("mysql", "SET STATEMENT max_statement_time = (9) FOR SELECT 1 INTO @x", "SELECT @x", "@x"),
    ("mysql", "SET SESSION sql_mode = my_mode(a = 1)", "DELETE FROM t", "the setting sql_mode"),
    ("mysql", "SET sort_buffer_size = (SELECT n FROM t)", "DELETE FROM t", "the setting sort_buffer_size"),
    ("mysql", "SET sql_mode = my_mode()", "SET @a = 1, @@session.sql_mode = ''; DELETE FROM t", None),
    ("mysql", "SET sql_mode = my_mode(); SET sql_mode = ''", "DELETE FROM t", None),
    ("mysql", "SET sql_mode = (SELECT replace(@@sql_mode, 'A', ''))", "DELETE FROM t", None),
    ("mysql", "SET GLOBAL max_connections = wanted()", "DELETE FROM t", None),
    ("postgresql", "CREATE TEMP TABLE t AS SELECT 1 AS id", "INSERT INTO u SELECT * FROM t", "t"),
    ("postgresql", "CREATE TEMP TABLE t AS SELECT 1 AS id", "CREATE TEMP TABLE t (id int); TABLE t", None),
    ("sqlite", "CREATE TEMP TABLE t (id int)", "DROP TABLE t", "t"),
]


def test_what_is_read_and_cannot_be_repeated_is_named() -> None:
    for dialect, done, rest, wanted in CASES:
        found = lost_state(list(split(done, dialect)), list(split(rest, dialect)), dialect)
        assert (found and found.name) == wanted, (done, rest)


def test_resume_refuses_a_value_of_the_lost_session_until_the_file_gives_it(
    mysql_url: str, open_url: OpenUrl, folder: Path, write: Write
) -> None:
    text = (
        "CREATE TABLE a (id int AUTO_INCREMENT PRIMARY KEY);\nCREATE TABLE b (id int);\nINSERT INTO a VALUES ();\n"
        "SET @id = last_insert_id();\nALTER TABLE late ADD x int;\n%sINSERT INTO b VALUES (@id);\n"
    )
    write("001_a.sql", text % "")
    database = open_url(mysql_url)
    with pytest.raises(StatementFailed, match="late"):
        Migrator(database, str(folder)).up()
    database.execute("CREATE TABLE late (id int)")
    with pytest.raises(MigrationError, match=r"line \d+ of 001_a.sql reads @id, which was lost"):
        Migrator(database, str(folder)).resume()
    assert database.query("SELECT * FROM b") == []
    write("001_a.sql", text % "SET @id = 1;\n")
    Migrator(database, str(folder)).resume()
    assert database.query("SELECT * FROM b") == [{"id": 1}]


def test_resume_repeats_set_config(fresh: MakeFresh, open_url: OpenUrl, folder: Path, write: Write) -> None:
    write(
        "001_a.sql",
        "-- katax: no-transaction\nCREATE TABLE a (v text);\nSELECT pg_catalog.set_config('my.x', 'kept', false);\n"
        "CREATE INDEX CONCURRENTLY ON a (v);\nALTER TABLE late ADD x int;\n"
        "INSERT INTO a VALUES (current_setting('my.x', true));\n",
    )
    database = open_url(fresh("postgresql").url)
    with pytest.raises(StatementFailed, match="late"):
        Migrator(database, str(folder)).up()
    database.execute("CREATE TABLE late (id int)")
    Migrator(database, str(folder)).resume()
    assert database.query("SELECT * FROM a") == [{"v": "kept"}]
