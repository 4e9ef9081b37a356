"""plan, verify, rehearse and dump on real servers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from katax_cli.errors import StatementFailed, Unavailable
from katax_cli.services.databases.sql import SqlDatabase
from katax_cli.services.migrate.dump import dump
from katax_cli.services.migrate.forecast import Forecast, forecast
from katax_cli.services.migrate.migrator import Migrator
from katax_cli.services.migrate.rehearse import rehearse
from katax_cli.services.migrate.verify import verify
from katax_cli.services.tables.scratch import open_settings
from tests.servers.fixtures import MakeFresh
from tests.services.migrate.conftest import Write
from tests.waiting import SECONDS

OpenUrl = Callable[..., SqlDatabase]


@pytest.fixture
def on_postgresql(fresh: MakeFresh, open_url: OpenUrl, folder: Path) -> Migrator:
    return Migrator(open_url(fresh("postgresql").url), str(folder))


def facts(one: Forecast) -> tuple[object, ...]:
    return (one.lock, one.on, one.transactional, one.rewrites)


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("CREATE INDEX i ON a (id)", ("SHARE", "a", True, False)),
        (
            "CREATE INDEX CONCURRENTLY i ON public.a (id)",
            ("SHARE UPDATE EXCLUSIVE", "public.a", False, False),
        ),
        ("ALTER TABLE a ALTER COLUMN id TYPE bigint", ("ACCESS EXCLUSIVE", "a", True, True)),
        ("ALTER TABLE ONLY a ADD COLUMN b text", ("ACCESS EXCLUSIVE", "a", True, False)),
        ("ALTER TABLE a VALIDATE CONSTRAINT c", ("SHARE UPDATE EXCLUSIVE", "a", True, False)),
        ("UPDATE a SET id = 1 WHERE id = 2", ("ROW EXCLUSIVE", "a", True, False)),
        ("CREATE TABLE b (id integer)", (None, None, True, False)),
        ("VACUUM FULL a", ("ACCESS EXCLUSIVE", "a", False, True)),
    ],
)
def test_the_lock_of_a_statement(
    on_postgresql: Migrator, write: Write, statement: str, expected: tuple[object, ...]
) -> None:
    write("001_a.sql", statement)

    [one] = forecast(on_postgresql)

    assert facts(one) == expected


def test_who_is_in_the_way_and_what_would_be_gentler(
    on_postgresql: Migrator, write: Write, open_url: OpenUrl
) -> None:
    write("001_a.sql", "CREATE TABLE a (id integer)")
    on_postgresql.up()
    write("002_i.sql", "CREATE INDEX i ON a (id)")

    with on_postgresql.sql.transaction() as other:
        other.query("SELECT * FROM a")
        [one] = forecast(on_postgresql)

    assert len(one.blockers) == 1
    assert "holds AccessShareLock" in one.blockers[0]
    assert one.advice == "CREATE INDEX CONCURRENTLY with '-- katax: no-transaction'"


def test_a_lock_that_is_not_granted_in_time_is_tried_again(
    on_postgresql: Migrator, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("001_a.sql", "CREATE TABLE a (id integer)")
    on_postgresql.up()
    write("002_b.sql", "-- katax: lock-timeout=50ms\nALTER TABLE a ADD COLUMN b text")
    notes: list[str] = []
    blocker = on_postgresql.sql.begin(timeout=10 * SECONDS)
    blocker.query("SELECT * FROM a")

    def note(text: str) -> None:
        notes.append(text)
        if blocker.open:
            blocker.rollback()

    on_postgresql._on_note = note
    on_postgresql.up()

    assert notes
    assert "002_b.sql: canceling statement due to lock timeout (55P03); retrying in" in notes[0]
    assert [one.state for one in on_postgresql.status()] == ["applied", "applied"]
    assert on_postgresql.sql.query("SHOW lock_timeout") == [{"lock_timeout": "0"}]


def test_a_shorter_lock_timeout_of_the_database_stands(on_postgresql: Migrator, write: Write) -> None:
    name = on_postgresql.sql.settings.database
    on_postgresql.sql.execute(f"ALTER DATABASE {name} SET lock_timeout = '400ms'")
    on_postgresql.sql.close()
    on_postgresql.sql.connect()
    look = "CREATE TABLE {} AS SELECT current_setting('lock_timeout') AS seen"
    write("001_a.sql", "-- katax: lock-timeout=10s\n" + look.format("a"))
    write("002_b.sql", "-- katax: lock-timeout=20ms\n" + look.format("b"))
    on_postgresql.up()

    seen = on_postgresql.sql.query(
        "SELECT a.seen AS a, b.seen AS b, current_setting('lock_timeout') AS own FROM a, b"
    )
    assert seen == [{"a": "400ms", "b": "20ms", "own": "400ms"}]


def test_a_statement_timeout_ends_the_statement(on_postgresql: Migrator, write: Write) -> None:
    write("001_a.sql", "-- katax: statement-timeout=100ms\nSELECT pg_sleep(30)")

    with pytest.raises(Unavailable) as error:
        on_postgresql.up()

    assert "001_a.sql, line " in str(error.value)
    assert [one.state for one in on_postgresql.status()] == ["pending"]


def test_an_index_that_was_built_in_part_is_found_and_dropped_on_request(
    on_postgresql: Migrator, write: Write
) -> None:
    write("001_a.sql", "CREATE TABLE a (id integer); INSERT INTO a VALUES (1), (1)")
    on_postgresql.up()
    write("002_i.sql", "-- katax: no-transaction\nCREATE UNIQUE INDEX CONCURRENTLY i ON a (id)")

    with pytest.raises(StatementFailed) as error:
        on_postgresql.up()
    assert "the invalid index public.i: 'katax migrate resume --drop-invalid' drops it" in str(error.value)
    on_postgresql.sql.execute("DELETE FROM a WHERE ctid = (SELECT min(ctid) FROM a)")

    assert [one.name for one in on_postgresql.resume(drop_invalid=True)] == ["002_i.sql"]
    described = on_postgresql.sql.describe("a")
    assert described is not None
    assert [index.name for index in described.indexes] == ["i"]


def test_verify_tells_what_holds_and_changes_nothing(migrator: Migrator, write: Write) -> None:
    text = (
        "-- UP\nCREATE TABLE a (id integer);\n-- VERIFY\nSELECT id FROM a WHERE 1 = 0;\n"
        "INSERT INTO a VALUES (1);\nSELECT 1 = 0;\nSELECT nope FROM a;\n"
        "DROP TABLE a;\nCOMMIT;\n-- DOWN\nDROP TABLE a;\n"
    )
    write("001_a.sql", raw=text.encode())
    write("002_b.sql", "CREATE TABLE b (id integer)")
    migrator.up()

    proofs = verify(migrator)

    undoes_ddl = migrator.dialect != "mysql"
    assert [(one.line, one.ok) for one in proofs] == [
        *((4, True), (5, True), (6, False), (7, False)),
        *((8, undoes_ddl), (9, False)),
    ]
    assert proofs[5].message == "no transaction undoes COMMIT, so it was not run"
    assert str(proofs[2].message).lower() in ("answered 0", "answered false")
    assert "nope" in str(proofs[3].message)
    assert migrator.sql.query("SELECT * FROM a") == []


def test_a_rehearsal_finds_what_down_leaves_behind(
    migrator: Migrator, database: SqlDatabase, write: Write
) -> None:
    write("001_a.sql", "CREATE TABLE a (id integer)", "DROP TABLE a")
    migrator.up()
    write("002_b.sql", "CREATE TABLE b (id integer); CREATE INDEX a_id ON a (id)", "DROP TABLE b")

    found = rehearse(migrator, open_settings)

    assert found.migrations == ("002_b.sql",)
    assert not found.ok
    assert any("a_id" in line for line in found.left_by_down)


def test_a_rehearsal_that_goes_well_touches_nothing(
    migrator: Migrator, database: SqlDatabase, write: Write, open_url: OpenUrl
) -> None:
    write("001_a.sql", "CREATE TABLE a (id integer)", "DROP TABLE a")
    settings = database.settings

    assert rehearse(migrator, open_settings).ok
    with open_settings(settings) as again:
        assert again.tables() == []


def test_dump_has_the_schema_and_says_who_wrote_it(migrator: Migrator, write: Write) -> None:
    write("001_a.sql", "CREATE TABLE a_table (id integer)")
    migrator.up()

    found = dump(migrator)

    assert "a_table" in found.text
    assert found.by.partition(",")[0] in ("pg_dump", "mariadb-dump", "mysqldump", "katax itself")


def test_no_tool_is_started_for_a_server_that_does_not_answer(
    open_url: OpenUrl, folder: Path, tmp_path: Path, closed_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would wait for as long as it likes."""
    tool = tmp_path / "pg_dump"
    tool.write_text("#!/bin/sh\ntouch started\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")

    with pytest.raises(Unavailable):
        dump(Migrator(open_url(f"postgresql://app@127.0.0.1:{closed_port}/x"), str(folder)))

    assert not (tmp_path / "started").exists()
