"""Differences of two databases: each is found, equal ones have none, and nothing is written."""

from __future__ import annotations

import json

import pytest

from katax_cli.errors import ConfigError, KataxError
from katax_cli.services.transfer import diff
from katax_cli.services.transfer.diff import Difference, DiffPlan, differences
from katax_cli.services.transfer.tables import existing_table
from tests.servers import Server
from tests.servers.fixtures import MakeFresh, Target
from tests.services.transfer.connections import open_sql
from tests.services.transfer.values import fill


@pytest.fixture
def other_url(sql_engine: Target, fresh: MakeFresh) -> str:
    """A second database of the same engine."""
    return fresh("sqlite" if sql_engine.engine == "sqlite" else sql_engine.server).url


def found(source: str, target: str, plan: DiffPlan) -> list[Difference]:
    with open_sql(source, read_only=True) as here, open_sql(target, read_only=True) as there:
        return list(differences(here, there, plan))


def test_equal_databases_have_none(sql_engine: Target, other_url: str) -> None:
    for url in (sql_engine.url, other_url):
        with open_sql(url) as database:
            fill(database)

    assert found(sql_engine.url, other_url, DiffPlan(rows=True)) == []


def test_each_difference_is_found(
    sql_engine: Target, other_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(diff, "_RANGE", 3)
    ledger = "create table katax_migrations (version varchar(20), state varchar(10), checksum varchar(64))"
    shared = "create table t (a varchar(5), b int, name varchar(9), primary key (a, b))"
    for url in (sql_engine.url, other_url):
        with open_sql(url) as database:
            database.execute(ledger)
            database.execute("insert into katax_migrations values ('001', 'applied', 'x')")
            database.execute(shared)
            database.execute_many(
                "insert into t values (?, ?, ?)", [[f"k{n % 3}", n, f"n{n}"] for n in range(10)]
            )
    with open_sql(sql_engine.url) as database:
        database.execute("create table only_here (id int)")
        database.execute("insert into katax_migrations values ('002', 'applied', 'y')")
        database.execute("delete from t where b = 4")
        database.execute("alter table t add column extra int")
    with open_sql(other_url) as database:
        database.execute("update t set name = 'other' where b = 7")
        database.execute("insert into t values ('z', 99, null)")
        database.execute("create unique index by_name on t (name)")

    seen = {
        difference[:3]: difference[3:] for difference in found(sql_engine.url, other_url, DiffPlan(rows=True))
    }

    # Values of SQLite have types of their own.
    four, seven, most = ("4", "7", "99") if sql_engine.engine == "sqlite" else ('"4"', '"7"', '"99"')
    assert set(seen) == {
        ("migration", "katax_migrations", "002"),
        ("table", "only_here", None),
        ("column", "t", "extra"),
        ("column", "t", "name"),
        ("index", "t", "unique (name)"),
        ("rows", "t", None),
        ("row", "t", f'["k1", {four}]'),
        ("row", "t", f'["k1", {seven}]'),
        ("row", "t", f'["z", {most}]'),
    }
    assert seen["rows", "t", None] == (9, 11)
    assert seen["row", "t", f'["k1", {seven}]'] == ({"name": "n7"}, {"name": "other"})
    assert seen["row", "t", f'["k1", {four}]'] == (None, {"a": "k1", "b": json.loads(four), "name": "n4"})
    assert seen["migration", "katax_migrations", "002"] == ("applied", None)
    assert seen["table", "only_here", None] == ("there", None)


def test_between_engines_schema_and_counts(sqlite_url: str, postgresql_url: str) -> None:
    with open_sql(sqlite_url) as database:
        database.execute("create table t (id integer not null primary key, name text, n integer)")
        database.execute("insert into t values (1, 'a', 1)")
    with open_sql(postgresql_url) as database:
        database.execute("create table t (id bigint primary key, name text, n text)")

    assert found(sqlite_url, postgresql_url, DiffPlan()) == [
        Difference("column", "t", "n", "INTEGER", "text"),
        Difference("rows", "t", None, 1, 0),
    ]
    with pytest.raises(ConfigError, match="--rows compares two of one engine, not sqlite and postgresql"):
        found(sqlite_url, postgresql_url, DiffPlan(rows=True))
    with pytest.raises(KataxError, match="no table named 'nothing'"):
        found(sqlite_url, postgresql_url, DiffPlan(("nothing",)))


def test_rows_are_found_whatever_order_their_keys_have(
    fresh: MakeFresh, mysql: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Collations order the same texts otherwise; an ENUM is ordered by its number, and compared by its text."""
    monkeypatch.setattr(diff, "_RANGE", 1)
    keys = ["B", "a", "_", "c", "Z", "d"]
    kinds = {
        "sqlite": ("text collate nocase", "text"),
        "mysql": ("varchar(9) collate utf8mb4_general_ci", "varchar(9) collate utf8mb4_bin"),
        "enum": ("enum('_', 'a', 'd', 'B', 'Z', 'c')", "enum('_', 'a', 'd', 'B', 'Z', 'c')"),
    }
    for name, types in kinds.items():
        server = "sqlite" if name == "sqlite" else mysql
        here, there = fresh(server).url, fresh(server).url
        for url, type in zip((here, there), types, strict=True):
            with open_sql(url) as database:
                database.execute(
                    f"create table t (k {type} not null, g int not null, n int, primary key (g, k))"
                )
                database.execute_many(
                    "insert into t values (?, ?, ?)", [[k, g, 1] for k in keys for g in (1, 2)]
                )
        assert found(here, there, DiffPlan(rows=True)) == [], name
        with open_sql(here) as database:
            database.execute("delete from t where k = 'c'")
        with open_sql(there) as database:
            database.execute("update t set n = 2 where k = 'a' and g = 1")
            database.execute("delete from t where k = 'Z' and g = 2")

        seen = [json.loads(one.name) for one in found(here, there, DiffPlan(rows=True)) if one.name]
        assert sorted((k, int(g)) for g, k in seen) == [("Z", 2), ("a", 1), ("c", 1), ("c", 2)], name


def test_values_that_a_server_writes_alike_differ(sqlite_url: str, fresh: MakeFresh, mysql: Server) -> None:
    """SQLite's 1, 1.0 and '1'; floats of MySQL, of which it writes six digits, as keys too."""
    pairs = {
        "sqlite": (sqlite_url, fresh("sqlite").url, "c", "1, '1', 2, 2.0, x'31', '1', 1.5, 1.5"),
        "mysql": (
            fresh(mysql).url,
            fresh(mysql).url,
            "c float",
            "1, 1.0000001, 16777216, 16777218, 0.1, 0.1",
        ),
    }
    for name, (here, there, column, values) in pairs.items():
        literals = values.split(", ")
        for url, mine in ((here, literals[::2]), (there, literals[1::2])):
            with open_sql(url) as database:
                database.execute(
                    f"create table t (id {column.partition(' ')[2] or 'text'} primary key, {column})"
                )
                for number, value in enumerate(mine):
                    database.execute(f"insert into t values ({number}.1, {value})")
        differences = found(here, there, DiffPlan(rows=True))
        assert len(differences) == len(literals) // 2 - 1, (name, differences)


def test_keys_of_two_types_are_compared_as_texts(
    fresh: MakeFresh, mysql: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(diff, "_RANGE", 2)
    here, there = fresh(mysql).url, fresh(mysql).url
    sides = (
        ("decimal(10,2)", "1, 2.5, 3", "int", "1, 2, 3, 4", 7),
        ("varchar(9)", "'1', 'x', 'NaN'", "decimal(4)", "1, 2", 3),
        ("varchar(9)", "'1', '1e999', 'inf'", "double", "1, 2", 3),
        ("varbinary(9)", "'1', '2'", "decimal(4)", "1, 2", 4),
    )
    for mine, values, other, others, rows in sides:
        for url, type, given in ((here, mine, values), (there, other, others)):
            with open_sql(url) as database:
                database.execute(f"create table t (k {type} primary key)")
                database.execute_many(
                    "insert into t values (?)", [[value.strip("'")] for value in given.split(", ")]
                )
        for one, two in ((here, there), (there, here)):
            seen = [each for each in found(one, two, DiffPlan(rows=True)) if each.kind == "row"]
            assert len(seen) == rows, (mine, other, seen)
        for url in (here, there):
            with open_sql(url) as database:
                database.execute("drop table t")


def test_rows_are_searched_by_their_keys(sqlite_url: str) -> None:
    with open_sql(sqlite_url) as database, database.transaction() as transaction:
        transaction.execute('create table "a FROM b" (n int, k text collate nocase, g, primary key (g, k))')
        transaction.execute("""insert into "a FROM b" values (1, 'A', 1), (2, 'b', 1), (3, 'a', 2)""")
        table = existing_table(transaction, "a FROM b", connection="main")
        sql, params = table.select_keys(["n", "g"], [(1, "a"), (1, "B"), (2, "b"), ("1", "b")])

        assert sorted(transaction.run(sql, params).rows) == [(1, 1), (2, 1)]
        plan = str(transaction.run(f"explain query plan {sql}", params).rows)
        assert "(g=? AND k=?)" in plan, plan


def test_ranges_of_keys_are_read_by_the_index_of_the_key(mysql: Server, fresh: MakeFresh) -> None:
    """The key is another order of the columns than the table, and MySQL reads all of it for `(a, b) > (?, ?)`."""
    servers: tuple[Server | str, ...] = (mysql, "sqlite")
    for server in servers:
        with open_sql(fresh(server).url) as database, database.transaction() as transaction:
            transaction.execute("create table t (a int not null, b int not null, c int, primary key (b, a))")
            transaction.execute_many("insert into t values (?, ?, 0)", [[n, n % 3] for n in range(3000)])
            table = existing_table(transaction, "t", connection="main")
            assert table.primary == ("b", "a")
            (low, first), (high, second) = table.by_key(">", [2, 2900]), table.by_key("<=", [2, 2960])
            sql = f"{table.select(['a'])} WHERE {low} AND {high}"

            rows = transaction.run(sql, [*first, *second]).rows
            assert sorted(a for (a,) in rows) == list(range(2903, 2961, 3))
            explain = "explain" if server is mysql else "explain query plan"
            [plan] = transaction.query(f"{explain} {sql}", [*first, *second])
            if server is mysql:
                assert (plan["type"], int(plan["rows"]) < 100) == ("range", True), plan
            else:
                assert "SEARCH t USING" in plan["detail"], plan


def test_no_column_is_taken_for_the_keys_that_are_looked_for(sqlite_url: str, fresh: MakeFresh) -> None:
    other = fresh("sqlite").url
    for url in (sqlite_url, other):
        with open_sql(url) as database:
            database.execute("create table katax_keys (katax_key_0 text collate nocase primary key, n)")
            database.execute("insert into katax_keys values ('a', 1), ('B', 2), ('c', 3)")
    with open_sql(other) as database:
        database.execute("update katax_keys set n = 9 where katax_key_0 = 'B'")
        database.execute("delete from katax_keys where n = 3")

    rows = [one for one in found(sqlite_url, other, DiffPlan(rows=True)) if one.kind == "row"]
    assert [(one.name, one.source) for one in rows] == [
        ('["B"]', {"n": 2}),
        ('["c"]', {"katax_key_0": "c", "n": 3}),
    ]


def test_a_key_that_is_null_ends_the_comparison(sqlite_url: str, fresh: MakeFresh) -> None:
    other = fresh("sqlite").url
    for url in (sqlite_url, other):
        with open_sql(url) as database:
            database.execute("create table t (k text primary key)")
            database.execute("insert into t values (null), (null), ('a')")

    with pytest.raises(KataxError, match="has a row whose primary key is NULL"):
        found(sqlite_url, other, DiffPlan(rows=True))
