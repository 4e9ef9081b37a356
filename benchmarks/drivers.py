"""Statements and keys through katax beside the drivers' own clients: what pool, guard, watchdog and metrics cost.

Every peer does less: none has a deadline, a breaker or retries.
"""

from __future__ import annotations

import json
import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psycopg
import pymysql
import redis
from harness import Work, compare, finish, present, server
from psycopg.rows import dict_row
from pymysql.cursors import DictCursor

from katax_cli import Katax

CALLS = 200  # short runs in turn: what else the machine does hits all alike
ROWS = 100_000
INSERTED = 50_000
MANY = "insert into many (id, name) values ({}, {})"
PEOPLE = "create table people (id integer primary key, name varchar(40), age integer)"
PROFILE = """role = "dev"
logging = {{ queries = "off" }}
[connections.postgresql]
type = "postgresql"
url = "{postgresql}"
[connections.mysql]
type = "mysql"
url = "{mysql}"
[connections.redis]
type = "redis"
url = "{redis}"
[connections.sqlite]
type = "sqlite"
url = "sqlite:///{folder}/bench.db"
"""


def main(names: list[str]) -> int:
    parts: dict[str, Callable[[Katax, dict[str, str]], None]] = {
        "select": selects,
        "rows": many_rows,
        "executemany": many_inserts,
        "mysql": mysql_select,
        "redis": redis_values,
        "sqlite": sqlite_select,
        "builder": builder,
    }
    with program() as (katax, urls):
        for name in names or parts:
            parts[name](katax, urls)
    return finish()


@contextmanager
def program() -> Iterator[tuple[Katax, dict[str, str]]]:
    """A program of the usual kind: four connections, all defaults."""
    with ExitStack() as stack:
        folder = stack.enter_context(TemporaryDirectory())
        urls = {name: stack.enter_context(server(name)) for name in ("postgresql", "mysql", "redis")}
        urls["sqlite"] = f"{folder}/bench.db"
        path = Path(folder) / "profiles" / "bench.toml"
        path.parent.mkdir()
        path.write_text(PROFILE.format(folder=folder, **urls))
        katax = stack.enter_context(katax_in(folder))
        for name in ("postgresql", "mysql", "sqlite"):
            database = katax.database(name)
            database.execute("drop table if exists people")
            database.execute(PEOPLE)
            database.execute_many(
                "insert into people (id, name, age) values (?, ?, ?)",
                [(number, f"person {number}", number % 90) for number in range(1000)],
            )
        yield katax, urls


@contextmanager
def katax_in(folder: str) -> Iterator[Katax]:
    from katax_cli.profiles.load import load_profile

    with Katax(load_profile("bench", cwd=folder)) as katax:
        yield katax


def repeated(call: Callable[[], object]) -> Work:
    def run() -> None:
        for _ in range(CALLS):
            call()

    return run


def selects(katax: Katax, urls: dict[str, str]) -> None:
    database = katax.database("postgresql")
    with ExitStack() as stack:
        compare(
            f"postgresql: {CALLS} × select 1, guarded",
            katax=repeated(lambda: database.query("select 1")),
            peers={"psycopg_pool": psycopg_pool(urls["postgresql"], stack)},
            target=1.05,
            runs=75,
        )


def psycopg_pool(url: str, stack: ExitStack) -> Work | None:
    if not present("psycopg_pool"):
        return None
    from psycopg_pool import ConnectionPool

    pool = ConnectionPool(
        url, min_size=1, max_size=4, kwargs={"autocommit": True, "row_factory": dict_row}, open=True
    )
    stack.callback(pool.close)
    pool.wait()

    def call() -> None:
        with pool.connection() as connection:
            connection.execute("select 1").fetchall()

    return repeated(call)


def many_rows(katax: Katax, urls: dict[str, str]) -> None:
    database = katax.database("postgresql")
    sql = f"select n as id, 'name ' || n as name, n * 1.5::float8 as price from generate_series(1, {ROWS}) n"
    with psycopg.connect(urls["postgresql"], autocommit=True, row_factory=dict_row) as connection:
        compare(
            f"postgresql: {ROWS:,} rows as dicts",
            katax=lambda: database.query(sql),
            peers={"psycopg dict_row": lambda: connection.execute(sql).fetchall()},
            runs=15,
        )


