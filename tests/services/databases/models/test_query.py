"""Queries of models on each SQL engine: what they find, what they change, and that nothing given becomes SQL."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from katax_cli import QueryError, Refused, SqlDatabase, UniqueViolation
from katax_cli.core.sql.terms import OPERATORS
from tests.services.databases.models.people import LoginSession, Organization, User

NASTY = 'it\'s; -- "x" %s :name ? $1 \\ 漢 %(x)s'


def names(found: Any) -> list[str | None]:
    return [user.name for user in found]


@pytest.fixture
def users(db: SqlDatabase) -> None:
    rows = [("ada", True, 1), ("bob", False, 2), ("cleo", True, 2), (NASTY, True, None)]
    Organization.create_many([{"name": "Math"}, {"name": "Art"}])
    User.create_many(
        [
            {"email": f"{at}@x.y", "name": name, "active": active, "org_id": org}
            for at, (name, active, org) in enumerate(rows)
        ]
    )


@pytest.mark.usefixtures("users")
def test_what_is_found() -> None:
    by_id = User.query().order_by("id")

    assert names(by_id) == ["ada", "bob", "cleo", NASTY]
    assert names(by_id.where("active", True)) == ["ada", "cleo", NASTY]  # noqa: FBT003
    assert names(by_id.where(User.org_id > 1).where("name", "like", "c%")) == ["cleo"]
    assert names(by_id.where("org_id", None)) == [NASTY]
    assert names(by_id.where("org_id", "!=", None).where("id", "in", [1, 3, 99])) == ["ada", "cleo"]
    assert names(by_id.where("name", NASTY)) == [NASTY]
    assert names(
        User.query().order_by("org_id", "desc").order_by(User.id).where("org_id", "is not", None)
    ) == [
        "bob",
        "cleo",
        "ada",
    ]
    assert names(by_id.limit(2).offset(1)) == ["bob", "cleo"]
    assert (by_id.limit(1).count(), User.where("id", 99).count(), User.where("id", 99).first()) == (
        4,
        0,
        None,
    )
    # An attribute's column by its own name, as `where` of a builder has it.
    assert User.where("metadata", None).count() in (0, 4)


@pytest.mark.usefixtures("users")
def test_eager_loading_asks_twice_whatever_the_number_of_rows(db: SqlDatabase) -> None:
    for user in User.query():
        LoginSession.create(user_id=user.id, device="a")
    asked: list[str] = []
    db.on("query", lambda sql, _ms: asked.append(sql))

    found = User.query().order_by("id").with_("organization", "sessions").all()

    assert [user.organization.name if user.organization else None for user in found] == [
        "Math",
        "Art",
        "Art",
        None,
    ]
    assert [len(user.sessions) for user in found] == [1, 1, 1, 1]
    assert len(asked) == 2


@pytest.mark.usefixtures("users")
def test_what_is_changed(db: SqlDatabase) -> None:
    assert User.where("org_id", 2).update(plan="gold", active=False) == 2
    assert User.where("id", 1).update({"meta": {"k": [1]}}) == 1
    assert db.query("select plan from users order by id") == [
        {"plan": p} for p in ("free", "gold", "gold", "free")
    ]
    ada = User.find_by_id(1)
    assert ada is not None
    assert ada.meta == {"k": [1]}
    assert User.where("active", "=", False).delete() == 2  # noqa: FBT003
    assert User.query().delete(everywhere=True) == 2
    assert User.query().count() == 0


@pytest.mark.usefixtures("users")
def test_what_is_refused() -> None:
    every = User.query()
    everything: list[Callable[[], object]] = [every.delete, lambda: every.update(plan="x")]
    for call in everything:
        with pytest.raises(
            Refused, match="without where\\(\\) would affect every row of 'User'; pass everywhere=True"
        ):
            call()
    with pytest.raises(ValueError, match="supports where\\(\\) only"):
        every.limit(1).delete()
    with pytest.raises(ValueError) as refused:
        User.where("nmae", "x")
    assert str(refused.value).startswith("User: no column named 'nmae'; did you mean 'name'?")
    refused_too: list[Callable[[], object]] = [
        lambda: User.create(emial="x"),
        lambda: every.order_by("id; drop table users"),
        lambda: every.with_("organisation"),
        lambda: every.where("id", "; drop", 1),
        lambda: every.limit(-1),
        lambda: User.create_many([{"email": "a"}, {"emial": "b"}]),
        lambda: every.find_by_id(1).update(organisation=1),  # type: ignore[union-attr]
    ]
    for call in refused_too:
        with pytest.raises(ValueError):
            call()
    with pytest.raises(UniqueViolation, match="'main' refused the statement"):
        User.create(email="0@x.y")
    assert every.count() == 4


def test_create_many_is_all_or_none(db: SqlDatabase) -> None:
    assert Organization.create_many([{"name": f"n{at}"} for at in range(3000)]) == 3000
    assert Organization.create_many([]) == 0
    assert Organization.query().count() == 3000
    rows = [{"id": 5000 + at, "name": "x"} for at in range(1000)]
    with pytest.raises(QueryError):
        Organization.create_many([*rows, rows[0]])
    assert Organization.query().count() == 3000
    assert Organization.create_many([{"id": 9000, "name": "a"}, {"name": "b"}]) == 2


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.text(max_size=20),
    value=st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=20),
)
def test_nothing_that_is_given_becomes_sql(db: SqlDatabase, name: str, value: str) -> None:
    """A name is a column's or refused before anything is sent; a value is stored and found as it is."""
    known = {"id", "email", "name", "active", "meta", "metadata", "plan", "created_at", "org_id"}
    for call in (
        lambda: User.where(name, value),
        lambda: User.query().order_by(name),
        lambda: User.create({name: value}),
        lambda: User.query().update({name: value}, everywhere=True),
        lambda: User.query().with_(name),
    ):
        if name not in known:
            with pytest.raises(ValueError):
                call()
    if " ".join(name.lower().split()) not in OPERATORS:
        with pytest.raises(ValueError):
            User.where("name", name, value)
    Organization.query().delete(everywhere=True)
    made = Organization.create(name=value)
    assert [one.id for one in Organization.where("name", value)] == [made.id]
    assert Organization.where("name", "in", [value]).count() == 1


@pytest.mark.parametrize("sql_engine", ["postgresql"], indirect=True)
def test_many_rows_are_one_statement(db: SqlDatabase) -> None:
    """A trigger of the statement runs once, for models and for the builder."""
    db.execute("create table fired (n serial)")
    db.execute(
        "create function count_it() returns trigger language plpgsql as "
        "$$ begin insert into fired default values; return null; end $$"
    )
    db.execute(
        "create trigger t after insert on organizations for each statement execute function count_it()"
    )

    Organization.create_many([{"name": f"n{at}"} for at in range(50)])
    assert db.table("fired").count() == 1
    db.table("organizations").create_many([{"name": f"n{at}"} for at in range(50)])
    assert db.table("fired").count() == 2
    db.table("organizations").create_many([{"id": 1000 + at, "name": "x"} for at in range(5001)])
    assert (db.table("fired").count(), db.table("organizations").count()) == (5, 5101)


def test_a_key_of_other_columns_finds_nothing_by_chance(db: SqlDatabase) -> None:
    for id in ((), (1, 2), {"name": 1}):
        with pytest.raises(ValueError):
            User.find_by_id(id)
