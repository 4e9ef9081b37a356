"""Statements and files that are longer than what a server takes in one packet."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from katax_cli.errors import MigrationError, StatementFailed
from katax_cli.services.databases.sql import SqlDatabase
from katax_cli.services.migrate.migrator import Migrator
from tests.servers.fixtures import Throwaway
from tests.services.migrate.conftest import Write
from tests.services.migrate.test_migrator import states

NO = "-- katax: no-transaction\n"


def long_file(rows: int) -> str:
    """Of 100 kB for each row: statements of moderate size, together longer than a packet."""
    return ";\n".join(f"INSERT INTO a VALUES ('{number:010}{'äx' * 50_000}')" for number in range(rows))


def test_sizes_are_checked_beforehand_and_long_texts_are_kept(
    throwaway: Throwaway, open_url: Callable[..., SqlDatabase], folder: Path, write: Write
) -> None:
    server = throwaway("mysql", settings={"max-allowed-packet": "1M"})
    database = open_url(server.url)
    migrator = Migrator(database, str(folder))
    write("001_a.sql", "CREATE TABLE a (t longtext)", "DROP TABLE a")
    path = write("002_b.sql", f"INSERT INTO a VALUES ('x');\nINSERT INTO a VALUES ('{'x' * 1_048_576}')")
    with pytest.raises(MigrationError, match=r"at line 3, and the server takes 1048576 .*; nothing was run"):
        migrator.up()
    assert database.query("SELECT count(*) AS n FROM a") == [{"n": 0}]
    assert states(migrator) == [("001_a.sql", "applied"), ("002_b.sql", "pending")]

    write("002_b.sql", long_file(20), "DELETE FROM a")
    text = path.read_text()
    migrator.up()
    assert migrator.up() == []
    assert database.query("SELECT count(*) AS n FROM a") == [{"n": 20}]
    assert migrator.ledger.body(database, "002") == text
    path.write_text(text + "-- a remark\n")
    ((_, lines),) = migrator.changed()
    assert "+-- a remark" in [line.strip() for line in lines]
    migrator.repair()
    path.unlink()
    assert [one.name for one in migrator.down()] == ["002_b.sql"]
    assert database.query("SELECT count(*) AS n FROM a") == [{"n": 0}]
    assert database.query("SELECT count(*) AS n FROM katax_migrations") == [{"n": 1}]


def test_a_long_text_lasts_and_a_row_of_an_earlier_version_is_read(
    migrator: Migrator, database: SqlDatabase, write: Write
) -> None:
    """Earlier versions kept every text in its row."""
    write(
        "001_a.sql",
        "CREATE TABLE a (t text)" if database.engine.dialect != "mysql" else "CREATE TABLE a (t longtext)",
    )
    path = write("002_b.sql", f"{NO}{long_file(3)}", "DELETE FROM a")
    migrator.up()
    text = path.read_text()
    assert migrator.ledger.body(database, "002") == text
    database.execute("DELETE FROM katax_migrations WHERE state = 'text'")
    database.execute("UPDATE katax_migrations SET body = ? WHERE version = '002'", [text])
    path.write_text(text.replace("DELETE", "delete"))
    assert states(migrator)[1] == ("002_b.sql", "applied")
    path.unlink()
    assert [one.name for one in migrator.down()] == ["002_b.sql"]

    write("003_c.sql", f"{NO}{long_file(2)};\nSELECT nope")
    with pytest.raises(StatementFailed):
        migrator.up()
    (given_up,) = migrator.abandon()
    assert len(given_up.lasting) == 2
    assert database.query("SELECT count(*) AS n FROM katax_migrations") == [{"n": 1}]