def many_inserts(katax: Katax, urls: dict[str, str]) -> None:
    database = katax.database("postgresql")
    database.execute("create table many (id integer, name text)")
    rows = [(number, f"name {number}") for number in range(INSERTED)]
    with psycopg.connect(urls["postgresql"], autocommit=True) as connection:

        def peer() -> None:
            with connection.cursor() as cursor:
                cursor.executemany(MANY.format("%s", "%s"), rows)
            connection.execute("truncate many")

        def ours() -> None:
            database.execute_many(MANY.format("?", "?"), rows)
            connection.execute("truncate many")

        compare(
            f"postgresql: execute_many of {INSERTED:,} rows",
            katax=ours,
            peers={"psycopg executemany": peer},
            runs=7,
        )
    database.execute("drop table many")


def mysql_select(katax: Katax, urls: dict[str, str]) -> None:
    database, parts = katax.database("mysql"), mysql_parts(urls["mysql"])
    with closing(pymysql.connect(**parts, cursorclass=DictCursor, autocommit=True)) as connection:

        def call() -> None:
            with connection.cursor() as cursor:
                cursor.execute("select id, name, age from people where id = %s", (7,))
                cursor.fetchall()

        compare(
            f"mysql: {CALLS} × select of a row, guarded",
            katax=repeated(lambda: database.query("select id, name, age from people where id = ?", (7,))),
            peers={"PyMySQL": repeated(call)},
            target=1.3,
            runs=45,
        )


def mysql_parts(url: str) -> dict[str, Any]:
    from urllib.parse import unquote, urlsplit

    parts = urlsplit(url)
    return {
        "host": parts.hostname,
        "port": parts.port or 3306,
        "user": unquote(parts.username or ""),
        "password": unquote(parts.password or ""),
        "database": parts.path.lstrip("/"),
    }


def redis_values(katax: Katax, urls: dict[str, str]) -> None:
    cache = katax.cache("redis")
    value = {"id": 7, "name": "person 7", "tags": ["a", "b", "c"], "price": 1.5}
    with closing(redis.Redis.from_url(urls["redis"])) as client:
        compare(
            f"redis: {CALLS} × set",
            katax=repeated(lambda: cache.set("bench:katax", value, ttl=60)),
            peers={
                "redis-py with json": repeated(lambda: client.set("bench:peer", json.dumps(value), ex=60))
            },
            target=1.3,
            runs=45,
        )
        compare(
            f"redis: {CALLS} × get",
            katax=repeated(lambda: cache.get("bench:katax")),
            peers={"redis-py with json": repeated(lambda: json.loads(client.get("bench:peer") or "null"))},
            target=1.3,
            runs=45,
        )


def sqlite_select(katax: Katax, urls: dict[str, str]) -> None:
    database = katax.database("sqlite")
    sql = "select id, name, age from people where id = ?"
    with closing(sqlite3.connect(urls["sqlite"], isolation_level=None)) as connection:
        connection.row_factory = as_dict
        compare(
            f"sqlite: {CALLS} × select of a row",
            katax=repeated(lambda: database.query(sql, (7,))),
            peers={"sqlite3": repeated(lambda: connection.execute(sql, (7,)).fetchall())},
            target=3.5,
            runs=75,
        )


def as_dict(cursor: sqlite3.Cursor, row: tuple[Any, ...]) -> dict[str, Any]:
    return {column[0]: value for column, value in zip(cursor.description, row, strict=True)}


def builder(katax: Katax, urls: dict[str, str]) -> None:
    database = katax.database("postgresql")

    def ours() -> list[Any]:
        people = database.table("people").select("id", "name").where("age", ">", 17)
        rows: list[Any] = people.order_by("name").limit(10).all()
        return rows

    with ExitStack() as stack:
        compare(
            f"builder: {CALLS} × select with where, order and limit",
            katax=repeated(ours),
            peers={"SQLAlchemy Core": core(urls["postgresql"], stack)},
            target=1.2,
            runs=15,
        )


def core(url: str, stack: ExitStack) -> Work | None:
    if not present("sqlalchemy"):
        return None
    from sqlalchemy import Column, Integer, MetaData, String, Table, create_engine, select

    _scheme, rest = url.split("://", 1)
    engine = create_engine(f"postgresql+psycopg://{rest}", isolation_level="AUTOCOMMIT")
    stack.callback(engine.dispose)
    people = Table(
        "people",
        MetaData(),
        Column("id", Integer, primary_key=True),
        Column("name", String),
        Column("age", Integer),
    )

    def call() -> list[Any]:
        statement = select(people.c.id, people.c.name).where(people.c.age > 17)
        with engine.connect() as connection:
            rows = connection.execute(statement.order_by(people.c.name).limit(10)).mappings()
            return [dict(row) for row in rows]

    return repeated(call)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
