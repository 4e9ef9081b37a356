"""`katax seed`, `db truncate` and `db reset` as commands: what they print, what they ask, how they end."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.cli.harness import katax, write_profile
from tests.servers.fixtures import MakeFresh, Target

KEYS = {"name", "state", "inserted", "updated", "rows_affected", "duration_ms"}
USERS = '{"table": "users", "key": ["id"], "rows": [{"id": 1, "name": "Ada"}, {"id": 2, "name": "Bob"}]}'


@pytest.fixture
def seeds(tmp_path: Path) -> Path:
    path = tmp_path / "seeds"
    path.mkdir()
    return path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A SQLite file with users and posts."""
    path = tmp_path / "app.db"
    run(path, "CREATE TABLE users (id integer PRIMARY KEY, name text)")
    run(path, "CREATE TABLE posts (author integer REFERENCES users (id))")
    return path


def run(path: Path, sql: str) -> list[Any]:
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        return database.execute(sql).fetchall()


def profile(tmp_path: Path, **more: Any) -> None:
    write_profile(tmp_path, {"main": f"sqlite:///{tmp_path}/app.db"}, **more)


def test_a_life_on_every_sql_engine(sql_engine: Target, tmp_path: Path, seeds: Path) -> None:
    write_profile(tmp_path, {"main": sql_engine.url})
    katax("db", "exec", "CREATE TABLE users (id integer PRIMARY KEY, name varchar(20))")
    (seeds / "users.json").write_text(USERS)
    (seeds / "z.sql").write_text("UPDATE users SET name = 'Eve' WHERE id = 2")

    before = katax("seed", "status", "-f", "json")
    planned = katax("seed", "run", "--dry-run", "-f", "json")
    first = katax("seed", "run", "-f", "json")
    second = katax("seed", "run", "-f", "json")
    after = katax("seed", "status", "-f", "json")

    assert [row["state"] for row in before.json] == ["pending", "pending"]
    assert [(row["state"], row["inserted"]) for row in planned.json] == [
        ("would_apply", 2),
        ("would_apply", None),
    ]
    assert (first.code, [row["state"] for row in first.json]) == (0, ["applied", "applied"])
    assert set(first.json[0]) == KEYS
    assert [row["state"] for row in second.json] == ["unchanged", "unchanged"]
    assert [row["state"] for row in after.json] == ["applied", "applied"]
    assert set(after.json[0]) == {"name", "state", "applied_at", "duration_ms"}
    names = katax("db", "query", "SELECT name FROM users ORDER BY id", "-f", "json")
    assert names.json == [{"name": "Ada"}, {"name": "Eve"}]


def test_a_life_on_mongodb(mongodb_url: str, tmp_path: Path, seeds: Path) -> None:
    write_profile(tmp_path, {"main": mongodb_url})
    (seeds / "users.json").write_text('[{"_id": 1, "name": "Ada"}]')

    done = katax("seed", "run", "-f", "json")
    emptied = katax("db", "truncate", "-y", "-f", "json")
    again = katax("seed", "run", "-f", "json")
    dropped = katax("db", "reset", "--seed", "-y", "-f", "json")

    assert (done.code, done.json[0]["inserted"]) == (0, 1)
    assert (emptied.code, emptied.json["tables"]) == (0, ["katax_seeds", "users"])
    assert again.json[0]["inserted"] == 1
    assert dropped.json == {
        "dropped": ["collection katax_seeds", "collection users"],
        "seeded": ["users.json"],
    }


def test_each_seed_is_told_on_stderr(tmp_path: Path, seeds: Path, file: Path) -> None:
    profile(tmp_path)
    (seeds / "users.json").write_text(USERS)
    (seeds / "z.sql").write_text("DELETE FROM users WHERE id = 1; SELECT nope FROM users")

    done = katax("seed", "run")

    told = done.err.splitlines()
    assert (done.code, done.stdout) == (1, b"")
    assert told[0].partition(" (")[0] == "applied users.json: 2 inserted, 0 updated"
    assert told[1].startswith("katax: seed z.sql failed at line 1: 'main' refused the statement: ")
    assert run(file, "SELECT count(*) FROM users") == [(2,)]


def test_the_seed_called_after_the_profile_is_run_alone(tmp_path: Path, seeds: Path, file: Path) -> None:
    profile(tmp_path, name="dev")
    (seeds / "dev.sql").write_text("INSERT INTO users VALUES (1, 'dev')")
    (seeds / "other.sql").write_text("INSERT INTO users VALUES (2, 'other')")

    assert [row["name"] for row in katax("seed", "run", "-f", "json").json] == ["dev.sql"]
    assert [row["name"] for row in katax("seed", "run", "other", "-f", "json").json] == ["other.sql"]


