"""What pg_dump and mariadb-dump write is a migration, and a file's settings end with it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest

from katax_cli.errors import MigrationError, StatementFailed
from katax_cli.services.databases.sql import SqlDatabase
from katax_cli.services.migrate.migrator import Migrator
from tests.servers.fixtures import MakeFresh, Target
from tests.servers.server import Server
from tests.services.migrate.conftest import Write
from tests.services.migrate.test_many_changes import OpenUrl
from tests.services.migrate.test_migrator import states

LINES = ["it's", "-- DOWN", "-- katax: no-transaction", "\\.", "\\N", "tab\t", "$$ ; /* ", "x" * 300_000, ""]
POSTGRESQL = r"""
CREATE SCHEMA "odd Schema";
CREATE TYPE mood AS ENUM ('a', 'it''s');
CREATE TABLE lines (line text);
CREATE TABLE users (id serial PRIMARY KEY, name text, mood mood, at timestamptz DEFAULT now());
CREATE TABLE "odd Schema"."T ""q" (id int PRIMARY KEY, user_id int REFERENCES users, body bytea);
INSERT INTO users (name, mood) VALUES ('one', 'it''s'), (NULL, 'a');
INSERT INTO "odd Schema"."T ""q" SELECT i, 1 + i % 2, '\x00275c' FROM generate_series(1, 1000) i;
CREATE VIEW counted AS SELECT user_id, count(*) FROM "odd Schema"."T ""q" GROUP BY 1;
CREATE FUNCTION f(a int) RETURNS int LANGUAGE plpgsql AS $_$ BEGIN PERFORM 'it''s; -- UP'; RETURN $1; END $_$;
CREATE FUNCTION named() RETURNS trigger LANGUAGE plpgsql AS
    $x$ BEGIN new.name := new.name || $a1$;$a1$; RETURN new; END $x$;
