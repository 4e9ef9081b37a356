"""`kill -9` of the runner before every statement it sends; then `resume` and `up`."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pymongo
import pytest
from pymongo.database import Database

from katax_cli.errors import LockHeld, OutcomeUnknown
from katax_cli.services.databases.sql import SqlDatabase
from katax_cli.services.migrate.access import migrates
from katax_cli.services.migrate.connection import MigrationConnection
from katax_cli.services.migrate.migrator import Migrator
from tests.cli.harness import katax, write_profile
from tests.servers.fixtures import MakeFresh, Target
from tests.services.connections import open_database
from tests.services.migrate.killable import PATIENCE

OpenUrl = Callable[..., SqlDatabase]
ROOT = Path(__file__).parents[3]
FILES = {
    "001_users.sql": (
        "-- UP\nCREATE TABLE users (id integer PRIMARY KEY, name varchar(40));\n"
        "INSERT INTO users VALUES (1, 'a;b'), (2, 'c');\n"
        "CREATE INDEX users_name ON users (name);\n"
        "ALTER TABLE users ADD COLUMN email varchar(80);\n"
        "-- DOWN\nDROP TABLE users;\n"
    ),
    "002_posts.sql": (
        "-- UP\n-- katax: no-transaction\nCREATE TABLE posts (id integer PRIMARY KEY, author integer);\n"
        "INSERT INTO posts SELECT id, id FROM users;\n"
        "UPDATE users SET name = name || '!' WHERE id = 1;\n"
        "CREATE VIEW authors AS SELECT id FROM users;\n"
        "CREATE INDEX posts_author ON posts (author);\n"
        "ALTER TABLE posts ADD COLUMN title varchar(20);\n"
        "DROP VIEW authors;\n"
        "-- DOWN\nDROP TABLE posts;\n"
    ),
}


STEPS = {
    "001_users.py": (
        "def up(db):\n"
        "    if db.step('people'):\n        db.users.insert_many([{'_id': 1}, {'_id': 2}])\n"
        "    if db.step('index'):\n        db.users.create_index('name', name='by_name')\n"
        "    if db.step('rename'):\n        db.users.update_many({}, {'$set': {'name': 'x'}})\n"
    ),
    "002_posts.py": "def up(db):\n    db.posts.insert_one({'_id': 7})\n",
}


def write_files(folder: Path, engine: str) -> None:
    for name, text in FILES.items():
        if engine == "mysql":
            text = text.replace("name || '!'", "concat(name, '!')")
        (folder / name).write_text(text)


@pytest.fixture
def runners() -> Iterator[Callable[..., int]]:
    """`runners(url, folder, kill_at, action)`: the exit status of a process that dies at that exchange."""
    words = [sys.executable, "-m", "tests.services.migrate.killable"]
    with subprocess.Popen(
        words, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        stdin, stdout = server.stdin, server.stdout

        def run(*words: object) -> int:
            stdin.write(" ".join(map(str, words)) + "\n")
            stdin.flush()
            return int(stdout.readline())

        yield run
        stdin.close()


def state_of(database: SqlDatabase) -> dict[str, object]:
    """The schema and the rows."""
    with MigrationConnection(database) as session:
        schema = session.ask(migrates(database).definitions, None)
    rows = {
        table: database.query(f"SELECT * FROM {table} ORDER BY id")
        for table in ("users", "posts")
        if any(key.endswith(table) and key.startswith("table") for key in schema)
    }
    return {**schema, **rows}


@pytest.mark.begins_first
@pytest.mark.parametrize("engine", ["postgresql", "mysql", "sqlite"])
def test_after_a_kill_at_any_exchange_resume_reaches_the_state_of_a_clean_run(
    engine: str, fresh: MakeFresh, open_url: OpenUrl, folder: Path, runners: Callable[..., int]
) -> None:
    write_files(folder, engine)
    clean = open_url(fresh(engine).url)
    Migrator(clean, str(folder)).up()
    wanted = state_of(clean)
    number, status = 0, -9
    while status == -9:
        number += 1
        target = fresh(engine)
        status = runners(target.url, folder, number, "up")
        database = open_url(target.url)
        migrator = Migrator(database, str(folder), lock_timeout=PATIENCE)
        migrator.resume()
        migrator.up()
        found = state_of(database)
        assert found == wanted, f"killed at exchange {number}"
        database.close()
    assert status == 0
    assert number > 25


def state_of_documents(mongo: Database[Any]) -> dict[str, object]:
    """The rows, and the names of the indexes."""
    tables = {name: list(mongo[name].find({}).sort("_id")) for name in ("users", "posts")}
    return {**tables, "indexes": sorted(mongo.users.index_information())}


def what_became_of_it(unit: str, mongo: Database[Any]) -> str:
    """What a person finds who looks at the data: was the unit that was under way done?"""
    found = {
        "step 'people' of 001_users.py": mongo.users.find_one({"_id": 1}),
        "step 'index' of 001_users.py": "by_name" in mongo.users.index_information(),
        "step 'rename' of 001_users.py": mongo.users.find_one({"name": "x"}),
        "the code of 001_users.py": False,
        "the code of 002_posts.py": mongo.posts.find_one({}),
    }
    return "done" if found[unit] else "undone"


def end_lease(mongo: Database[Any]) -> bool:
    """As if its time had passed; False when there is none."""
    gone = {"$set": {"expires": datetime(2000, 1, 1, tzinfo=UTC)}}
    return mongo.katax_migrations_lock.update_one({}, gone).matched_count == 1


def resume_knowing(migrator: Migrator, mongo: Database[Any]) -> str | None:
    """Goes on, and where that cannot be known, with what the data say; returns the answer that was needed."""
    try:
        migrator.resume()
    except OutcomeUnknown as error:
        answer = what_became_of_it(str(error).partition(": ")[2].partition(" was under way")[0], mongo)
        migrator.resume(assume=answer)
        return answer
    return None


def test_on_mongodb_a_kill_at_any_command_is_resumed_or_asked_about(
    fresh: MakeFresh, folder: Path, runners: Callable[..., int]
) -> None:
    """Emulated where there is no mongod. The dead holder's lease keeps others off, by name, until it ends."""
    for name, text in STEPS.items():
        (folder / name).write_text(text)
    answers: set[str | None] = set()
    states = []
    number, status, held = 0, -9, 0
    while status == -9:
        number += 1
        target = fresh("mongodb")
        status = runners(target.url, folder, number, "up")
        with open_database(target.url) as database, closing(pymongo.MongoClient[Any](target.url)) as client:
            mongo = client.get_default_database()
            migrator = Migrator(database, str(folder), lock_timeout=0.0)
            if mongo.katax_migrations_lock.find_one({}):
                held += 1
                holder = migrator.holder()
                assert holder is not None
                # Between the lease and its record nobody can tell.
                assert holder.is_gone == (mongo.katax_migrations.find_one({"_id": "runner"}) is not None)
                with pytest.raises(LockHeld, match=f"pid {holder.pid} on "):
                    migrator.resume()
                assert end_lease(mongo)
            answers.add(resume_knowing(migrator, mongo))
            migrator.up()
            states.append((number, state_of_documents(mongo)))
            assert {one.state for one in migrator.status()} == {"applied"}
    assert (status, answers) == (0, {None, "done", "undone"})
    assert number > held > 15
    wanted = states[-1][1]
    assert [number for number, state in states if state != wanted] == []


