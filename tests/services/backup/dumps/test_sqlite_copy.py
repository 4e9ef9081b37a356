"""SQLite's backups: the file as it was at one moment, checked and counted."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from katax_cli.engines.sqlite.backup.dump import contents
from katax_cli.services.backup.dumps.sqlite_copy import DUMP
from katax_cli.services.backup.streams import opened
from tests.cli.harness import katax, write_profile
from tests.services.backup.server_of_backups import back_up, left, profile_for, refused


def make(path: Path, rows: int = 3) -> sqlite3.Connection:
    database = sqlite3.connect(path, isolation_level=None)
    database.execute("PRAGMA journal_mode=WAL")
    database.execute('CREATE TABLE "a ""b" (id integer PRIMARY KEY AUTOINCREMENT, text text)')
    database.execute("CREATE VIEW v AS SELECT 1")
    database.execute('CREATE INDEX i ON "a ""b" (text)')
    database.executemany('INSERT INTO "a ""b" (text) VALUES (?)', [("x" * 1000,)] * rows)
    return database


def test_the_copy_is_the_database_of_one_moment(tmp_path: Path) -> None:
    """A write that is open, and one that comes later, are not in it."""
    profile_for(tmp_path, f"sqlite:///{tmp_path}/app.db")
    with (
        closing(make(tmp_path / "app.db", 5000)) as database,
        closing(sqlite3.connect(tmp_path / "app.db", isolation_level=None)) as writer,
    ):
        writer.execute("BEGIN IMMEDIATE")
        writer.execute('DELETE FROM "a ""b"')
        manifest = back_up()
        writer.execute("ROLLBACK")
        before = list(database.iterdump())

    assert manifest.rows == {'a "b': 5000}
    assert manifest.objects == {"index": 1, "table": 1, "view": 1}
    assert [file.path for file in manifest.files] == [DUMP]
    copy = tmp_path / "copy.db"
    with opened(tmp_path / "backups" / manifest.name / DUMP) as pieces, copy.open("wb") as file:
        file.writelines(pieces)
    with closing(sqlite3.connect(copy)) as restored:
        assert list(restored.iterdump()) == before
    assert left(tmp_path) == [manifest.name]
    again = back_up()
    assert (again.server_id, again.schema_hash) == (manifest.server_id, manifest.schema_hash)


def test_a_damaged_file_is_no_backup(tmp_path: Path) -> None:
    profile_for(tmp_path, f"sqlite:///{tmp_path}/app.db")
    with closing(make(tmp_path / "app.db", 500)) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    with (tmp_path / "app.db").open("r+b") as file:
        file.seek(20 * 4096)
        file.write(b"\xff" * 4096)

    code, message = refused()

    assert code == 1
    assert "the database is damaged, says its integrity check" in message
    assert left(tmp_path) == []


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    write_profile(tmp_path, {"main": f"sqlite:///{tmp_path}/nowhere.db"})
    assert refused() == (2, f"'main': there is no file '{tmp_path}/nowhere.db'")
    assert not (tmp_path / "nowhere.db").exists()

    write_profile(tmp_path, {"main": "sqlite:///:memory:"})
    assert refused() == (2, "'main' is in memory; only a file can be backed up")
    assert left(tmp_path) == []


def test_an_interruption_while_a_copy_is_checked_is_one(tmp_path: Path) -> None:
    path = tmp_path / "large.db"
    with closing(sqlite3.connect(path)) as file:
        file.execute("CREATE TABLE t (n int)")
        file.execute(
            "WITH RECURSIVE s(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM s WHERE n < 100000) "
            "INSERT INTO t SELECT n FROM s"
        )
        file.commit()

    def interrupted() -> bool:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        contents(path, stopped=interrupted)


def test_what_needs_functions_of_its_program_is_backed_up(tmp_path: Path) -> None:
    """As a constraint of Django on a regular expression does; a row that breaks one is no damage."""
    profile_for(tmp_path, f"sqlite:///{tmp_path}/app.db")
    with closing(sqlite3.connect(tmp_path / "app.db", isolation_level=None)) as file:
        file.create_function("regexp", 2, lambda pattern, text: True, deterministic=True)
        file.create_function("folded", 1, str.casefold, deterministic=True)
        file.create_collation(
            "back\nwards", lambda one, other: (one[::-1] > other[::-1]) - (one[::-1] < other[::-1])
        )
        for statement in (
            "CREATE TABLE checked (a text CHECK (a REGEXP '^x'), n int CHECK (n > 0))",
            'CREATE TABLE keyed (a text COLLATE "back\nwards" PRIMARY KEY) WITHOUT ROWID',
            "CREATE INDEX by_case ON checked (folded(a))",
            "PRAGMA ignore_check_constraints = ON",
            "INSERT INTO checked VALUES ('x', -1), ('Y', 2)",
            "INSERT INTO keyed VALUES ('ab'), ('ba'), ('c')",
            "CREATE TABLE content (a text)",
            "CREATE VIRTUAL TABLE broken USING fts5 (a, content = 'content')",
            "DROP TABLE content",
        ):
            file.execute(statement)

    manifest = back_up()

    assert {name: count for name, count in manifest.rows.items() if "_" not in name} == {
        "checked": 2,
        "keyed": 3,
    }
    assert katax("db", "backups", "drill", manifest.name, "--embedded").code == 0
    with (tmp_path / "app.db").open("r+b") as damaged:
        damaged.seek(4096)
        damaged.write(b"\xff" * 4096)
    assert refused()[0] == 1
