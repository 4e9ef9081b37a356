"""Emptying tables and databases on real servers: all of it, nothing else, references respected."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from katax_cli.core.settings import PoolSettings
from katax_cli.errors import ConfigError, KataxError, Refused
from katax_cli.services.databases.mongodb import MongoDatabase
from katax_cli.services.databases.sql import SqlDatabase
from katax_cli.services.tables import reset
from katax_cli.services.tables.truncate import plan, truncate
from tests.servers.fixtures import Target

Open = Callable[..., Any]
AUTO = {
    "postgresql": "serial PRIMARY KEY",
    "mysql": "integer PRIMARY KEY AUTO_INCREMENT",
    "sqlite": "integer PRIMARY KEY AUTOINCREMENT",
}


@pytest.fixture
def database(sql_engine: Target, open_url: Open) -> SqlDatabase:
    """Authors with books, which refer to them, and a table by itself."""
    made: SqlDatabase = open_url(sql_engine.url)
    made.execute(f"CREATE TABLE authors (id {AUTO[sql_engine.engine]}, name varchar(20))")
    made.execute("CREATE TABLE books (author integer, FOREIGN KEY (author) REFERENCES authors (id))")
    made.execute("CREATE TABLE log (n integer)")
    made.execute("CREATE TABLE katax_migrations (version varchar(20))")
    made.execute("CREATE VIEW named AS SELECT name FROM authors")
    for sql in (
        "INSERT INTO authors (name) VALUES ('a'), ('b')",
        "INSERT INTO books VALUES (1), (2)",
        "INSERT INTO log VALUES (1)",
        "INSERT INTO katax_migrations VALUES ('1')",
    ):
        made.execute(sql)
    return made


def rows(database: SqlDatabase) -> dict[str, int]:
    names = ("authors", "books", "log", "katax_migrations")
    return {name: database.run(f"SELECT count(*) FROM {name}").rows[0][0] for name in names}


def names(doomed: Any) -> list[str]:
    return sorted(one.name for one in doomed)


def test_everything_but_the_ledger_of_migrations(database: SqlDatabase) -> None:
    done: list[str] = []

    truncate(database, plan(database), on_done=done.append)

    assert rows(database) == {"authors": 0, "books": 0, "log": 0, "katax_migrations": 1}
    assert sorted(done) == ["authors", "books", "log"]


def test_counters_start_again_and_references_hold_again(database: SqlDatabase) -> None:
    truncate(database, plan(database))

    database.execute("INSERT INTO authors (name) VALUES ('c')")
    assert database.run("SELECT id FROM authors").rows[0][0] == 1
    with pytest.raises(KataxError):
        database.execute("INSERT INTO books VALUES (99)")


def test_a_plan_changes_nothing_and_knows_the_rows(database: SqlDatabase) -> None:
    before = rows(database)

    found = {one.name: one.rows for one in plan(database)}

    assert set(found) == {"authors", "books", "log"}
    if database.engine.name != "mysql":  # its estimate may be older than the rows
        assert found == {"authors": 2, "books": 2, "log": 1}
    assert rows(database) == before


def test_named_tables_only(database: SqlDatabase) -> None:
    truncate(database, plan(database, ["log", "books", "log"]))

    assert rows(database) == {"authors": 2, "books": 0, "log": 0, "katax_migrations": 1}


def test_a_table_that_others_refer_to_needs_them_too(database: SqlDatabase) -> None:
    with pytest.raises(Refused) as error:
        plan(database, ["authors"])

    assert str(error.value) == ("refused: 'books' refers to 'authors'; name both, or repeat with --cascade")
    assert names(plan(database, ["authors", "books"])) == ["authors", "books"]
    assert names(plan(database, ["authors"], cascade=True)) == ["authors", "books"]


def test_cascade_follows_references_to_the_end_and_round_in_circles(
    sql_engine: Target, open_url: Open
) -> None:
    database: SqlDatabase = open_url(sql_engine.url)
    database.execute(
        "CREATE TABLE a (id integer PRIMARY KEY, up integer, FOREIGN KEY (up) REFERENCES a (id))"
    )
    database.execute("CREATE TABLE b (id integer PRIMARY KEY, FOREIGN KEY (id) REFERENCES a (id))")
    database.execute("CREATE TABLE c (id integer PRIMARY KEY, FOREIGN KEY (id) REFERENCES b (id))")
    for sql in ("INSERT INTO a VALUES (1, 1)", "INSERT INTO b VALUES (1)", "INSERT INTO c VALUES (1)"):
        database.execute(sql)

    found = plan(database, ["a"], cascade=True)
    truncate(database, found)

    assert names(found) == ["a", "b", "c"]
    assert [database.run(f"SELECT count(*) FROM {name}").rows[0][0] for name in "abc"] == [0, 0, 0]


@pytest.mark.parametrize("name", ["nobody", "named"])
def test_what_is_no_table_is_named(database: SqlDatabase, name: str) -> None:
    with pytest.raises(ConfigError) as error:
        plan(database, [name])

    assert str(error.value).startswith(f"no table named {name!r};")


def test_the_ledger_of_migrations_is_refused_and_more_can_be_kept(database: SqlDatabase) -> None:
    with pytest.raises(Refused) as error:
        plan(database, ["katax_migrations"])

    assert str(error.value) == (
        "refused: 'katax_migrations' is the ledger of migrations; see 'katax migrate status'"
    )
    assert names(plan(database, keep=["log"])) == ["authors", "books"]


def test_postgresql_names_tables_of_other_schemas(postgresql_url: str, open_url: Open) -> None:
    database = open_url(postgresql_url)
    for sql in ('CREATE SCHEMA "App"', 'CREATE TABLE "App"."T" (n int)', 'INSERT INTO "App"."T" VALUES (1)'):
        database.execute(sql)

    truncate(database, plan(database, ["App.T"]))

    assert database.run('SELECT count(*) FROM "App"."T"').rows == [(0,)]


def test_mysql_without_a_database_is_refused(mysql_url: str, open_url: Open) -> None:
    """It would see all databases of the server."""
    database = open_url(mysql_url, database=None)

    for work in (plan, reset.objects):
        with pytest.raises(ConfigError) as error:
            work(database)
        assert str(error.value) == "'main' names no database; name the one that is meant in the profile"


@pytest.fixture
def mongo(mongodb_url: str, open_url: Open) -> MongoDatabase:
    made: MongoDatabase = open_url(mongodb_url)
    for name in ("users", "log", "katax_migrations", "katax_migrations_lock"):
        made.command({"insert": name, "documents": [{"_id": 1}, {"_id": 2}]})
    index = {"key": {"n": 1}, "name": "by_n"}
    made.command({"createIndexes": "users", "indexes": [index]})
    return made


def counts(mongo: MongoDatabase) -> dict[str, int]:
    return {one.name: mongo.command({"count": one.name})["n"] for one in mongo.tables()}


def test_mongodb_collections_are_emptied_and_keep_their_indexes(mongo: MongoDatabase) -> None:
    found = plan(mongo)

    truncate(mongo, found)

    assert {one.name: one.rows for one in found} == {"users": 2, "log": 2}
    assert counts(mongo) == {"users": 0, "log": 0, "katax_migrations": 2, "katax_migrations_lock": 2}
    described = mongo.describe("users")
    assert described is not None
    assert ("n",) in [index.columns for index in described.indexes]


def test_a_reset_leaves_nothing_and_the_database_works(database: SqlDatabase) -> None:
    found = reset.objects(database)
    before = rows(database)
    assert before["authors"] == 2

    reset.drop(database, found)

    assert {str(one) for one in found} >= {"view named", "table books"} or {str(one) for one in found} >= {
        "view public.named",
        "table public.books",
    }
    assert database.tables() == []
    assert reset.objects(database) == []
    database.execute("CREATE TABLE authors (id integer PRIMARY KEY)")
    database.execute("CREATE TABLE books (id integer, FOREIGN KEY (id) REFERENCES authors (id))")
    with pytest.raises(KataxError):
        database.execute("INSERT INTO books VALUES (99)")


POSTGRESQL = (
    "CREATE TYPE mood AS ENUM ('good', 'bad')",
    "CREATE DOMAIN positive AS int CHECK (value > 0)",
    "CREATE TYPE pair AS (a int, b int)",
    "CREATE TYPE span AS RANGE (subtype = float8)",
    "CREATE SEQUENCE counter",
    "CREATE TABLE t (id serial, m mood, p positive) PARTITION BY RANGE (id)",
    "CREATE TABLE t_1 PARTITION OF t FOR VALUES FROM (0) TO (10)",
    "CREATE VIEW v AS SELECT m FROM t",
    "CREATE MATERIALIZED VIEW mv AS SELECT m FROM v",
    "CREATE FUNCTION f(mood) RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "CREATE PROCEDURE p() LANGUAGE sql AS 'SELECT 1'",
    "CREATE AGGREGATE total(int) (sfunc = int4pl, stype = int)",
    'CREATE SCHEMA "Billing"',
    'CREATE TABLE "Billing".t (n int)',
    'CREATE TABLE "a ""quoted"" name" (n int)',
)


def test_postgresql_is_as_new_after_a_reset(postgresql_url: str, open_url: Open) -> None:
    """All of it can be made again."""
    database = open_url(postgresql_url)
    for _ in range(2):
        for sql in POSTGRESQL:
            database.execute(sql)
        reset.drop(database, reset.objects(database))
        assert reset.objects(database) == []


MYSQL = (
    "CREATE TABLE `odd ``name` (n int)",
    "CREATE VIEW v AS SELECT n FROM `odd ``name`",
    "CREATE FUNCTION f() RETURNS int DETERMINISTIC RETURN 1",
    "CREATE PROCEDURE p() SELECT 1",
    "CREATE EVENT e ON SCHEDULE EVERY 1 DAY DISABLE DO SELECT 1",
)


def test_mysql_is_as_new_after_a_reset(mysql_url: str, open_url: Open) -> None:
    database = open_url(mysql_url)
    dropped: list[str] = []
    for _ in range(2):
        for sql in MYSQL:
            database.execute(sql)
        reset.drop(database, reset.objects(database), on_done=lambda one: dropped.append(one.kind))
        assert reset.objects(database) == []
    assert sorted(set(dropped)) == ["event", "function", "procedure", "table", "view"]


def test_sqlite_is_as_new_after_a_reset(sqlite_url: str, open_url: Open) -> None:
    database = open_url(sqlite_url)
    for _ in range(2):
        for sql in (
            "CREATE TABLE t (n integer)",
            "CREATE INDEX by_n ON t (n)",
            "CREATE TRIGGER g AFTER INSERT ON t BEGIN SELECT 1; END",
            "CREATE VIRTUAL TABLE words USING fts5(word)",
            "CREATE VIEW v AS SELECT n FROM t",
        ):
            database.execute(sql)
        reset.drop(database, reset.objects(database))
        assert database.run("SELECT name FROM sqlite_master").rows == []


def test_mongodb_is_empty_after_a_reset(mongo: MongoDatabase) -> None:
    dropped: list[str] = []

    reset.drop(mongo, reset.objects(mongo), on_done=lambda one: dropped.append(str(one)))

    assert mongo.tables() == []
    assert dropped == [
        "collection katax_migrations",
        "collection katax_migrations_lock",
        "collection log",
        "collection users",
    ]


def test_references_hold_again_after_a_failure(sql_engine: Target, open_url: Open) -> None:
    """The connection goes back to the pool."""
    database: SqlDatabase = open_url(sql_engine.url, pool=PoolSettings(max=1))
    database.execute("CREATE TABLE a (id integer PRIMARY KEY)")
    database.execute("CREATE TABLE b (id integer, FOREIGN KEY (id) REFERENCES a (id))")

    with pytest.raises(KataxError):
        reset.drop(database, [reset.Object("table", "x", "DROP TABLE x")])
    with pytest.raises(KataxError):
        database.execute("INSERT INTO b VALUES (99)")


def test_nothing_is_dropped_when_a_part_cannot_be(sqlite_url: str, open_url: Open) -> None:
    database = open_url(sqlite_url)
    database.execute("CREATE TABLE t (n integer)")

    with pytest.raises(KataxError):
        reset.drop(database, [*reset.objects(database), reset.Object("table", "x", "DROP TABLE x")])

    assert [one.name for one in database.tables()] == ["t"]