def test_on_mongodb_resume_says_5_while_the_dead_holders_lease_lasts_then_6_then_goes_on(
    fresh: MakeFresh, tmp_path: Path, folder: Path, runners: Callable[..., int]
) -> None:
    target: Target = fresh("mongodb")
    write_profile(tmp_path, {"main": target.url}, extra="[migrate]\nlock_timeout = 0.1\n")
    gate = tmp_path / "gate"
    (folder / "001_users.py").write_text(
        "import os, signal\n"
        "def up(db):\n"
        "    if db.step('one'):\n        db.users.insert_one({'_id': 1})\n"
        f"        os.path.exists('{gate}') and os.kill(os.getpid(), signal.SIGKILL)\n"
        "    if db.step('two'):\n        db.users.insert_one({'_id': 2})\n"
    )
    gate.touch()
    assert runners(target.url, folder, 0, "up") == -9
    gate.unlink()
    with closing(pymongo.MongoClient[Any](target.url)) as client:
        mongo = client.get_default_database()
        (lease,) = mongo.katax_migrations_lock.find({})
        held = katax("migrate", "resume")
        assert held.code == 5
        assert f"held by pid {lease['note'].split()[1].partition('@')[0]} on " in held.err
        assert "at 001_users.py" in held.err
        assert end_lease(mongo)

        unknown = katax("migrate", "resume")
        assert (unknown.code, "step 'one' of 001_users.py was under way" in unknown.err) == (6, True)
        assert katax("migrate", "resume", "--assume", "done").code == 0
        assert [one["_id"] for one in mongo.users.find({}).sort("_id")] == [1, 2]
    assert katax("migrate", "status", "--exit-code").code == 0
