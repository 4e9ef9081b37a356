"""Folders and databases of other migration tools: read as they are, or refused by their name."""

from __future__ import annotations

from pathlib import Path

import pytest

from katax_cli.errors import ConfigError, MigrationError
from katax_cli.services.databases.sql import SqlDatabase
from katax_cli.services.migrate.files import files
from katax_cli.services.migrate.migrator import Migrator
from katax_cli.services.migrate.values import Direction
from tests.services.migrate.conftest import Write
from tests.services.migrate.test_migrator import states, table_names


def pair(folder: Path, name: str, up: str, down: str | None = None) -> None:
    (folder / f"{name}.up.sql").write_text(up)
    if down is not None:
        (folder / f"{name}.down.sql").write_text(down)


def test_the_pairs_of_golang_migrate_are_migrations(
    migrator: Migrator, database: SqlDatabase, folder: Path
) -> None:
    pair(folder, "000001_a", "BEGIN;\nCREATE TABLE a (id integer);\nCOMMIT;\n", "DROP TABLE a;")
    pair(folder, "000002_b", "\ufeffCREATE TABLE b (id integer)", "DROP TABLE b")
    pair(folder, "000003_c", "CREATE TABLE c (id integer);\nINSERT INTO c VALUES (1); -- end")

    migrator.up()

    assert table_names(database) >= {"a", "b", "c"}
    assert [name for name, _ in states(migrator)] == ["000001_a.up.sql", "000002_b.up.sql", "000003_c.up.sql"]
    with pytest.raises(MigrationError, match=r"000003_c\.up\.sql has no DOWN section"):
        migrator.down()
    pair(folder, "000003_c", "CREATE TABLE c (id integer);\nINSERT INTO c VALUES (1);", "DROP TABLE c")
    migrator.down(to="1")
    assert table_names(database) & {"a", "b", "c"} == {"a"}
    assert Path(migrator.create("next")).name == "000004_next.up.sql"
    assert (folder / "000004_next.down.sql").exists()


def test_lines_of_a_pair_are_those_of_its_files(migrator: Migrator, folder: Path) -> None:
    pair(folder, "1_a", "SELECT 1;\n\nSELECT 3;\n", "\nSELECT 2;\nSELECT 3")
    [file] = files.scan(str(folder))

    ways: tuple[Direction, ...] = ("up", "down")
    lines = {way: [one.line for one in migrator.job(file, way).statements] for way in ways}

    assert lines == {"up": [1, 3], "down": [2, 3]}


def test_a_marker_in_a_file_of_a_pair_hides_nothing(
    migrator: Migrator, database: SqlDatabase, folder: Path
) -> None:
    """golang-migrate runs all of a file."""
    for marker in ("-- DOWN", "-- UP", "-- VERIFY", "-- migrate:down"):
        for down in (None, "SELECT 2"):
            pair(folder, "1_a", f"CREATE TABLE a (id integer);\n{marker}\nCREATE TABLE b (id integer);", down)
            with pytest.raises(
                MigrationError, match=f"holds a line '{marker}'; each file of a pair is one section"
            ):
                migrator.up()
        (folder / "1_a.down.sql").unlink()
    assert table_names(database).isdisjoint({"a", "b"})

    pair(folder, "1_a", "CREATE TABLE a (id integer);", "SELECT 1;\n-- UP\nDROP TABLE a")
    with pytest.raises(MigrationError, match="holds a line '-- UP'"):
        migrator.up()
    pair(
        folder,
        "1_a",
        "CREATE TABLE a (id integer);\nINSERT INTO a VALUES (length('\n-- DOWN\n'))",
        "DROP TABLE a",
    )
    migrator.up()
    assert [row["id"] for row in database.query("SELECT id FROM a")] == [9]


