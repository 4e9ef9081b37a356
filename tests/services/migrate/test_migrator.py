"""Migrations on real servers: applied once, reverted, refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from katax_cli.errors import ChangedAfterApply, ConfigError, KataxError, MigrationError, StatementFailed
from katax_cli.services.databases.sql import SqlDatabase
from katax_cli.services.migrate.migrator import Migrator
from katax_cli.services.migrate.values import Outcome
from tests.services.migrate.conftest import Write


def table_names(database: SqlDatabase) -> set[str]:
    return {table.name for table in database.tables()} - {"katax_migrations"}


def states(migrator: Migrator) -> list[tuple[str, str]]:
    return [(one.name, one.state) for one in migrator.status()]


def two_tables(write: Write) -> None:
    write("001_users.sql", "CREATE TABLE users (id integer PRIMARY KEY)", "DROP TABLE users")
    write("002_posts.sql", "CREATE TABLE posts (id integer PRIMARY KEY)", "DROP TABLE posts")


def test_up_applies_what_is_pending_in_order_and_once(
    migrator: Migrator, database: SqlDatabase, write: Write
) -> None:
    two_tables(write)

    first, second = migrator.up(), migrator.up()

    assert [one.name for one in first] == ["001_users.sql", "002_posts.sql"]
    assert second == []
    assert table_names(database) == {"users", "posts"}
    assert states(migrator) == [("001_users.sql", "applied"), ("002_posts.sql", "applied")]
    assert all(one.applied_at and one.duration_ms is not None for one in migrator.status())


def test_status_before_anything_was_applied_changes_nothing(
    migrator: Migrator, database: SqlDatabase, write: Write
) -> None:
    two_tables(write)

    assert states(migrator) == [("001_users.sql", "pending"), ("002_posts.sql", "pending")]
    assert database.describe("katax_migrations") is None


def test_up_stops_at_a_version_and_after_a_number_of_steps(migrator: Migrator, write: Write) -> None:
    two_tables(write)
    write("003_c.sql", "CREATE TABLE c (id integer)")

    assert [one.version for one in migrator.up(to="1")] == ["001"]
    assert [one.version for one in migrator.up(steps=1)] == ["002"]
    assert [one.version for one in migrator.up(to="003")] == ["003"]


def test_up_to_a_version_that_nobody_has_is_refused(migrator: Migrator, write: Write) -> None:
    two_tables(write)

    with pytest.raises(ConfigError) as error:
        migrator.up(to="004")

    assert str(error.value) == "no version named '004'; did you mean '002'? known versions: 001, 002"


def test_down_reverts_the_last_one_and_down_to_zero_all(
    migrator: Migrator, database: SqlDatabase, write: Write
) -> None:
    two_tables(write)
    migrator.up()

    assert [one.name for one in migrator.down()] == ["002_posts.sql"]
    assert table_names(database) == {"users"}
    migrator.up()
    assert [one.name for one in migrator.down(to="0")] == ["002_posts.sql", "001_users.sql"]
    assert table_names(database) == set()
    assert states(migrator) == [("001_users.sql", "pending"), ("002_posts.sql", "pending")]


def test_down_without_a_down_section_reverts_nothing(
    migrator: Migrator, database: SqlDatabase, write: Write
) -> None:
    write("001_a.sql", "CREATE TABLE a (id integer)")
    write("002_b.sql", "CREATE TABLE b (id integer)", "DROP TABLE b")
    migrator.up()

    with pytest.raises(MigrationError) as error:
        migrator.down(steps=2)

    assert "001_a.sql has no DOWN section" in str(error.value)
    assert table_names(database) == {"a", "b"}


def test_down_of_a_missing_file_uses_the_text_that_was_applied(
    migrator: Migrator, database: SqlDatabase, write: Write
) -> None:
    path = write("001_a.sql", "CREATE TABLE a (id integer)", "DROP TABLE a")
    migrator.up()
    path.unlink()

    assert states(migrator) == [("001_a.sql", "missing")]
    migrator.down()
    assert table_names(database) == set()


def test_redo_reverts_and_applies_the_file_as_it_is_now(
    migrator: Migrator, database: SqlDatabase, write: Write
) -> None:
    write("001_a.sql", "CREATE TABLE a (id integer)", "DROP TABLE a")
    migrator.up()
    write("001_a.sql", "CREATE TABLE a (id integer, name varchar(9))", "DROP TABLE a")

    done = migrator.redo()

    assert [one.direction for one in done] == ["down", "up"]
    described = database.describe("a")
    assert described is not None
    assert [column.name for column in described.columns] == ["id", "name"]
    assert states(migrator) == [("001_a.sql", "applied")]


def test_run_applies_one_file_and_only_if_it_is_pending(migrator: Migrator, write: Write) -> None:
    two_tables(write)

    assert [one.name for one in migrator.run("002_posts.sql")] == ["002_posts.sql"]
    with pytest.raises(MigrationError) as error:
        migrator.run("2")

    assert str(error.value) == "migration 002_posts.sql is applied, not pending; nothing was run"


def test_a_file_whose_statement_changed_stops_and_one_whose_comments_changed_does_not(
    migrator: Migrator, write: Write
) -> None:
    write("001_a.sql", "CREATE TABLE a (id integer)")
    migrator.up()
    notes: list[str] = []
    migrator._on_note = notes.append

    write("001_a.sql", raw=b"-- UP\r\n-- a comment\r\nCREATE   TABLE a (id integer);\r\n")
    assert migrator.up() == []
    assert notes == [
        "migration 001_a.sql changed after it was applied, but only in comments, layout or its DOWN section"
    ]

    write("001_a.sql", "CREATE TABLE a (id bigint)")
    assert states(migrator) == [("001_a.sql", "modified")]
    with pytest.raises(ChangedAfterApply) as error:
        migrator.up()
    assert "001_a.sql changed after it was applied" in str(error.value)


def test_repair_takes_the_present_text_and_explains_the_difference(migrator: Migrator, write: Write) -> None:
    write("001_a.sql", "CREATE TABLE a (id integer)")
    migrator.up()
    write("001_a.sql", "CREATE TABLE a (id bigint)")

    [(standing, lines)] = migrator.changed()
    repaired = migrator.repair()

    assert standing.state == "modified"
    assert "-CREATE TABLE a (id integer);" in lines
    assert "+CREATE TABLE a (id bigint);" in lines
    assert [file.name for file in repaired] == ["001_a.sql"]
    assert states(migrator) == [("001_a.sql", "applied")]
    assert migrator.changed() == []


def test_a_late_file_is_applied_with_a_remark_and_refused_when_strict(
    migrator: Migrator, write: Write
) -> None:
    write("002_b.sql", "CREATE TABLE b (id integer)")
    migrator.up()
    write("001_a.sql", "CREATE TABLE a (id integer)")
    notes: list[str] = []
    migrator._on_note = notes.append

    with pytest.raises(MigrationError) as error:
        migrator.up(strict=True)
    assert str(error.value) == (
        "out of order: 001_a.sql; give them later versions, or go on without --strict"
    )
    assert [one.name for one in migrator.up()] == ["001_a.sql"]
    assert notes == ["out of order: 001_a.sql is older than what is applied"]


def test_a_file_that_cannot_be_read_stops_before_anything_is_run(
    migrator: Migrator, database: SqlDatabase, write: Write
) -> None:
    write("001_a.sql", "CREATE TABLE a (id integer)")
    write("002_b.sql", raw=b"CREATE TABLE b (id integer);")

    with pytest.raises(MigrationError) as error:
        migrator.up()

    assert "002_b.sql" in str(error.value)
    assert table_names(database) == set()


def test_a_statement_that_fails_keeps_what_was_applied_before_its_file(
    migrator: Migrator, database: SqlDatabase, write: Write
) -> None:
    write("001_a.sql", "CREATE TABLE a (id integer)")
    write("002_b.sql", "INSERT INTO a VALUES (1);\nSELECT nothing_of_this_name FROM a")
    done: list[Outcome] = []
    migrator._on_done = done.append

    with pytest.raises(StatementFailed) as error:
        migrator.up()

    assert [one.name for one in done] == ["001_a.sql"]
    assert (error.value.name, error.value.line) == ("002_b.sql", 3)
    assert "nothing_of_this_name" in str(error.value)
    assert states(migrator)[0] == ("001_a.sql", "applied")


def test_baseline_marks_as_applied_and_runs_nothing(
    migrator: Migrator, database: SqlDatabase, write: Write
) -> None:
    two_tables(write)

    marked = migrator.baseline("1")

    assert [file.name for file in marked] == ["001_users.sql"]
    assert table_names(database) == set()
    assert states(migrator) == [("001_users.sql", "applied"), ("002_posts.sql", "pending")]
    with pytest.raises(MigrationError) as error:
        migrator.baseline("2")
    assert "has entries already" in str(error.value)


def dbmate_made(database: SqlDatabase) -> None:
    database.execute("CREATE TABLE schema_migrations (version varchar(128) PRIMARY KEY)")
    database.execute("INSERT INTO schema_migrations VALUES ('001'), ('003')")


@pytest.mark.parametrize("call", [Migrator.status, Migrator.up, Migrator.down])
def test_a_database_that_dbmate_made_is_not_run_again(
    migrator: Migrator, database: SqlDatabase, write: Write, call: Callable[[Migrator], object]
) -> None:
    two_tables(write)
    dbmate_made(database)

    with pytest.raises(ConfigError) as error:
        call(migrator)

    assert "baseline --from dbmate" in str(error.value)
    assert table_names(database) == {"schema_migrations"}


def test_a_database_that_dbmate_made_is_adopted(
    migrator: Migrator, database: SqlDatabase, write: Write
) -> None:
    two_tables(write)
    dbmate_made(database)

    assert migrator.adopt_dbmate() == ["001", "003"]
    assert migrator.adopt_dbmate() == []
    assert states(migrator) == [
        ("001_users.sql", "applied"),
        ("002_posts.sql", "pending"),
        ("003", "missing"),
    ]
    assert [one.name for one in migrator.up()] == ["002_posts.sql"]


def test_a_python_migration_runs_up_and_down(
    migrator: Migrator, database: SqlDatabase, folder: Path, write: Write
) -> None:
    write("001_a.sql", "CREATE TABLE a (id integer)", "DROP TABLE a")
    (folder / "002_fill.py").write_text(
        "def up(db):\n    for n in range(3):\n        db.execute('INSERT INTO a VALUES (?)', [n])\n"
        "def down(db):\n    db.execute('DELETE FROM a WHERE id < ?', [3])\n"
    )

    migrator.up()
    assert database.query("SELECT id FROM a ORDER BY id") == [{"id": 0}, {"id": 1}, {"id": 2}]
    migrator.down()
    assert database.query("SELECT id FROM a") == []


def test_an_exception_of_a_python_migration_names_file_and_line(migrator: Migrator, folder: Path) -> None:
    (folder / "001_a.py").write_text(
        "def up(db):\n    db.query('SELECT 1')\n    raise RuntimeError('boom')\n"
    )

    with pytest.raises(StatementFailed) as error:
        migrator.up()

    assert str(error.value).startswith("migration 001_a.py failed at line 3: RuntimeError: boom; ")


def test_an_empty_up_section_is_applied(migrator: Migrator) -> None:
    path = migrator.create("add nothing")

    assert Path(path).name.endswith("_add_nothing.sql")
    assert len(migrator.up()) == 1


def test_code_that_goes_on_after_the_server_rolled_back_is_stopped(
    open_url: Callable[..., SqlDatabase], folder: Path
) -> None:
    database = open_url(f"sqlite:///{folder}/a.db")
    database.execute("CREATE TABLE a (id int PRIMARY KEY)")
    (folder / "001_a.py").write_text(
        "def up(db):\n"
        "    db.execute('INSERT INTO a VALUES (1)')\n"
        "    try:\n"
        "        db.execute('INSERT OR ROLLBACK INTO a VALUES (1)')\n"
        "    except Exception:\n"
        "        pass\n"
        "    db.execute('INSERT INTO a VALUES (2)')\n"
    )
    migrator = Migrator(database, str(folder))

    with pytest.raises(KataxError, match="rolled the transaction back by itself"):
        migrator.up()

    assert [one.state for one in migrator.status()] == ["pending"]
    assert database.query("SELECT id FROM a") == []
    (folder / "001_a.py").write_text("def up(db):\n    db.execute('INSERT INTO a VALUES (3)')\n")
    assert len(migrator.up()) == 1
