"""Seeds on real servers: applied once, changed by their natural key, undone as a whole."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from katax_cli.errors import ConfigError, Refused, SeedError, UntrustedFile, WrongEngine
from katax_cli.seeds import Counts, Seeder
from katax_cli.services.databases.mongodb import MongoDatabase
from katax_cli.services.databases.sql import SqlDatabase
from tests.servers.fixtures import MakeFresh, Target

Open = Callable[..., Any]
USERS = "CREATE TABLE users (id integer PRIMARY KEY, email varchar(80) UNIQUE, score integer)"
ADA = {"id": 1, "email": "ada@example.com", "score": 1}
BOB = {"id": 2, "email": "bob@example.com", "score": 2}


@pytest.fixture
def database(sql_engine: Target, open_url: Open) -> SqlDatabase:
    """With a table of users, on each SQL engine."""
    made: SqlDatabase = open_url(sql_engine.url)
    made.execute(USERS)
    return made


@pytest.fixture
def mongo(mongodb_url: str, open_url: Open) -> MongoDatabase:
    made: MongoDatabase = open_url(mongodb_url)
    return made


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "seeds"
    path.mkdir()
    return path


@pytest.fixture
def seeder(database: SqlDatabase, folder: Path) -> Seeder:
    return Seeder(database, str(folder))


def users(database: SqlDatabase) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in database.run("SELECT id, email, score FROM users ORDER BY id").rows]


def documents(mongo: MongoDatabase, name: str) -> list[dict[str, Any]]:
    found = mongo.command({"find": name, "sort": {"_id": 1}})["cursor"]["firstBatch"]
    return [dict(each) for each in found]


def outcomes(seeder: Seeder, *words: Any, **options: Any) -> list[tuple[Any, ...]]:
    return [
        (one.name, one.state, one.counts.inserted, one.counts.updated, one.counts.affected)
        for one in seeder.run(*words, **options)
    ]


def test_rows_are_inserted_then_changed_by_their_primary_key(
    seeder: Seeder, database: SqlDatabase, folder: Path
) -> None:
    file = folder / "users.json"
    file.write_text(json.dumps([ADA, BOB]))
    first = outcomes(seeder)
    file.write_text(json.dumps([ADA, {**BOB, "score": 9}, {"id": 3, "email": None, "score": 3}]))

    assert first == [("users.json", "applied", 2, 0, 2)]
    assert outcomes(seeder) == [("users.json", "applied", 1, 1, 2)]
    assert users(database) == [
        (1, "ada@example.com", 1),
        (2, "bob@example.com", 9),
        (3, None, 3),
    ]


def test_an_unchanged_seed_is_not_run_twice_unless_it_is_asked_for(
    seeder: Seeder, database: SqlDatabase, folder: Path
) -> None:
    (folder / "a.sql").write_text("INSERT INTO users (id, score) SELECT count(*) + 1, 0 FROM users;")

    assert outcomes(seeder) == [("a.sql", "applied", None, None, 1)]
    assert outcomes(seeder) == [("a.sql", "unchanged", None, None, None)]
    assert len(users(database)) == 1
    assert outcomes(seeder, again=True) == [("a.sql", "applied", None, None, 1)]
    assert len(users(database)) == 2


def test_columns_that_a_row_does_not_name_keep_their_value(
    seeder: Seeder, database: SqlDatabase, folder: Path
) -> None:
    database.execute("INSERT INTO users (id, email, score) VALUES (1, 'old', 7)")
    (folder / "users.json").write_text(json.dumps([{"id": 1, "email": "new"}, {"id": 2}]))

    assert outcomes(seeder) == [("users.json", "applied", 1, 1, 2)]
    assert users(database) == [(1, "new", 7), (2, None, None)]


def test_another_unique_key_can_be_the_natural_one(
    seeder: Seeder, database: SqlDatabase, folder: Path
) -> None:
    database.execute("INSERT INTO users (id, email, score) VALUES (5, 'ada@example.com', 1)")
    rows = [{"id": 5, "email": "ada@example.com", "score": 2}, {"id": 6, "email": "b", "score": 3}]
    whole = {"table": "users", "key": ["email"], "rows": rows}
    (folder / "people.json").write_text(json.dumps(whole))

    assert outcomes(seeder) == [("people.json", "applied", 1, 1, 2)]
    assert users(database) == [(5, "ada@example.com", 2), (6, "b", 3)]


def test_a_row_never_changes_another_one_by_another_key(
    seeder: Seeder, database: SqlDatabase, folder: Path
) -> None:
    """MySQL's upsert would take any unique key."""
    database.execute("INSERT INTO users (id, email, score) VALUES (1, 'old', 7)")
    whole = {"table": "users", "key": "email", "rows": [{"id": 1, "email": "new", "score": 8}]}
    (folder / "users.json").write_text(json.dumps(whole))

    with pytest.raises(SeedError):
        seeder.run()

    assert users(database) == [(1, "old", 7)]
    assert [one.state for one in seeder.status()] == ["pending"]


