"""The servers themselves: what other tests rely on when they ask for one."""

import sqlite3

import psycopg
import pymongo
import pymysql
import pytest
import redis
from pymysql.connections import Connection

from tests.servers import PASSWORDS, Server
from tests.servers.fixtures import MakeFresh, Target, Throwaway
from tests.servers.fresh import fresh_database


def connect_mysql(url: str) -> "Connection[pymysql.cursors.Cursor]":
    server = Server(engine="mysql", url=url, version="", source="")
    return pymysql.connect(
        host=server.host,
        port=server.port,
        user=server.user,
        password=server.password,
        database=server.database,
        autocommit=True,
    )


def write_and_read(target: Target) -> object:
    """The number 7, written to and read from `target`."""
    if target.engine == "postgresql":
        with psycopg.connect(target.url) as connection:
            connection.execute("CREATE TABLE seven AS SELECT 7 AS n")
            row = connection.execute("SELECT n FROM seven").fetchone()
            return row and row[0]
    if target.engine == "mysql":
        with connect_mysql(target.url) as maria, maria.cursor() as cursor:
            cursor.execute("CREATE TABLE seven AS SELECT 7 AS n")
            cursor.execute("SELECT n FROM seven")
            found = cursor.fetchone()
            return found and found[0]
    if target.engine == "mongodb":
        with pymongo.MongoClient[dict[str, int]](target.url) as client:
            client.get_default_database().seven.insert_one({"n": 7})
            document = client.get_default_database().seven.find_one()
            return document and document["n"]
    if target.engine == "redis":
        with redis.Redis.from_url(target.url) as cache:
            assert cache.dbsize() == 0
            cache.set("seven", 7)
            return int(cache.get("seven") or 0)
    database = sqlite3.connect(target.url.removeprefix("sqlite:///"))
    database.execute("CREATE TABLE seven AS SELECT 7 AS n")
    number = database.execute("SELECT n FROM seven").fetchone()[0]
    database.close()
    return number


@pytest.mark.parametrize("time", ["first", "second"])
def test_each_test_gets_an_empty_database(engine: Target, time: str) -> None:
    assert write_and_read(engine) == 7


def test_the_same_engine_twice_gives_two_databases(fresh: MakeFresh, engine: Target) -> None:
    assert write_and_read(engine) == write_and_read(fresh(engine.engine)) == 7


@pytest.mark.parametrize("engine", ["postgresql", "mysql", "redis"])
def test_a_wrong_password_is_refused(fresh: MakeFresh, engine: str) -> None:
    url = fresh(engine).url.replace(PASSWORDS[engine], "wrong")
    with pytest.raises((psycopg.OperationalError, pymysql.OperationalError, redis.AuthenticationError)):
        write_and_read(Target(engine, url, fresh(engine).server))


def test_a_database_goes_with_its_test_even_when_a_session_is_open(postgresql: Server) -> None:
    with fresh_database(postgresql) as url:
        left_open = psycopg.connect(url)
        name = left_open.info.dbname
    with psycopg.connect(postgresql.url) as connection:
        assert not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name]).fetchone()
    left_open.close()


def test_a_shared_server_cannot_be_killed(postgresql: Server) -> None:
    with pytest.raises(RuntimeError) as refused:
        postgresql.kill()
    assert "throwaway" in str(refused.value)


@pytest.mark.parametrize("engine", ["postgresql", "mysql", "redis"])
def test_what_was_committed_survives_kill_9(throwaway: Throwaway, engine: str) -> None:
    server = throwaway(engine)
    assert write_and_read(Target(engine, server.url, server)) == 7
    server.kill()
    with pytest.raises((OSError, psycopg.OperationalError, pymysql.OperationalError, redis.ConnectionError)):
        write_and_read(Target(engine, server.url, server))
    server.start()
    assert read_again(server) == 7


def read_again(server: Server) -> int:
    if server.engine == "redis":
        with redis.Redis.from_url(server.url) as cache:
            return int(cache.get("seven") or 0)
    if server.engine == "mysql":
        with connect_mysql(server.url) as maria, maria.cursor() as cursor:
            cursor.execute("SELECT n FROM seven")
            return int((cursor.fetchone() or (0,))[0])
    with psycopg.connect(server.url) as connection:
        return int((connection.execute("SELECT n FROM seven").fetchone() or (0,))[0])
