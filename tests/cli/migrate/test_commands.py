"""`katax migrate` as a command: what it prints, what it asks, how it ends."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from katax_cli.services.migrate.migrator import Migrator
from tests.cli.harness import katax, write_profile
from tests.servers.fixtures import MakeFresh, Target
from tests.services.connections import open_database
from tests.waiting import patiently, until

A, B = "CREATE TABLE a (id integer)", "CREATE TABLE b (id integer)"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "migrations"
    path.mkdir()
    (path / "001_a.sql").write_text(f"-- UP\n{A};\n-- DOWN\nDROP TABLE a;\n")
    (path / "002_b.sql").write_text(f"-- migrate:up\n{B};\n\n-- migrate:down\nDROP TABLE b;\n")
    return path


def sqlite_profile(tmp_path: Path, **more: Any) -> Path:
    return write_profile(tmp_path, {"main": f"sqlite:///{tmp_path}/app.db"}, **more)


def tables(path: Path) -> set[str]:
    with closing(sqlite3.connect(path)) as database:
        names = {row[0] for row in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    return names - {"katax_migrations"}


def test_a_life_on_every_sql_engine(sql_engine: Target, tmp_path: Path, folder: Path) -> None:
    write_profile(tmp_path, {"main": sql_engine.url})

    before = katax("migrate", "status", "--exit-code", "-f", "json")
    up = katax("migrate", "up", "-f", "json")
    after = katax("migrate", "status", "--exit-code", "-f", "json")
    again = katax("migrate", "up", "-f", "json")
    said = katax("migrate", "up")
    down = katax("migrate", "down", "-y", "-f", "json")

    assert (before.code, [row["state"] for row in before.json]) == (1, ["pending", "pending"])
    assert (up.code, up.json) == (0, {"done": ["001_a.sql", "002_b.sql"]})
    assert (after.code, [row["state"] for row in after.json]) == (0, ["applied", "applied"])
    assert set(after.json[0]) == {"version", "name", "state", "applied_at", "duration_ms"}
    assert (again.code, again.json) == (0, {"done": []})
    assert said.out == "nothing to do: 2 applied\n"
    assert (down.code, down.json) == (0, {"done": ["002_b.sql"]})


def test_each_migration_is_told_on_stderr_after_its_commit(tmp_path: Path, folder: Path) -> None:
    sqlite_profile(tmp_path)
    (folder / "003_c.sql").write_text("-- UP\nCREATE TABLE c (id integer);\nSELECT nope FROM c;\n")

    done = katax("migrate", "up")

    assert done.code == 1
    told = done.err.splitlines()
    assert [line.partition(" (")[0] for line in told[:2]] == ["applied 001_a.sql", "applied 002_b.sql"]
    assert told[2].startswith("katax: migration 003_c.sql failed at line 3: 'main' refused the statement")
    assert "nothing of it was applied" in told[2]
    assert done.stdout == b""
    assert tables(tmp_path / "app.db") == {"a", "b"}


def test_dry_run_says_what_and_changes_nothing(tmp_path: Path, folder: Path) -> None:
    sqlite_profile(tmp_path)

    done = katax("migrate", "up", "--dry-run", "-f", "json")

    assert (done.code, done.json) == (0, {"would_run": ["001_a.sql", "002_b.sql"]})
    assert tables(tmp_path / "app.db") == set()


def test_a_migration_that_drops_needs_a_yes(tmp_path: Path, folder: Path) -> None:
    sqlite_profile(tmp_path)
    (folder / "003_c.sql").write_text("-- UP\nDROP TABLE a;\n")

    refused = katax("migrate", "up")

    assert refused.code == 4
    assert "3 migrations with DROP TABLE on 'test/main' needs confirmation; repeat with --yes" in refused.err
    assert tables(tmp_path / "app.db") == set()
    assert katax("migrate", "up", "--yes").code == 0


def test_on_prod_up_needs_a_yes_and_down_the_connections_name(tmp_path: Path, folder: Path) -> None:
    sqlite_profile(tmp_path, role="prod")

    assert katax("migrate", "up").code == 4
    assert katax("migrate", "up", "--yes").code == 0
    down = katax("migrate", "down", "--yes")
    assert down.code == 4
    assert "repeat with --confirm test/main" in down.err
    assert tables(tmp_path / "app.db") == {"a", "b"}
    assert katax("migrate", "down", "--confirm", "test/main").code == 0


def test_a_frozen_profile_shows_its_status_and_takes_no_migration(tmp_path: Path, folder: Path) -> None:
    sqlite_profile(tmp_path)
    assert katax("migrate", "up", "--to", "001").code == 0
    sqlite_profile(tmp_path, role="frozen")

    assert katax("migrate", "status").code == 0
    for words in (["up", "-y"], ["down", "-y"], ["redo", "-y"], ["run", "002", "-y"]):
        assert katax("migrate", *words).code == 4
    assert tables(tmp_path / "app.db") == {"a"}


@pytest.mark.parametrize("words", [["up"], ["down"], ["status"], ["wait", "--timeout", "1s"], ["check"]])
def test_the_built_in_profile_must_be_named(tmp_path: Path, folder: Path, words: list[str]) -> None:
    done = katax("migrate", *words)

    assert done.code == 4
    assert "repeat with -p local" in done.err
    assert katax("-p", "local", "migrate", "status").code == 0


def test_a_missing_folder_is_a_matter_of_configuration(tmp_path: Path) -> None:
    sqlite_profile(tmp_path)

    done = katax("migrate", "up")

    assert done.code == 2
    assert "no migrations folder at" in done.err


def test_a_pooler_without_a_direct_way_is_refused(tmp_path: Path, folder: Path) -> None:
    write_profile(tmp_path, {"main": "postgresql://app@127.0.0.1:1/app"})
    file = tmp_path / "profiles" / "test.toml"
    file.write_text(file.read_text() + 'pooler = "transaction"\n')

    done = katax("migrate", "up")

    assert done.code == 2
    assert done.err == (
        "katax: 'main' is behind a pooler, where a lock has no session to live in; set its direct_url\n"
    )


def test_behind_pgbouncer_migrations_take_the_direct_way(
    tmp_path: Path, folder: Path, postgresql_url: str, pgbouncer_url: str
) -> None:
    write_profile(tmp_path, {"main": pgbouncer_url})
    file = tmp_path / "profiles" / "test.toml"
    file.write_text(file.read_text() + f'pooler = "transaction"\ndirect_url = "{postgresql_url}"\n')

    assert katax("migrate", "up", "-f", "json").json == {"done": ["001_a.sql", "002_b.sql"]}
    assert katax("migrate", "status", "--exit-code").code == 0


def test_a_pattern_migrates_every_shard_and_check_answers_for_all(
    tmp_path: Path, folder: Path, fresh: MakeFresh
) -> None:
    write_profile(tmp_path, {"shard1": fresh("sqlite").url, "shard2": fresh("sqlite").url})
    assert katax("migrate", "up", "-c", "shard1").code == 0

    before = katax("migrate", "check", "-c", "shard*", "-f", "json")
    up = katax("migrate", "up", "-c", "shard*", "-f", "json")
    after = katax("migrate", "check", "-c", "shard*", "-f", "json")

    assert before.code == 1
    assert [(row["connection"], row["ok"], row["pending"]) for row in before.json] == [
        ("shard1", True, 0),
        ("shard2", False, 2),
    ]
    assert up.json == [
        {"connection": "shard1", "done": []},
        {"connection": "shard2", "done": ["001_a.sql", "002_b.sql"]},
    ]
    assert after.code == 0


def test_create_continues_the_style_of_the_folder(tmp_path: Path, folder: Path) -> None:
    sqlite_profile(tmp_path)

    sql = katax("migrate", "create", "Add e-mail to users!", "-f", "json")
    python = katax("migrate", "create", "backfill", "--python", "-f", "json")

    assert Path(sql.json["path"]) == folder / "003_add_e_mail_to_users.sql"
    assert Path(sql.json["path"]).read_text() == "-- UP\n\n-- DOWN\n"
    assert Path(python.json["path"]).name == "004_backfill.py"
    assert katax("migrate", "create", "!!!").code == 2


def test_a_changed_file_stops_and_repair_explains_it(tmp_path: Path, folder: Path) -> None:
    sqlite_profile(tmp_path)
    katax("migrate", "up")
    (folder / "001_a.sql").write_text("-- UP\nCREATE TABLE a (id text);\n")

    stopped = katax("migrate", "up")
    explained = katax("migrate", "repair", "--explain", "-f", "json")
    repaired = katax("migrate", "repair", "-y", "-f", "json")

    assert stopped.code == 1
    assert "001_a.sql changed after it was applied" in stopped.err
    assert "katax migrate repair --explain" in stopped.err
    assert [row["change"] for row in explained.json] == ["statements"]
    assert "+CREATE TABLE a (id text);" in explained.json[0]["diff"].splitlines()
    assert repaired.json == {"repaired": ["001_a.sql"]}
    assert katax("migrate", "status", "--exit-code").code == 0


def test_repair_and_baseline_need_a_yes(tmp_path: Path, folder: Path) -> None:
    sqlite_profile(tmp_path)

    assert katax("migrate", "baseline", "001").code == 4
    assert katax("migrate", "baseline", "001", "-y", "-f", "json").json == {"recorded": ["001_a.sql"]}
    (folder / "001_a.sql").write_text("-- UP\nCREATE TABLE a (id text);\n")
    assert katax("migrate", "repair").code == 4


def test_a_database_of_dbmate_is_exit_2_until_it_is_adopted(tmp_path: Path, folder: Path) -> None:
    sqlite_profile(tmp_path)
    with closing(sqlite3.connect(tmp_path / "app.db")) as database:
        database.executescript(
            f"CREATE TABLE schema_migrations (version varchar(128) primary key);{A};"
            "INSERT INTO schema_migrations VALUES ('001')"
        )

    refused = katax("migrate", "up")

    assert refused.code == 2
    assert "katax migrate baseline --from dbmate" in refused.err
    assert katax("migrate", "baseline", "--from", "dbmate", "-y", "-f", "json").json == {"recorded": ["001"]}
    assert katax("migrate", "up", "-f", "json").json == {"done": ["002_b.sql"]}


def test_a_dry_create_names_the_file_and_writes_none(tmp_path: Path) -> None:
    sqlite_profile(tmp_path)
    folder = tmp_path / "migrations"
    words = ["migrate", "create", "new one", "-f", "json"]
    assert katax(*words, "--dry-run").json["path"].endswith("_new_one.sql")
    assert not folder.exists()
    folder.mkdir()
    (folder / "007_a.sql").write_text("-- UP\nSELECT 1;\n")
    path = str(folder / "008_new_one.sql")
    assert katax(*words, "--dry-run").json == {"path": path, "dry_run": True}
    assert [each.name for each in folder.iterdir()] == ["007_a.sql"]
    assert katax(*words).json == {"path": path}


@pytest.mark.parametrize("engine", ["postgresql", "mysql", "sqlite", "mongodb"])
def test_a_dry_baseline_names_what_it_would_record_and_leaves_no_table(
    engine: str, fresh: MakeFresh, tmp_path: Path
) -> None:
    target, folder = fresh(engine), tmp_path / "migrations"
    write_profile(tmp_path, {"main": target.url})
    folder.mkdir()
    for name in ("001_a.py", "002_b.py", "003_c.py"):
        (folder / name).write_text("def up(db):\n    raise SystemExit(9)\n")

    dry = katax("migrate", "baseline", "2", "--dry-run", "-f", "json")

    assert (dry.code, dry.json) == (0, {"would_record": ["001_a.py", "002_b.py"]})
    assert katax("db", "tables", "-f", "json").json == []
    assert katax("migrate", "baseline", "2", "-y", "-f", "json").json == {
        "recorded": ["001_a.py", "002_b.py"]
    }
    again = katax("migrate", "baseline", "3", "--dry-run")
    assert (again.code, "has entries already" in again.err) == (1, True)


def test_a_dry_adoption_of_dbmate_names_the_versions_that_are_new(tmp_path: Path, folder: Path) -> None:
    sqlite_profile(tmp_path)
    words = ["migrate", "baseline", "--from", "dbmate", "--dry-run", "-f", "json"]
    without = katax(*words)
    with closing(sqlite3.connect(tmp_path / "app.db")) as database:
        database.executescript(
            "CREATE TABLE schema_migrations (version varchar(128) primary key);"
            "INSERT INTO schema_migrations VALUES ('001'), ('007')"
        )

    assert (without.code, "dbmate did not migrate it" in without.err) == (2, True)
    assert katax(*words).json == {"would_record": ["001", "007"]}
    assert tables(tmp_path / "app.db") == {"schema_migrations"}
    katax("migrate", "baseline", "--from", "dbmate", "-y")
    assert katax(*words).json == {"would_record": []}


@pytest.mark.parametrize("words", [[], ["1", "--from", "dbmate"], ["--from", "flyway"]])
def test_baseline_wants_a_version_or_dbmate(tmp_path: Path, folder: Path, words: list[str]) -> None:
    sqlite_profile(tmp_path)

    assert katax("migrate", "baseline", *words).code == 2


def test_wait_gives_up_with_the_reason(tmp_path: Path, folder: Path, closed_port: int) -> None:
    write_profile(tmp_path, {"main": f"postgresql://app@127.0.0.1:{closed_port}/app"})

    done = katax("migrate", "wait", "--timeout", "300ms")

    assert done.code == 3
    assert "'main' is not available" in done.err


def test_wait_for_applied_ends_when_all_is(tmp_path: Path, folder: Path) -> None:
    sqlite_profile(tmp_path)

    def is_told() -> bool:
        """Once it had the time to look."""
        pending = katax("migrate", "wait", "--applied", "--timeout", "300ms")
        return pending.code == 1 and "2 migrations that are not applied, first 001_a.sql" in pending.err

    until(is_told)
    katax("migrate", "up")

    assert katax("migrate", "wait", "--applied").code == 0


def test_nothing_to_unlock_and_nothing_to_resume(tmp_path: Path, folder: Path) -> None:
    sqlite_profile(tmp_path)

    assert katax("migrate", "unlock", "-f", "json").json == {"unlocked": False, "holder": None}
    assert katax("migrate", "resume", "-f", "json").json == {"done": []}
    assert katax("migrate", "resume", "--assume", "maybe").code == 2


def test_a_migration_that_stopped_is_given_up_after_a_yes(tmp_path: Path, folder: Path) -> None:
    write_profile(tmp_path, {"main": f"sqlite:///{tmp_path / 'a.db'}"})
    (folder / "001_a.sql").write_text(
        "-- UP\n-- katax: no-transaction\nCREATE TABLE a (id integer);\nSELECT nope;\n-- DOWN\nDROP TABLE a;\n"
    )
    first = katax("migrate", "up", "--yes")
    assert (first.code, "1 of its 2 statements lasts; correct it and go on with" in first.err) == (1, True)

    assert katax("migrate", "resume", "--run-down").code == 2
    assert katax("migrate", "resume", "--abandon", "--assume", "done").code == 2
    assert katax("migrate", "resume", "--abandon").code == 4
    lasting = ["line 3: CREATE TABLE a (id integer)"]
    assert katax("migrate", "resume", "--abandon", "--dry-run", "-f", "json").json == {
        "would_abandon": ["001_a.sql"],
        "lasting": lasting,
        "reverted": False,
    }
    done = katax("migrate", "resume", "--abandon", "--run-down", "--yes", "-f", "json")
    assert done.json == {"abandoned": ["001_a.sql"], "lasting": lasting, "reverted": True}
    (folder / "001_a.sql").write_text("-- UP\nCREATE TABLE a (id integer);\n")
    assert katax("migrate", "up", "--yes").code == 0


@pytest.mark.parametrize("engine", ["postgresql", "mysql"])
def test_a_deadline_ends_the_statement_on_the_server_and_the_wait_for_a_lock(
    engine: str, fresh: MakeFresh, tmp_path: Path, folder: Path
) -> None:
    target = fresh(engine)
    write_profile(tmp_path, {"main": target.url})
    sleep = "pg_sleep(60)" if engine == "postgresql" else "sleep(60)"
    (folder / "001_a.sql").write_text(f"-- UP\nCREATE TABLE IF NOT EXISTS a (id integer);\nSELECT {sleep};\n")

    def ends_in_time() -> bool:
        """Where the machine stands still, the time may be over before the migration begins: then again."""
        done = katax("migrate", "up", "--yes", "--timeout", "1s")
        began = engine != "mysql" or katax("migrate", "resume", "--abandon", "--yes").code == 0
        return (began, done.code, "took longer than 1 s" in done.err) == (True, 3, True)

    def waits_in_vain() -> bool:
        done = katax("migrate", "up", "--yes", "--timeout", "1s")
        return (done.code, "took longer than 1 s" in done.err) == (3, True)

    find = {
        "postgresql": "SELECT pid FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sl%' AND state = 'active'",
        "mysql": "SELECT id FROM information_schema.processlist WHERE info LIKE 'SELECT sl%'",
    }[engine]
    with open_database(target.url) as database:
        until(ends_in_time)
        until(lambda: database.query(find) == [])
        database.execute("CREATE TABLE busy (id integer)")
        (folder / "001_a.sql").write_text("-- UP\nALTER TABLE busy ADD COLUMN c integer;\n")
        with database.transaction() as transaction:
            transaction.execute("INSERT INTO busy VALUES (1)")
            until(waits_in_vain)
    assert katax("migrate", "up", "--yes").code == 0


def test_a_deadline_ends_the_wait_for_another_runner(tmp_path: Path, folder: Path) -> None:
    sqlite_profile(tmp_path)
    with open_database(f"sqlite:///{tmp_path}/app.db") as database, Migrator(database, "x").locked():

        def waited(seconds: float) -> bool:
            done = katax("migrate", "up", "--yes", "--timeout", f"{seconds * 1000:.0f}ms")
            assert done.code == 3, done.err
            return f"longer than {seconds:g} s" in done.err

        patiently(waited, shortest=0.3)


def test_a_living_runner_is_ended_with_force_and_the_name_of_the_connection_only(
    postgresql_url: str, tmp_path: Path, folder: Path
) -> None:
    write_profile(tmp_path, {"main": postgresql_url})
    with open_database(postgresql_url) as database, Migrator(database, "x").locked():
        assert katax("migrate", "unlock", "--yes").code == 5
        refused = katax("migrate", "unlock", "--force", "--yes")
        assert (refused.code, "repeat with --confirm" in refused.err) == (4, True), refused.err
        name = refused.err.split("--confirm ")[1].split()[0]
        assert katax("migrate", "unlock", "--force", "--confirm", name, "-f", "json").json["unlocked"] is True
