"""Models of tables that are there already."""

from __future__ import annotations

from typing import Any

import pytest

from katax_cli import ConfigError, SqlDatabase


def test_a_table_as_a_model(db: SqlDatabase) -> None:
    users: Any = db.model("users")

    made = users.create(
        email="ada@x.y", active=True, metadata_={"a": 1} if db.dialect == "postgresql" else "{}"
    )
    assert (users.__name__, made.id, made.plan) == ("Users", 1, "free")
    assert users.where("metadata", "!=", None).count() == 1
    assert made.update(name="Ada").name == "Ada"
    with db.transaction() as trx:
        assert trx.model("users").query().count() == 1
    made.delete()
    assert db.query("select count(*) as n from users") == [{"n": 0}]


def test_what_is_none(db: SqlDatabase) -> None:
    db.execute("create table keyless (n int)")

    with pytest.raises(ConfigError, match="table 'keyless' has no primary key"):
        db.model("keyless")
    with pytest.raises(ConfigError, match="no table named 'usres'; did you mean 'users'"):
        db.model("usres")
    with pytest.raises(ValueError):
        db.model("users; drop table users")


def test_columns_that_are_named_as_what_a_model_has(db: SqlDatabase) -> None:
    db.execute("create table t (id int primary key, query int, query_ int, self int)")
    kind: Any = db.model("t")

    row = kind.create({"id": 1, "query": 2, "query_": 3, "self": 4})
    assert (row.query__, row.query_, row.self_) == (2, 3, 4)
    assert kind.where("query", 2).where("query_", 3).where("self", 4).count() == 1