CREATE TRIGGER named BEFORE INSERT ON users FOR EACH ROW WHEN (new.name = 'q') EXECUTE FUNCTION named();
CREATE FUNCTION atomic(a int) RETURNS int BEGIN ATOMIC SELECT a; SELECT 2; END;
COMMENT ON TABLE users IS 'it''s; a comment';
"""
MYSQL = [
    "CREATE TABLE `lines` (line longtext)",
    "CREATE TABLE users (id int AUTO_INCREMENT PRIMARY KEY, name text, at datetime DEFAULT now())",
    "CREATE TABLE `odd ``t` (id int PRIMARY KEY, user_id int, b blob, FOREIGN KEY (user_id) REFERENCES users (id))",
    "INSERT INTO users (name) VALUES ('one'), (NULL)",
    "INSERT INTO `odd ``t` VALUES (1, 1, x'0001275c'), (2, 2, NULL)",
    "CREATE VIEW counted AS SELECT count(*) c FROM users",
    "CREATE FUNCTION f(a int) RETURNS int DETERMINISTIC BEGIN IF a > 1 THEN RETURN a; END IF; RETURN 2; END",
    "CREATE PROCEDURE p() BEGIN SELECT ';'; SELECT 2; END",
    "CREATE TRIGGER named BEFORE INSERT ON users FOR EACH ROW BEGIN SET new.name = concat(new.name, ';'); END",
]


def program(server: Server, *names: str) -> str:
    places = [str(server.tools / name) for name in names if server.tools is not None]
    found = next((path for name in (*places, *names) if (path := shutil.which(name))), None)
    assert found is not None, f"none of {names} is installed"
    return found


def pg_dump(server: Server, url: str, *words: str) -> str:
    done = subprocess.run(
        [program(server, "pg_dump"), url, *words], capture_output=True, text=True, check=True
    )
    return done.stdout


def mysqldump(server: Server, url: str, *words: str) -> str:
    where = ["-h", server.host, "-P", str(server.port), "-u", server.user, f"-p{server.password}"]
    what = ["--routines", "--skip-dump-date", *words, url.rpartition("/")[2]]
    command = [program(server, "mariadb-dump", "mysqldump"), *where, *what]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def code(dump: str) -> list[str]:
    """Its lines without comments and without the key that is new in every dump."""
    return [line for line in dump.splitlines() if not line.startswith(("--", "\\restrict", "\\unrestrict"))]


def as_migration(folder: Path, dump: str) -> None:
    text = f"-- migrate:up\n{dump}\n-- migrate:down\nDROP TABLE users;\n"
    (folder / "001_dump.sql").write_text(text)
    (folder / "002_after.sql").write_text("-- UP\nCREATE TABLE after (id int);\n-- DOWN\nDROP TABLE after;\n")


def test_what_pg_dump_writes_makes_the_same_database(
    postgresql: Server, fresh: MakeFresh, open_url: OpenUrl, folder: Path
) -> None:
    source, target = fresh("postgresql").url, fresh("postgresql").url
    with psycopg.connect(source) as connection:
        connection.execute(POSTGRESQL)
        connection.cursor().executemany("INSERT INTO lines VALUES (%s)", [(line,) for line in LINES])
    dump = pg_dump(postgresql, source)
    as_migration(folder, dump)
    migrator = Migrator(open_url(target), str(folder))

    migrator.up()

    assert states(migrator) == [("001_dump.sql", "applied"), ("002_after.sql", "applied")]
    others = ("-T", "public.katax_migrations", "-T", "public.after")
    assert code(pg_dump(postgresql, target, *others)) == code(dump)
    assert migrator.to_revert(steps=2)[1].statements[0].text == "DROP TABLE users"


@pytest.mark.parametrize("option", ["--lock-tables", "--no-autocommit"])
def test_what_mariadb_dump_writes_makes_the_same_database(
    mysql: Server, fresh: MakeFresh, open_url: OpenUrl, folder: Path, option: str
) -> None:
    source, target = fresh("mysql").url, fresh("mysql").url
    database = open_url(source)
    for statement in MYSQL:
        database.execute(statement)
    database.execute_many("INSERT INTO `lines` VALUES (?)", [(line,) for line in LINES])
    dump = mysqldump(mysql, source, option)
    as_migration(folder, dump)
    heard: list[str] = []
    migrator = Migrator(open_url(target), str(folder), on_note=heard.append)

    migrator.up()

    assert states(Migrator(open_url(target), str(folder))) == [
        ("001_dump.sql", "applied"),
        ("002_after.sql", "applied"),
    ]
    name = target.rpartition("/")[2]
    others = (f"--ignore-table={name}.katax_migrations", f"--ignore-table={name}.after")
    assert code(mysqldump(mysql, target, option, *others)) == code(dump)
    assert [note.partition(" at line ")[0] for note in heard] == ["001_dump.sql: LOCK TABLES"]


SETTINGS = {
    "a search path": "SET search_path = app",
    "no search path": "SELECT pg_catalog.set_config('search_path', '', false)",
    "one of the database": "ALTER DATABASE {name} SET search_path = app",
}


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("directive", ["", "-- katax: no-transaction\n"])
def test_a_search_path_of_a_file_loses_no_migration(
    postgresql_url: str, open_url: OpenUrl, folder: Path, write: Write, setting: str, directive: str
) -> None:
    sql = SETTINGS[setting].format(name=postgresql_url.rpartition("/")[2])
    write(
        "001_app.sql",
        f"{directive}CREATE SCHEMA app;\n{sql};\nCREATE TABLE app.a (id int)",
        "DROP SCHEMA app CASCADE",
    )
    write("002_b.sql", "CREATE TABLE b (id int)", "DROP TABLE b")

    Migrator(open_url(postgresql_url), str(folder)).up()

    database = open_url(postgresql_url)
    again = Migrator(database, str(folder))
    assert states(again) == [("001_app.sql", "applied"), ("002_b.sql", "applied")]
    assert again.up() == []
    write("003_c.sql", "CREATE TABLE c (id int)", "DROP TABLE c")
    assert len(again.up()) == 1
    assert tables(database, "katax_migrations") == ["public"]
    assert tables(database, "b") == ["public"]


SET = {
    "postgresql": "SET ROLE pg_monitor; SET work_mem = '9MB'; SET timezone = 'Asia/Tokyo'",
    "mysql": "SET NAMES latin1; SET sql_mode = ''; SET foreign_key_checks = 0; SET timestamp = 7; "
    "SET time_zone = '+5:00'; SET sql_select_limit = 1",
    "sqlite": "PRAGMA foreign_keys = OFF; PRAGMA recursive_triggers = ON",
}
SEEN = {
    "postgresql": (
        "SELECT CAST(current_user AS text) AS a, current_setting('work_mem') AS b, current_setting('timezone') AS c"
    ),
    "mysql": (
        "SELECT @@character_set_client a, @@sql_mode b, @@foreign_key_checks c, @@timestamp = 7 d, @@time_zone e, "
        "@@collation_connection f, @@sql_select_limit g"
    ),
    "sqlite": "SELECT f.*, r.* FROM pragma_foreign_keys f, pragma_recursive_triggers r",
}


@pytest.mark.parametrize("directive", ["", "-- katax: no-transaction\n"])
def test_what_a_file_sets_does_not_reach_the_next(
    sql_engine: Target, open_url: OpenUrl, folder: Path, write: Write, directive: str
) -> None:
    """Applied in one run or in two, files are the same."""
    database = open_url(sql_engine.url)
    rights = "GRANT ALL ON katax_migrations TO pg_monitor; " if sql_engine.engine == "postgresql" else ""
    hides = "CREATE TEMPORARY TABLE Kept (id int); INSERT INTO Kept VALUES (7)"
    seen = SEEN[sql_engine.engine]
    write("001_seen.sql", f"{rights}CREATE TABLE before_it AS {seen}; CREATE TABLE Kept (id int)")
    write("002_sets.sql", f"{directive}{SET[sql_engine.engine]}; {hides}")
    write("003_seen.sql", f"CREATE TABLE after_it AS {seen}; INSERT INTO Kept VALUES (1)")
    write("004_hides.sql", f"{directive}{hides}")
    if sql_engine.engine == "mysql":  # which has the table in its home, and ends without a database
        elsewhere = f"{urlsplit(sql_engine.url).path[1:]}_gone"
        write(
            "004_hides.sql",
            f"{hides}; CREATE DATABASE {elsewhere}; USE {elsewhere}; DROP DATABASE {elsewhere}",
        )
    write("005_keeps.sql", "INSERT INTO Kept VALUES (2)")

    Migrator(database, str(folder)).up()

    before, after = (database.query(f"SELECT * FROM {name}") for name in ("before_it", "after_it"))
    assert before == after
    assert before
    assert database.query("SELECT id FROM Kept ORDER BY id") == [{"id": 1}, {"id": 2}]


def test_a_character_set_that_a_file_gives_the_database_reaches_the_next(
    fresh: MakeFresh, open_url: OpenUrl, folder: Path, write: Write
) -> None:
    database = open_url(fresh("mysql").url)
    write("001_sets.sql", "SET foreign_key_checks = 0; ALTER DATABASE CHARACTER SET latin1")
    write("002_seen.sql", "CREATE TABLE seen AS SELECT @@character_set_database a, @@foreign_key_checks b")

    Migrator(database, str(folder)).up()

    assert database.query("SELECT * FROM seen") == [{"a": "latin1", "b": 1}]


def tables(database: SqlDatabase, name: str) -> list[str]:
    found = database.query("SELECT schemaname FROM pg_tables WHERE tablename = ?", [name])
    return [row["schemaname"] for row in found]


def test_another_schema_of_a_connection_has_a_ledger_of_its_own(
    postgresql_url: str, open_url: OpenUrl, folder: Path, write: Write
) -> None:
    write("001_a.sql", "CREATE TABLE a (id int)", "DROP TABLE a")
    Migrator(open_url(postgresql_url), str(folder)).up()
    open_url(postgresql_url).execute("CREATE SCHEMA tenant")
    tenant = open_url(postgresql_url, options={"options": "-csearch_path=tenant"})

    assert states(Migrator(tenant, str(folder))) == [("001_a.sql", "pending")]
    Migrator(tenant, str(folder)).up()

    assert sorted(tables(tenant, "katax_migrations")) == ["public", "tenant"]


def test_another_database_that_a_file_uses_keeps_no_ledger(
    fresh: MakeFresh, open_url: OpenUrl, folder: Path, write: Write
) -> None:
    target, other = fresh("mysql").url, fresh("mysql").url
    write("001_a.sql", f"USE {other.rpartition('/')[2]};\nCREATE TABLE a (id int);\nINSERT INTO a VALUES (1)")
    write("002_b.sql", "CREATE TABLE b (id int)")

    migrator = Migrator(open_url(target), str(folder))
    migrator.up()

    assert states(migrator) == [("001_a.sql", "applied"), ("002_b.sql", "applied")]
    assert [one.name for one in open_url(other).tables()] == ["a"]
    assert sorted(one.name for one in open_url(target).tables()) == ["b", "katax_migrations"]


def test_a_row_that_copy_refuses_is_named_and_nothing_lasts(
    postgresql_url: str, open_url: OpenUrl, folder: Path, write: Write
) -> None:
    migrator = Migrator(open_url(postgresql_url), str(folder))
    write(
        "001_a.sql",
        "CREATE TABLE a (id int);\n-- all\nCOPY a (id)\n  FROM stdin;\n1\n2\nthree\n\\.\nSELECT 1",
    )

    with pytest.raises(StatementFailed) as error:
        migrator.up()

    assert "001_a.sql failed at line 8: " in str(error.value)
    assert states(migrator) == [("001_a.sql", "pending")]


def test_lines_that_psql_would_have_to_obey_are_refused(
    postgresql_url: str, open_url: OpenUrl, folder: Path, write: Write
) -> None:
    migrator = Migrator(open_url(postgresql_url), str(folder))
    write(
        "001_a.sql", "\\set ON_ERROR_STOP on\n\\echo 'it''s\nSELECT 1;\n\\connect other\nSELECT '\n\\connect'"
    )

    with pytest.raises(MigrationError) as error:
        migrator.up()

    assert "001_a.sql has \\connect for psql at line 5" in str(error.value)