def test_keys_that_mysql_takes_for_one_are_refused(mysql_url: str, open_url: Open, folder: Path) -> None:
    """Its usual collation does not tell capitals."""
    database = open_url(mysql_url)
    database.execute("CREATE TABLE tags (slug varchar(20) COLLATE utf8mb4_general_ci PRIMARY KEY, n int)")
    (folder / "tags.json").write_text('[{"slug": "a", "n": 1}, {"slug": "A", "n": 2}]')

    with pytest.raises(SeedError):
        Seeder(database, str(folder)).run()

    assert database.run("SELECT count(*) FROM tags").rows == [(0,)]


def test_a_csv_is_for_the_table_that_it_is_called_after(
    seeder: Seeder, database: SqlDatabase, folder: Path
) -> None:
    """An empty cell is NULL; a number in front gives only the order."""
    (folder / "01_users.csv").write_bytes('\ufeffid,email,score\r\n1,"a,b",\r\n2,,5\r\n'.encode())

    assert outcomes(seeder) == [("01_users.csv", "applied", 2, 0, 2)]
    assert users(database) == [(1, "a,b", None), (2, None, 5)]


def test_more_rows_than_one_batch_are_counted_one_by_one(
    seeder: Seeder, database: SqlDatabase, folder: Path
) -> None:
    database.execute_many("INSERT INTO users (id, score) VALUES (?, ?)", [(n, n % 2) for n in range(150)])
    (folder / "users.json").write_text(json.dumps([{"id": n, "score": 1} for n in range(250)]))

    assert outcomes(seeder) == [("users.json", "applied", 100, 75, 175)]