def test_a_half_that_is_left_open_does_not_reach_into_the_other(
    migrator: Migrator, database: SqlDatabase, folder: Path
) -> None:
    """SQLite and MariaDB take a comment that is not closed, and PostgreSQL one that the other half closes."""
    halves = [
        ("CREATE TABLE a (id integer); /* note", "DROP TABLE x; /* y */ CREATE TABLE b (id integer)"),
        ("CREATE TABLE a (id integer); /* note", "x */ CREATE TABLE b (id integer);\n-- DOWN\nDROP TABLE a"),
        ("CREATE TABLE a (id integer); SELECT 'x", "DROP TABLE y; SELECT 'z'; CREATE TABLE b (id integer)"),
        ('CREATE TABLE a (id integer); CREATE TABLE "é', 'DROP TABLE "x"; CREATE TABLE b (id integer)'),
    ]
    for up, down in halves:
        pair(folder, "1_a", up, down)
        with pytest.raises(MigrationError, match=r"1_a\.up\.sql leaves a literal or a comment open"):
            migrator.up()
    assert table_names(database).isdisjoint({"a", "b"})

    pair(folder, "1_a", "CREATE TABLE a (id integer); -- é", "DROP TABLE a -- é")
    migrator.up()
    migrator.down()
    assert "a" not in table_names(database)


def test_a_down_without_its_up_is_named(folder: Path) -> None:
    (folder / "1_a.down.sql").write_text("SELECT 1")

    with pytest.raises(MigrationError, match=r"1_a\.down\.sql reverts 1_a\.up\.sql, which is not there"):
        files.scan(str(folder))


@pytest.mark.parametrize(
    ("tool", "path"),
    [
        ("Flyway (V1__init.sql)", "V1__init.sql"),
        ("Flyway (R__views.sql)", "R__views.sql"),
        ("Flyway (V1_init.sql)", "V1_init.sql"),
        ("Flyway (v1.2__init.sql)", "v1.2__init.sql"),
        ("Prisma (20240101000000_init)", "20240101000000_init/migration.sql"),
        ("Alembic", "versions/1a2b_users.py"),
        ("Alembic", "1975ea83b712_users.py"),
        ("Diesel (2024-01-01-000000_a)", "2024-01-01-000000_a/up.sql"),
        ("another tool", "20240101000000_a.rb"),
        ("another tool", "20240101000000_a.Ts"),
        ("another tool", "2014_10_12_000000_create_users_table.php"),
        ("another tool", "sqitch.plan"),
        ("another tool", "schema.rb"),
        ("Flyway (V1__init.java)", "V1__init.java"),
        ("another tool", "1_init.up.json"),
        ("another tool", "001-init.xml"),
    ],
)
def test_files_that_would_be_passed_over_are_refused_by_their_tool(
    folder: Path, write: Write, tool: str, path: str
) -> None:
    write("001_a.sql")
    (folder / path).parent.mkdir(exist_ok=True)
    (folder / path).write_text("")
    (folder / "env.py").write_text("")

    with pytest.raises(ConfigError) as error:
        files.scan(str(folder))

    assert f" of {tool}" in str(error.value)
    assert "katax migrate baseline VERSION" in str(error.value)


@pytest.mark.parametrize("name", ["V1__init.sql", "001_a.sql", "2_b.py"])
def test_a_folder_that_has_migrations_in_its_folders_only_is_not_empty(
    folder: Path, write: Write, name: str
) -> None:
    inner = folder / "2024"
    inner.mkdir()
    (inner / name).write_text("SELECT 1")
    (folder / "README").write_text("")

    with pytest.raises(ConfigError, match=f"holds no migrations, but .*2024/{name} may be one"):
        files.scan(str(folder))

    write("001_a.sql")
    assert len(files.scan(str(folder))) == 1


@pytest.mark.parametrize("name", ["002_b.SQL", "002_b.UP.SQL", "002_b.Py"])
def test_an_ending_in_other_letters_is_not_passed_over(folder: Path, write: Write, name: str) -> None:
    write("001_a.sql")
    (folder / name).write_text("SELECT 1")

    with pytest.raises(ConfigError, match="would be passed over; let its name end in"):
        files.scan(str(folder))


