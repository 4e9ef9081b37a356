"""`kill -9` of the runner before every statement it sends; then `resume` and `up`."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from katax_cli.services.migrate.migrator import Migrator, migrates
from katax_cli.services.migrate.session import Session
from katax_cli.services.sql import SqlDatabase
from tests.servers.fixtures import MakeFresh

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
    with Session(database) as session:
        schema = session.ask(migrates(database).definitions, None)
    rows = {
        table: database.query(f"SELECT * FROM {table} ORDER BY id")
        for table in ("users", "posts")
        if any(key.endswith(table) and key.startswith("table") for key in schema)
    }
    return {**schema, **rows}


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
        migrator = Migrator(database, str(folder))
        migrator.resume()
        migrator.up()
        found = state_of(database)
        assert found == wanted, f"killed at exchange {number}"
        database.close()
    assert status == 0
    assert number > 25