def test_a_csv_into_a_table_that_has_rows_is_merged_and_what_is_wrong_with_it_named(
    seeder: Seeder, database: SqlDatabase, folder: Path
) -> None:
    def write(*wrong: str) -> None:
        lines = [f"{n},{'' if n % 3 else n},1" for n in range(250)]
        (folder / "users.csv").write_text("\n".join(["id,email,score", *lines, *wrong]) + "\n")

    rows = [(n, None if n % 3 else str(n), n % 2) for n in range(150)]
    database.execute_many("INSERT INTO users (id, email, score) VALUES (?, ?, ?)", rows)
    for wrong, message in (
        ([",a,1"], r"line 252 has no 'id', the key of its row"),
        (["3,a,1"], r"line 5 and line 252 have the same id"),
        (["300,a,1", "301,b,many"], r"line 253: .*; nothing of it was applied"),
    ):
        if "many" in wrong[-1] and database.dialect == "sqlite":
            continue
        write(*wrong)
        with pytest.raises(SeedError, match=message):
            seeder.run()
        assert users(database) == rows
    write()

    assert outcomes(seeder) == [("users.csv", "applied", 100, 75, 175)]
    assert users(database) == [(n, None if n % 3 else str(n), 1) for n in range(250)]
    assert outcomes(seeder, again=True) == [("users.csv", "applied", 0, 0, 0)]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("users.json", "{", "seed users.json is no JSON: "),
        ("users.json", "3", "seed users.json: rows is int, expected a list of objects"),
        ("users.json", "[3]", "seed users.json: row 1 is int, expected an object"),
        ("users.json", '{"row": []}', "seed users.json has row; write a list of objects, or "),
        ("users.json", '[{"score": 1}]', "seed users.json: row 1 has no 'id', the key of its row"),
        ("users.json", '[{"id": 1}, {"id": 1}]', "seed users.json: row 1 and row 2 have the same id"),
        ("users.json", '[{"id": 1, "nam": 1}]', "seed users.json: no column named 'nam' in 'users'; columns: id"),
        (
            "users.json",
            '{"key": ["score"], "rows": [{"score": 1}]}',
            "seed users.json: score is no unique key of 'users'; make a unique index or name another",
        ),
        ("nobody.json", "[]", "seed nobody.json: no table named 'nobody'; apply the migrations first"),
        ("users.csv", "id,score\n1\n", "seed users.csv, line 2: 1 cells, expected 2"),
        ("users.csv", "id,id\n1,1\n", "seed users.csv names a column twice in its first line"),
        ("users.csv", 'id\n"1\n', "seed users.csv, line 2: "),
        ("users.csv", "id,nam\n", "seed users.csv: no column named 'nam' in 'users'; columns: id"),
        ("users.csv", "id,nam", "seed users.csv: no column named 'nam' in 'users'; columns: id"),
        ("users.csv", "", "seed users.csv has no first line that names its columns"),
        ("a.sql", "BEGIN;", "seed a.sql, line 1: BEGIN in a seed, which is one transaction already; leave it out"),
        ("a.sql", "SELECT 1;\nROLLBACK;", "seed a.sql, line 2: ROLLBACK in a seed"),
        ("a.py", "def seed(", "seed a.py cannot be loaded: SyntaxError: "),
        ("a.py", "x = 1", "seed a.py has no function seed(db); define it"),
        ("a.py", "def seed(db): 1/0", "seed a.py failed: ZeroDivisionError: division by zero; nothing of it"),
        ("a.py", "def seed(db): db.execute('COMMIT')", "seed a.py: COMMIT in a seed, which is one transaction"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused_and_nothing_is_written(
    seeder: Seeder, database: SqlDatabase, folder: Path, name: str, text: str, message: str
) -> None:
    (folder / name).write_text(text)

    with pytest.raises(SeedError) as error:
        seeder.run()

    assert str(error.value).startswith(message)
    assert users(database) == []


def test_bytes_that_are_no_utf8_are_named(seeder: Seeder, folder: Path) -> None:
    (folder / "a.sql").write_bytes(b"-- caf\xe9")

    with pytest.raises(SeedError) as error:
        seeder.run()

    assert str(error.value) == "seed a.sql is not UTF-8 at byte 6; save it as UTF-8"


def test_all_files_are_read_before_the_first_is_run(
    seeder: Seeder, database: SqlDatabase, folder: Path
) -> None:
    (folder / "a.json").write_text(json.dumps({"table": "users", "rows": [ADA]}))
    (folder / "b.json").write_text("{")

    with pytest.raises(SeedError):
        seeder.run()

    assert users(database) == []


def test_a_seed_that_fails_in_its_middle_leaves_nothing(
    seeder: Seeder, database: SqlDatabase, folder: Path
) -> None:
    (folder / "a.sql").write_text(
        "INSERT INTO users (id) VALUES (1);\n\nINSERT INTO users (nope) VALUES (2);"
    )

    with pytest.raises(SeedError) as error:
        seeder.run()

    assert str(error.value).startswith("seed a.sql failed at line 3: 'main' refused the statement: ")
    assert str(error.value).endswith("; nothing of it was applied")
    assert users(database) == []
    assert [one.state for one in seeder.status()] == ["pending"]


def test_seeds_before_the_one_that_failed_stay(seeder: Seeder, database: SqlDatabase, folder: Path) -> None:
    (folder / "a.json").write_text(json.dumps({"table": "users", "rows": [ADA]}))
    (folder / "b.sql").write_text("INSERT INTO users (nope) VALUES (2)")

    with pytest.raises(SeedError):
        seeder.run()

    assert [(one.name, one.state) for one in seeder.status()] == [("a.json", "applied"), ("b.sql", "pending")]
    assert len(users(database)) == 1


PYTHON = """
def seed(db):
    db.upsert("users", [{"id": n, "score": db.random.randint(1, 10**6)} for n in range(3)])
    db.execute("UPDATE users SET email = ? WHERE id = ?", ["x", 1])
"""


def test_python_has_the_same_chances_every_time(seeder: Seeder, database: SqlDatabase, folder: Path) -> None:
    (folder / "a.py").write_text(PYTHON)
    first, scores = outcomes(seeder), users(database)

    assert first == [("a.py", "applied", 3, 0, 4)]
    assert outcomes(seeder, again=True) == [("a.py", "applied", 0, 0, 0 if is_mysql(database) else 1)]
    assert users(database) == scores
    assert len({score for _, _, score in scores}) == 3


def is_mysql(database: SqlDatabase) -> bool:
    """It does not count an update that changes nothing."""
    return database.engine.name == "mysql"


def test_python_that_others_could_have_written_is_not_run(
    seeder: Seeder, database: SqlDatabase, folder: Path
) -> None:
    file = folder / "a.py"
    file.write_text("def seed(db): db.execute('DELETE FROM users')")
    file.chmod(0o666)

    with pytest.raises(UntrustedFile):
        seeder.run()


def test_a_dry_run_counts_and_changes_nothing(seeder: Seeder, database: SqlDatabase, folder: Path) -> None:
    database.execute("INSERT INTO users (id, email, score) VALUES (1, 'ada@example.com', 0)")
    (folder / "a.sql").write_text("INSERT INTO users (id) VALUES (8), (9)")
    (folder / "b.py").write_text("def seed(db): db.execute('DELETE FROM users WHERE id > 8')")
    (folder / "users.json").write_text(json.dumps([ADA, BOB]))

    assert outcomes(seeder, dry_run=True) == [
        ("a.sql", "would_apply", None, None, 2),
        ("b.py", "would_apply", None, None, 1),
        ("users.json", "would_apply", 1, 1, 2),
    ]
    assert users(database) == [(1, "ada@example.com", 0)]
    assert [one.state for one in seeder.status()] == ["pending", "pending", "pending"]
    assert database.describe("katax_seeds") is None


def test_a_dry_run_lets_later_seeds_see_earlier_ones(
    seeder: Seeder, database: SqlDatabase, folder: Path
) -> None:
    database.execute(
        "CREATE TABLE posts (id integer PRIMARY KEY, author integer, FOREIGN KEY (author) REFERENCES users (id))"
    )
    (folder / "1_users.json").write_text(json.dumps([ADA]))
    (folder / "2_posts.json").write_text('[{"id": 1, "author": 1}]')

    assert [one[1:3] for one in outcomes(seeder, dry_run=True)] == [("would_apply", 1), ("would_apply", 1)]
    assert users(database) == []


def test_a_dry_run_that_fails_says_why_and_leaves_nothing(
    seeder: Seeder, database: SqlDatabase, folder: Path
) -> None:
    (folder / "a.json").write_text(json.dumps({"table": "users", "rows": [ADA]}))
    (folder / "b.sql").write_text("SELECT nope FROM users")

    with pytest.raises(SeedError):
        seeder.run(dry_run=True)

    assert users(database) == []


def test_status_knows_what_is_applied_changed_pending_and_missing(seeder: Seeder, folder: Path) -> None:
    for name in ("a.sql", "b.sql", "c.sql"):
        (folder / name).write_text("SELECT 1")
    seeder.run()
    (folder / "a.sql").unlink()
    (folder / "b.sql").write_text("SELECT 2")
    (folder / "d.sql").write_text("SELECT 4")

    found = seeder.status()

    assert [(one.name, one.state) for one in found] == [
        ("a.sql", "missing"),
        ("b.sql", "changed"),
        ("c.sql", "applied"),
        ("d.sql", "pending"),
    ]
    assert [one.applied_at is not None for one in found] == [True, True, True, False]
    assert found[2].applied_at is not None
    assert found[2].applied_at.endswith("+00:00")


def test_many_runners_apply_a_seed_once(sql_engine: Target, open_url: Open, folder: Path) -> None:
    """None of these rows is protected by a key: a second run would double them."""
    open_url(sql_engine.url).execute("CREATE TABLE log (n integer)")
    (folder / "a.sql").write_text("INSERT INTO log VALUES (1)")
    seeders = [Seeder(open_url(sql_engine.url), str(folder)) for _ in range(6)]

    with ThreadPoolExecutor(len(seeders)) as pool:
        done = list(pool.map(lambda one: one.run()[0].state, seeders))

    assert open_url(sql_engine.url).run("SELECT count(*) FROM log").rows[0][0] == 1
    assert sorted(done) == ["applied"] + ["unchanged"] * 5


def test_a_name_chooses_with_or_without_its_ending(seeder: Seeder, folder: Path) -> None:
    for name in ("a.sql", "b.sql", "b.py"):
        (folder / name).write_text("def seed(db): pass" if name.endswith("py") else "SELECT 1")

    assert [one.name for one in seeder.run("a")] == ["a.sql"]
    assert [one.name for one in seeder.run("b.py")] == ["b.py"]
    with pytest.raises(ConfigError) as several:
        seeder.run("b")
    with pytest.raises(ConfigError) as none:
        seeder.run("c")
    assert str(several.value) == "several seeds are called 'b': b.py, b.sql; give the name with its ending"
    assert str(none.value).startswith("no seed named 'c'; ")


def test_without_a_name_the_default_is_run_if_there_is_one(database: SqlDatabase, folder: Path) -> None:
    for name in ("a.sql", "dev.sql"):
        (folder / name).write_text("SELECT 1")

    assert Seeder(database, str(folder), default="dev").chosen() == ["dev.sql"]
    assert Seeder(database, str(folder), default="test").chosen() == ["a.sql", "dev.sql"]


def test_other_files_are_left_alone(seeder: Seeder, folder: Path) -> None:
    for name in ("_shared.py", ".hidden.sql", "README.md", "a.sql~"):
        (folder / name).write_text("nothing to run")
    (folder / "sub.sql").mkdir()

    assert seeder.status() == []
    assert seeder.run() == []


def test_a_missing_folder_says_how_to_make_one(database: SqlDatabase, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as error:
        Seeder(database, str(tmp_path / "none")).run()

    assert str(error.value) == (
        f"no seeds folder at {tmp_path}/none: No such file or directory; "
        "make one with 'katax seed create NAME' or set directory in [seed]"
    )


@pytest.mark.parametrize("name", ["users", "users.sql", "users.py", "users.json", "users.csv"])
def test_create_writes_a_starter_that_runs(
    seeder: Seeder, database: SqlDatabase, folder: Path, name: str
) -> None:
    path = seeder.create(name)

    assert Path(path) == folder / (name if "." in name else "users.sql")
    assert [one.state for one in seeder.run()] == ["applied"]
    assert users(database) == []
    with pytest.raises(ConfigError) as error:
        seeder.create(name)
    assert str(error.value) == f"{path} exists; edit it or choose another name"


@pytest.mark.parametrize("name", ["../users", "users.txt", "_users", ""])
def test_create_refuses_what_would_not_be_found(seeder: Seeder, folder: Path, name: str) -> None:
    with pytest.raises(ConfigError) as error:
        seeder.create(name)

    assert str(error.value) == f"{name!r} is no name for a seed; write NAME or NAME.sql|py|json|csv"
    assert list(folder.iterdir()) == []


def test_a_read_only_connection_is_refused(sql_engine: Target, open_url: Open, folder: Path) -> None:
    (folder / "a.sql").write_text("SELECT 1")
    seeder = Seeder(open_url(sql_engine.url, read_only=True), str(folder))

    with pytest.raises(Refused):
        seeder.run()
    with pytest.raises(Refused):
        seeder.run(dry_run=True)
    assert [one.state for one in seeder.status()] == ["pending"]


def test_redis_has_no_seeds(redis_url: str, open_url: Open, folder: Path) -> None:
    with pytest.raises(WrongEngine) as error:
        Seeder(open_url(redis_url), str(folder))

    assert str(error.value) == "redis has no seeds; 'seed run' works on postgresql, mysql, sqlite, mongodb"


def test_mysql_refuses_what_commits_by_itself(mysql_url: str, open_url: Open, folder: Path) -> None:
    seeder = Seeder(open_url(mysql_url), str(folder))
    (folder / "a.sql").write_text("CREATE TEMPORARY TABLE fine (n int);\nTRUNCATE users;")

    with pytest.raises(SeedError) as error:
        seeder.run()

    assert str(error.value) == (
        "seed a.sql, line 2: mysql commits by itself at TRUNCATE, so the seed could not be undone; "
        "move it to a migration"
    )


def test_postgresql_types_come_from_json(postgresql_url: str, open_url: Open, folder: Path) -> None:
    database = open_url(postgresql_url)
    database.execute(
        'CREATE TABLE kinds (id int PRIMARY KEY, j json, b jsonb, a text[], n numeric, t timestamptz, "userId" bool)'
    )
    row = {
        "id": 1,
        "j": {"x": [1.10]},
        "b": [1, {"y": None}],
        "a": ["p", "q"],
        "n": 0.1,
        "t": "2024-01-01T00:00:00Z",
        "userId": True,
    }
    (folder / "kinds.json").write_text(json.dumps([row]))
    seeder = Seeder(database, str(folder))

    assert outcomes(seeder) == [("kinds.json", "applied", 1, 0, 1)]
    assert outcomes(seeder, again=True) == [("kinds.json", "applied", 0, 0, 0)]
    [found] = database.query('SELECT j::text, b::text, a, n::text, "userId" FROM kinds')
    assert found == {
        "j": '{"x": [1.1]}',
        "b": '[1, {"y": null}]',
        "a": ["p", "q"],
        "n": "0.1",
        "userId": True,
    }


@pytest.mark.parametrize("kind", ["serial", "int generated always as identity"])
def test_postgresql_counters_go_on_behind_the_given_numbers(
    postgresql_url: str, open_url: Open, folder: Path, kind: str
) -> None:
    database = open_url(postgresql_url)
    database.execute(f"CREATE TABLE items (id {kind} PRIMARY KEY, n int)")
    (folder / "items.json").write_text('[{"id": 7, "n": 1}]')

    Seeder(database, str(folder)).run(dry_run=True)
    database.execute("INSERT INTO items (n) VALUES (2)")
    Seeder(database, str(folder)).run()
    database.execute("INSERT INTO items (n) VALUES (3)")

    assert database.run("SELECT id FROM items ORDER BY n").rows == [(7,), (1,), (8,)]


def test_mongodb_documents_are_inserted_then_changed(mongo: MongoDatabase, folder: Path) -> None:
    seeder = Seeder(mongo, str(folder))
    file = folder / "users.json"
    file.write_text(
        '[{"_id": 1, "name": "a", "n": 1}, {"_id": {"$oid": "5f5b9c1e8f1b2c3d4e5f6a7b"}, "n": 2}]'
    )

    assert outcomes(seeder) == [("users.json", "applied", 2, 0, 2)]
    assert outcomes(seeder) == [("users.json", "unchanged", None, None, None)]
    file.write_text(
        '[{"_id": 1, "n": 1}, {"_id": 3, "n": 3}, {"_id": {"$oid": "5f5b9c1e8f1b2c3d4e5f6a7b"}, "n": 5}]'
    )
    assert outcomes(seeder, dry_run=True) == [("users.json", "would_apply", 1, 1, 2)]
    assert outcomes(seeder) == [("users.json", "applied", 1, 1, 2)]
    found = documents(mongo, "users")
    assert [each["n"] for each in found] == [1, 3, 5]
    assert found[0] == {"_id": 1, "name": "a", "n": 1}
    assert str(found[2]["_id"]) == "5f5b9c1e8f1b2c3d4e5f6a7b"


def test_mongodb_knows_documents_by_another_key(mongo: MongoDatabase, folder: Path) -> None:
    seeder = Seeder(mongo, str(folder))
    (folder / "a.json").write_text('{"table": "users", "key": ["email"], "rows": [{"email": "x", "n": 1}]}')
    seeder.run()
    (folder / "a.json").write_text('{"table": "users", "key": ["email"], "rows": [{"email": "x", "n": 2}]}')

    assert outcomes(seeder) == [("a.json", "applied", 0, 1, 1)]
    assert [each["n"] for each in documents(mongo, "users")] == [2]


def test_mongodb_runs_python_and_no_sql(mongo: MongoDatabase, folder: Path) -> None:
    seeder = Seeder(mongo, str(folder))
    (folder / "a.py").write_text(
        "def seed(db):\n"
        "    db.upsert('users', [{'_id': n, 'score': db.random.random()} for n in range(3)])\n"
        "    db.command({'insert': 'log', 'documents': [{'_id': 1}]})\n"
    )

    assert outcomes(seeder, dry_run=True) == [("a.py", "would_apply", None, None, None)]
    assert documents(mongo, "users") == []
    assert outcomes(seeder) == [("a.py", "applied", 3, 0, 3)]
    assert len(documents(mongo, "log")) == 1
    (folder / "b.sql").write_text("SELECT 1")
    with pytest.raises(ConfigError) as error:
        seeder.run()
    assert str(error.value) == "seed b.sql is SQL and 'main' is mongodb; write .json, .csv or .py"


def test_a_write_that_mongodb_refuses_is_not_applied(mongo: MongoDatabase, folder: Path) -> None:
    (folder / "a.py").write_text(
        "def seed(db):\n    for _ in range(2):\n        db.command({'insert': 'log', 'documents': [{'_id': 1}]})\n"
    )
    seeder = Seeder(mongo, str(folder))

    with pytest.raises(SeedError) as error:
        seeder.run()

    assert "seed a.py failed: 'main' refused the statement: " in str(error.value)
    assert [one.state for one in seeder.status()] == ["pending"]


def test_a_missing_id_is_named_on_mongodb(mongo: MongoDatabase, folder: Path) -> None:
    (folder / "users.json").write_text('[{"name": "a"}]')

    with pytest.raises(SeedError) as error:
        Seeder(mongo, str(folder)).run()

    assert str(error.value) == "seed users.json: row 1 has no '_id', the key of its row"


def test_outcomes_are_told_as_they_come(database: SqlDatabase, folder: Path) -> None:
    (folder / "a.sql").write_text("SELECT 1")
    told: list[tuple[str, Counts]] = []

    Seeder(database, str(folder), on_done=lambda one: told.append((one.name, one.counts))).run()

    assert told == [("a.sql", Counts(affected=0))]


def test_seeds_know_no_statement_timeout(fresh: MakeFresh, open_url: Open, folder: Path) -> None:
    database = open_url(fresh("postgresql").url, statement_timeout=0.3)
    (folder / "a.sql").write_text("SELECT pg_sleep(0.6)")

    assert [one.state for one in Seeder(database, str(folder)).run()] == ["applied"]


@pytest.mark.parametrize("dry_run", [True, False])
def test_a_procedure_that_commits_is_not_told_to_be_undone(
    dry_run: bool, mysql_url: str, open_url: Open, folder: Path
) -> None:
    database = open_url(mysql_url)
    database.execute("CREATE TABLE t (id int PRIMARY KEY)")
    database.execute("CREATE PROCEDURE p() BEGIN INSERT INTO t VALUES (2); COMMIT; END")
    calls = "INSERT INTO t VALUES (1);\nCALL p();\n"
    for name, text in {"a.sql": f"{calls}INSERT INTO t VALUES (3)", "b.sql": calls}.items():
        (folder / name).write_text(text)
        with pytest.raises(SeedError, match=r"committed by itself.* so what ran stays applied"):
            Seeder(database, str(folder)).run(name, dry_run=dry_run)
        assert database.run("SELECT id FROM t ORDER BY id").rows == [(1,), (2,)]
        database.execute("DELETE FROM t")


def test_tables_without_transactions_keep_what_was_written(
    mysql_url: str, open_url: Open, folder: Path
) -> None:
    database = open_url(mysql_url)
    database.execute("CREATE TABLE kept (id int) ENGINE = MyISAM")
    (folder / "a.sql").write_text("INSERT INTO kept VALUES (1);\nselekt")

    with pytest.raises(SeedError, match=r"rolling back failed: .* couldn't be rolled back") as error:
        Seeder(database, str(folder)).run()
    assert "nothing of it was applied" not in str(error.value)
