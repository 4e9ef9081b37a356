"""Many small changes in one MySQL file: few round trips, and still each row exactly once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pymysql
import pytest

from katax_cli.engines.mysql.script import run_script
from katax_cli.errors import StatementFailed
from katax_cli.services.databases.sql import SqlDatabase
from katax_cli.services.migrate.migrator import Migrator
from tests.services.migrate.conftest import Write
from tests.waiting import SECONDS

OpenUrl = Callable[..., SqlDatabase]


def inserts(numbers: range) -> str:
    return ";\n".join(f"INSERT INTO a VALUES ({n}, 'a;b -- {n}') /* row {n} */" for n in numbers)


def rows(database: SqlDatabase) -> list[int]:
    return [row["id"] for row in database.query("SELECT id FROM a ORDER BY id")]


def test_what_came_before_a_refused_change_lasts_and_resume_runs_the_rest(
    mysql_url: str, open_url: OpenUrl, folder: Path, write: Write
) -> None:
    database = open_url(mysql_url)
    migrator = Migrator(database, str(folder))
    create = "CREATE TABLE a (id int PRIMARY KEY, text varchar(50));\n"
    first, rest = inserts(range(700)), inserts(range(701, 1500))
    write("001_a.sql", f"{create}{first};\nINSERT INTO a VALUES (3, 'twice');\n{rest}")

    with pytest.raises(StatementFailed) as error:
        migrator.up()

    assert "failed at line 703" in str(error.value)
    assert "701 of its 1501 statements last" in str(error.value)
    assert rows(database) == list(range(700))
    write("001_a.sql", f"{create}{first};\nINSERT INTO a VALUES (700, 'once');\n{rest}")
    migrator.resume()
    assert rows(database) == list(range(1500))
    assert [one.state for one in migrator.status()] == ["applied"]


def test_changes_that_waited_too_long_for_a_lock_are_made_once(
    mysql_url: str, open_url: OpenUrl, folder: Path, write: Write
) -> None:
    database, other = open_url(mysql_url), open_url(mysql_url)
    database.execute("CREATE TABLE a (id int PRIMARY KEY, text varchar(50))")
    database.execute("INSERT INTO a VALUES (0, 'held')")
    holder = other.begin(timeout=10 * SECONDS)
    holder.execute("UPDATE a SET text = 'mine' WHERE id = 0")
    heard: list[str] = []

    def let_go(note: str) -> None:
        heard.append(note)
        holder.rollback()

    text = f"-- katax: lock-timeout=1s\n{inserts(range(1, 20))};\nUPDATE a SET text = 'b' WHERE id = 0"
    write("001_a.sql", text)

    Migrator(database, str(folder), on_note=let_go).up()

    assert len(heard) == 1
    assert rows(database) == list(range(20))


def test_a_text_of_two_statements_is_refused_before_and_after(mysql_url: str, open_url: OpenUrl) -> None:
    database = open_url(mysql_url)
    database.execute("CREATE TABLE a (id int PRIMARY KEY, text varchar(50))")
    connection = database.get_client()
    try:
        assert run_script(connection, [f"INSERT INTO a VALUES ({n}, '') -- {n}" for n in range(3)]) is None
        refused = run_script(connection, ["INSERT INTO a VALUES (8, '')", "INSERT INTO nosuch VALUES (1)"])
        assert refused is not None
        assert refused[0] == 1
        with pytest.raises(pymysql.err.ProgrammingError):
            connection.query("INSERT INTO a VALUES (9, ''); INSERT INTO a VALUES (10, '')")
    finally:
        database.release(connection)
    assert rows(database) == [0, 1, 2, 8]


def test_many_statements_of_a_transaction_are_undone_together_and_the_refused_one_is_named(
    postgresql_url: str, open_url: OpenUrl, folder: Path, write: Write
) -> None:
    database = open_url(postgresql_url)
    migrator = Migrator(database, str(folder))
    create = "CREATE TABLE a (id int PRIMARY KEY DEFERRABLE INITIALLY DEFERRED, text varchar(50) UNIQUE);\n"
    for row, line in (("INSERT INTO a VALUES (-1, 'a;b -- 3')", 703), ("INSERT INTO a VALUES (3, '')", 1003)):
        write("001_a.sql", f"{create}{inserts(range(700))};\n{row};\n{inserts(range(701, 1001))}")

        with pytest.raises(StatementFailed) as error:
            migrator.up()

        assert f"failed at line {line}: " in str(error.value)
        assert [one.state for one in migrator.status()] == ["pending"]
        assert [table.name for table in database.tables()] == ["katax_migrations"]
    write("001_a.sql", f"{create}{inserts(range(1001))}")
    migrator.up()
    assert rows(database) == list(range(1001))
