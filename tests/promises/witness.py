"""Somebody who saw what was on a server before, and says whether it is still so: through a connection of its own."""

import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, LiteralString

import psycopg
import pymongo
import pymysql
import redis

from tests.servers import Server
from tests.servers.fixtures import Target

LISTED = "kept"
"""The table, collection or key that every witness puts on its server."""


class Witness(ABC):
    """Puts data on an empty database; `content` is everything that is there now, to be compared."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self.prepare()

    @abstractmethod
    def prepare(self) -> None: ...

    @abstractmethod
    def content(self) -> object: ...


class PostgresWitness(Witness):
    def prepare(self) -> None:
        with self.connection() as connection:
            connection.execute("create table kept (n int)")
            connection.execute("insert into kept values (1)")
            connection.execute("create sequence counter")
            connection.execute(
                "create function writes() returns int language sql as "
                "'insert into kept values (2) returning n'"
            )

    def content(self) -> object:
        with self.connection() as connection:
            tables = connection.execute(
                "select tablename from pg_tables where schemaname = 'public' order by 1"
            )
            counter = self.read(connection, "counter", "select last_value, is_called from counter")
            rows = self.read(connection, "kept", "select * from kept order by 1")
            return tables.fetchall(), counter, rows

    def read(self, connection: "psycopg.Connection[Any]", name: str, sql: LiteralString) -> object:
        """What it says, None when it is gone."""
        gone = connection.execute("select to_regclass(%s)", [name]).fetchone() == (None,)
        return None if gone else connection.execute(sql).fetchall()

    def connection(self) -> "psycopg.Connection[Any]":
        return psycopg.connect(self.target.url, autocommit=True)


class MysqlWitness(Witness):
    def prepare(self) -> None:
        with self.cursor() as cursor:
            cursor.execute("create table kept (n int)")
            cursor.execute("insert into kept values (1)")
            cursor.execute(
                "create function writes() returns int modifies sql data "
                "begin insert into kept values (2); return 2; end"
            )
            cursor.execute("create procedure writing() insert into kept values (2)")

    def content(self) -> object:
        with self.cursor() as cursor:
            cursor.execute("show tables")
            tables = cursor.fetchall()
            cursor.execute("select * from kept order by 1" if ("kept",) in tables else "select null")
            rows = cursor.fetchall()
            cursor.execute("select @@global.max_error_count")
            return tables, rows, cursor.fetchall()

    @contextmanager
    def cursor(self) -> "Iterator[pymysql.cursors.Cursor]":
        with mysql_connection(self.target.url) as connection, connection.cursor() as cursor:
            yield cursor


class SqliteWitness(Witness):
    def prepare(self) -> None:
        with closing(self.connection()) as connection:
            connection.execute("create table kept (n int)")
            connection.execute("insert into kept values (1)")

    def content(self) -> object:
        files = sorted(each.name for each in self.file.parent.glob("*.db"))
        with closing(self.connection()) as connection:
            tables = connection.execute("select name from sqlite_master order by 1").fetchall()
            rows = connection.execute("select * from kept").fetchall() if ("kept",) in tables else None
            return files, tables, rows, connection.execute("pragma user_version").fetchall()

    @property
    def file(self) -> Path:
        return Path(self.target.url.removeprefix("sqlite:///"))

    def connection(self) -> sqlite3.Connection:
        return sqlite3.connect(self.file, isolation_level=None)


class MongoWitness(Witness):
    def prepare(self) -> None:
        with self.client() as client:
            client.get_default_database().kept.insert_one({"_id": 1, "n": 1})

    def content(self) -> object:
        with self.client() as client:
            database = client.get_default_database()
            names = sorted(database.list_collection_names())
            return {name: sorted(database[name].find(), key=str) for name in names}

    def client(self) -> "pymongo.MongoClient[dict[str, Any]]":
        return pymongo.MongoClient(self.target.url)


class RedisWitness(Witness):
    def prepare(self) -> None:
        with self.client() as client:
            client.set("kept", "1")
            client.set("cache:kept:1", "1", ex=9999)
            client.set("lock:kept", "1", ex=9999)
            client.set("session:kept", '{"user_id":"ada"}', ex=9999)
            client.set("session:lasting", "{}")
            client.hset("session:user:ada", "kept", "1 99999999999999")
            client.set("rate:fixed:kept", "1", ex=9999)
            client.rpush("numbers", 2, 1)

    def content(self) -> object:
        with self.client() as client:
            keys = sorted(client.keys())
            return {key: (client.dump(key), client.ttl(key) >= 0) for key in keys}

    def client(self) -> redis.Redis:
        return redis.Redis.from_url(self.target.url)


_WITNESSES: dict[str, type[Witness]] = {
    "postgresql": PostgresWitness,
    "mysql": MysqlWitness,
    "sqlite": SqliteWitness,
    "mongodb": MongoWitness,
    "redis": RedisWitness,
}


def witness_of(target: Target) -> Witness:
    """The witness for a database of the test's own."""
    return _WITNESSES[target.engine](target)


def mysql_connection(url: str) -> "pymysql.connections.Connection[pymysql.cursors.Cursor]":
    """A connection of the tests' own, in autocommit mode."""
    server = Server(engine="mysql", url=url, version="", source="")
    return pymysql.connect(
        host=server.host,
        port=server.port,
        user=server.user,
        password=server.password,
        database=server.database,
        autocommit=True,
    )
