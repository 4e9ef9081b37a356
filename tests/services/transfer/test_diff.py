"""Differences of two databases: each is found, equal ones have none, and nothing is written."""

from __future__ import annotations

import pytest

from katax_cli.errors import ConfigError, KataxError
from katax_cli.services.transfer import diff
from katax_cli.services.transfer.diff import Difference, DiffPlan, differences
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

    assert set(seen) == {
        ("migration", "katax_migrations", "002"),
        ("table", "only_here", None),
        ("column", "t", "extra"),
        ("column", "t", "name"),
        ("index", "t", "unique (name)"),
        ("rows", "t", None),
        ("row", "t", '["k1", "4"]'),
        ("row", "t", '["k1", "7"]'),
        ("row", "t", '["z", "99"]'),
    }
    assert seen["rows", "t", None] == (9, 11)
    assert seen["row", "t", '["k1", "7"]'] == ({"name": "n7"}, {"name": "other"})
    assert seen["row", "t", '["k1", "4"]'] == (None, {"a": "k1", "b": "4", "name": "n4"})
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