def test_what_lies_beside_migrations_is_left_alone(folder: Path, write: Write) -> None:
    write("001_a.sql")
    for name in ("001_rows.json", "202401010000_.csv", "notes.sql", "helpers.py", "001_a.sql~", "seed.rb"):
        (folder / name).write_text("")
    (folder / "2024").mkdir()

    assert [file.name for file in files.scan(str(folder))] == ["001_a.sql"]


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        (["CREATE TABLE flyway_schema_history (installed_rank int)"], "by Flyway (flyway_schema_history)"),
        (["CREATE TABLE _prisma_migrations (id int)"], "by Prisma (_prisma_migrations)"),
        (["CREATE TABLE alembic_version (version_num varchar(32))"], "by Alembic (alembic_version)"),
        (["CREATE TABLE django_migrations (id int)"], "by Django (django_migrations)"),
        (["CREATE TABLE schema_migrations (version varchar(128))"], "'katax migrate baseline --from dbmate'"),
        (
            [
                "CREATE TABLE schema_migrations (version varchar(128))",
                "CREATE TABLE ar_internal_metadata (name varchar(9))",
            ],
            "by Rails (schema_migrations)",
        ),
        (
            [
                "CREATE TABLE schema_migrations (version bigint PRIMARY KEY, dirty boolean)",
                "INSERT INTO schema_migrations VALUES (2, false)",
            ],
            "golang-migrate (schema_migrations) and has no katax_migrations; adopt it with 'katax migrate baseline 2'",
        ),
    ],
)  # fmt: skip
def test_a_database_of_another_tool_is_not_migrated_again(
    migrator: Migrator, database: SqlDatabase, write: Write, sql: list[str], message: str
) -> None:
    write("001_a.sql", "CREATE TABLE a (id integer)")
    write("002_b.sql", "CREATE TABLE b (id integer)")
    for statement in sql:
        database.execute(statement)

    for command in (migrator.status, migrator.up, migrator.pending):
        with pytest.raises(ConfigError) as error:
            command()
        assert message in str(error.value)

    migrator.baseline("2")
    assert migrator.up() == []


@pytest.mark.parametrize(
    ("sql", "owner"),
    [
        (["CREATE TABLE schema_migrations (version bigint PRIMARY KEY, dirty boolean)"], "golang-migrate"),
        (["CREATE TABLE schema_migrations (version bigint, inserted_at timestamp)"], "another tool"),
        (["CREATE TABLE schema_migrations (id int)"], "another tool"),
        (
            [
                "CREATE TABLE schema_migrations (version varchar(128))",
                "INSERT INTO schema_migrations VALUES ('1'), ('2_b')",
            ],
            "another tool",
        ),
        (
            [
                "CREATE TABLE schema_migrations (version varchar(128))",
                "CREATE TABLE ar_internal_metadata (name varchar(9))",
            ],
            "Rails",
        ),
    ],
)
def test_the_table_of_others_is_not_taken_for_dbmates(
    migrator: Migrator, database: SqlDatabase, write: Write, sql: list[str], owner: str
) -> None:
    write("001_a.sql", "CREATE TABLE a (id integer)")
    for statement in sql:
        database.execute(statement)
    before = database.query("SELECT * FROM schema_migrations")

    with pytest.raises(ConfigError, match=f"is {owner}'s"):
        migrator.adopt_dbmate()
    migrator.baseline("001")
    with pytest.raises(ConfigError, match=f"is {owner}'s"):
        migrator.tell_dbmate()
    assert database.query("SELECT * FROM schema_migrations") == before


def test_dbmate_is_told_what_is_applied_and_hears_it_once(
    migrator: Migrator, database: SqlDatabase, write: Write
) -> None:
    write("001_a.sql", "CREATE TABLE a (id integer)", "DROP TABLE a")
    write("002_b.sql", "CREATE TABLE b (id integer)", "DROP TABLE b")
    migrator.up(steps=1)

    assert migrator.tell_dbmate() == ["001"]
    assert migrator.tell_dbmate() == []
    migrator.up()
    assert migrator.tell_dbmate() == ["002"]
    assert database.query("SELECT version FROM schema_migrations ORDER BY version") == [
        {"version": "001"},
        {"version": "002"},
    ]