@pytest.mark.parametrize(
    ("role", "message"),
    [
        ("prod", "'main' is a prod connection; seeds are for dev and stage, use a migration"),
        ("frozen", "'main' is read-only"),
    ],
)
def test_protected_roles_are_refused_even_with_a_confirmation(
    tmp_path: Path, seeds: Path, file: Path, role: str, message: str
) -> None:
    profile(tmp_path, role=role)
    (seeds / "users.json").write_text(USERS)

    for words in (("seed", "run"), ("seed", "run", "--dry-run"), ("db", "reset", "--seed")):
        done = katax(*words, "-y", "--confirm", "test/main")
        assert (done.code, done.stdout) == (4, b"")
        assert done.err.splitlines()[-1] == f"katax: refused: {message}"
    assert run(file, "SELECT count(*) FROM users") == [(0,)]


def test_a_seed_that_loses_data_needs_a_yes(tmp_path: Path, seeds: Path, file: Path) -> None:
    profile(tmp_path)
    run(file, "INSERT INTO users VALUES (1, 'kept')")
    (seeds / "a.sql").write_text("DELETE FROM users")

    refused = katax("seed", "run")

    assert refused.code == 4
    assert (
        "seeds with DELETE without WHERE on 'test/main' needs confirmation; repeat with --yes" in refused.err
    )
    assert run(file, "SELECT count(*) FROM users") == [(1,)]
    assert katax("seed", "run", "-y").code == 0
    assert katax("seed", "run").code == 0, "it is applied, so nothing is asked"


@pytest.mark.parametrize(
    "words", [("seed", "run"), ("seed", "status"), ("db", "truncate", "-y"), ("db", "reset", "-y")]
)
def test_the_built_in_profile_must_be_named(tmp_path: Path, seeds: Path, words: tuple[str, ...]) -> None:
    done = katax(*words)

    assert done.code == 4
    name = " ".join(words[:2])
    assert f"{name!r} uses the built-in profile only when it is named; repeat with -p local" in done.err


def test_create_says_where(tmp_path: Path) -> None:
    profile(tmp_path)

    done = katax("seed", "create", "users.json", "-f", "json")

    assert (done.code, done.json) == (0, {"path": f"{tmp_path}/seeds/users.json"})
    assert katax("seed", "create", "users.json").code == 2


def test_several_connections_make_one_result(fresh: MakeFresh, tmp_path: Path, seeds: Path) -> None:
    write_profile(tmp_path, {name: fresh("sqlite").url for name in ("shard1", "shard2")})
    (seeds / "a.sql").write_text("SELECT 1")

    done = katax("seed", "run", "-c", "shard*", "-f", "json")

    assert [(row["connection"], row["state"]) for row in done.json] == [
        ("shard1", "applied"),
        ("shard2", "applied"),
    ]


def test_a_connection_that_is_down_costs_its_own_rows(
    fresh: MakeFresh, closed_port: int, tmp_path: Path, seeds: Path
) -> None:
    down = f"postgresql://u@127.0.0.1:{closed_port}/d"
    write_profile(tmp_path, {"shard1": down, "shard2": fresh("sqlite").url})
    (seeds / "a.sql").write_text("DROP TABLE IF EXISTS nobody")

    refused = katax("seed", "run", "-c", "shard*")
    (seeds / "a.sql").write_text("DROP TABLE IF EXISTS nobody")
    done = katax("seed", "run", "-c", "shard*", "-y", "-f", "json")

    assert refused.code == 4
    assert "seeds with DROP TABLE on 'test/shard1' needs confirmation" in refused.err
    assert done.code == 3
    assert [(row["connection"], row["state"]) for row in done.json] == [("shard2", "applied")]


def test_truncate_previews_asks_and_empties(tmp_path: Path, file: Path) -> None:
    profile(tmp_path)
    run(file, "INSERT INTO users VALUES (1, 'a'), (2, 'b')")

    refused = katax("db", "truncate")
    planned = katax("db", "truncate", "users", "posts", "--dry-run", "-f", "json")
    before = run(file, "SELECT count(*) FROM users")
    done = katax("db", "truncate", "-y", "-f", "json")

    assert refused.code == 4
    assert refused.err.splitlines() == [
        "  posts  about 0 rows",
        "  users  about 2 rows",
        "katax: refused: emptying 2 tables on 'test/main' needs confirmation; repeat with --yes",
    ]
    facts = {"tables": ["users", "posts"], "rows_estimate": 2}
    assert (planned.json, before) == ({**facts, "dry_run": True}, [(2,)])
    assert done.json == {"tables": ["posts", "users"], "rows_estimate": 2}
    assert run(file, "SELECT count(*) FROM users") == [(0,)]


def test_truncate_keeps_the_ledger_that_the_profile_names(tmp_path: Path, file: Path) -> None:
    profile(tmp_path, extra='[migrate]\ntable = "done"\n')
    run(file, "CREATE TABLE done (version text)")

    assert katax("db", "truncate", "-y", "-f", "json").json["tables"] == ["posts", "users"]
    assert katax("db", "truncate", "done", "-y").code == 4


def test_truncate_stops_at_references(tmp_path: Path, file: Path) -> None:
    profile(tmp_path)

    refused = katax("db", "truncate", "users", "-y")

    assert refused.code == 4
    assert "'posts' refers to 'users'; name both, or repeat with --cascade" in refused.err
    assert katax("db", "truncate", "users", "--cascade", "-y", "-f", "json").json["tables"] == [
        "users",
        "posts",
    ]


@pytest.mark.parametrize("command", ["truncate", "reset"])
def test_production_wants_its_name(tmp_path: Path, file: Path, command: str) -> None:
    profile(tmp_path, role="prod")
    run(file, "INSERT INTO users VALUES (1, 'kept')")

    refused = katax("db", command, "-y")

    assert refused.code == 4
    assert "'main' is a prod connection; repeat with --confirm test/main" in refused.err
    assert run(file, "SELECT count(*) FROM users") == [(1,)]
    assert katax("db", command, "--confirm", "test/main").code == 0


def test_reset_drops_migrates_and_seeds(sql_engine: Target, tmp_path: Path, seeds: Path) -> None:
    write_profile(tmp_path, {"main": sql_engine.url})
    (tmp_path / "migrations").mkdir()
    (tmp_path / "migrations" / "001_users.sql").write_text(
        "-- UP\nCREATE TABLE users (id integer PRIMARY KEY, name varchar(20));\n"
    )
    (seeds / "users.json").write_text(USERS)
    katax("db", "exec", "CREATE TABLE stray (n integer)")

    for _ in range(2):
        done = katax("db", "reset", "--migrate", "--seed", "-y", "-f", "json")
        assert (done.code, done.err) == (0, "")
        assert (done.json["migrated"], done.json["seeded"]) == (["001_users.sql"], ["users.json"])

    names = [row["name"] for row in katax("db", "tables", "-f", "json").json]
    assert sorted(names) == ["katax_migrations", "katax_seeds", "users"]
    assert katax("db", "query", "SELECT count(*) AS n FROM users", "-f", "json").json == [{"n": 2}]


@pytest.mark.parametrize(("option", "folder"), [("--migrate", "migrations"), ("--seed", "seeds")])
def test_reset_drops_nothing_when_it_could_not_fill(
    tmp_path: Path, file: Path, option: str, folder: str
) -> None:
    profile(tmp_path)

    missing = katax("db", "reset", option, "-y")
    (tmp_path / folder).mkdir()
    (tmp_path / folder / "001_a.sql").write_bytes(b"\xff")
    unreadable = katax("db", "reset", option, "-y")

    assert (missing.code, unreadable.code) == (2, 1)
    assert run(file, "SELECT name FROM sqlite_master ORDER BY name") == [("posts",), ("users",)]


def test_reset_previews_and_asks(tmp_path: Path, file: Path) -> None:
    profile(tmp_path)

    refused = katax("db", "reset")
    planned = katax("db", "reset", "--dry-run", "-f", "json")

    assert refused.err.splitlines() == [
        "  table posts",
        "  table users",
        "katax: refused: dropping 2 objects on 'test/main' needs confirmation; repeat with --yes",
    ]
    assert planned.json == {"dropped": ["table posts", "table users"], "dry_run": True}
    assert run(file, "SELECT name FROM sqlite_master ORDER BY name") == [("posts",), ("users",)]


@pytest.mark.parametrize("command", [("seed", "run"), ("db", "truncate"), ("db", "reset")])
def test_redis_is_none_of_this(redis_url: str, tmp_path: Path, command: tuple[str, ...]) -> None:
    write_profile(tmp_path, {"main": redis_url})

    for words in (command, (*command, "-c", "main")):
        done = katax(*words)
        assert done.code == 2
        assert "works on postgresql, mysql, sqlite, mongodb" in done.err


def test_a_dry_create_names_the_file_and_writes_none(tmp_path: Path) -> None:
    write_profile(tmp_path, {"main": "sqlite:///app.db"})
    words = ["seed", "create", "people.json", "-f", "json"]
    path = str(tmp_path / "seeds" / "people.json")
    assert katax(*words, "--dry-run").json == {"path": path, "dry_run": True}
    assert not (tmp_path / "seeds").exists()
    assert katax(*words).json == {"path": path}
    assert katax(*words, "--dry-run").code == 2
