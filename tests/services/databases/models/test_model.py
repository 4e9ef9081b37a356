"""Models on each SQL engine: what they write and read, whom they belong to, and what they refuse."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from typing import Any

import pytest

from katax_cli import KataxError, NotNullViolation, SqlDatabase, UnknownRecord
from tests.services.databases.models.people import LoginSession, Organization, User


def test_the_life_of_a_row(db: SqlDatabase) -> None:
    ada = User.create(email="ada@x.y", name="Ada", meta={"tags": ["a", 1, None], "漢": 1.5})

    assert (ada.id, ada.active, ada.plan, ada.org_id) == (1, True, "free", None)
    assert isinstance(ada.created_at, datetime)
    found = User.find_by_id(1)
    assert found is not None
    assert found is not ada
    assert (found.email, found.meta, found.created_at) == (ada.email, ada.meta, ada.created_at)
    assert found.meta == {"tags": ["a", 1, None], "漢": 1.5}

    assert found.update(name="Ada L.", meta={"k": 2}) is found
    assert db.query("select name, plan from users") == [{"name": "Ada L.", "plan": "free"}]
    found.active = False
    assert found.update() is found
    assert User.where(User.active.is_(False)).count() == 1

    found.delete()
    assert User.find_by_id(1) is None
    with pytest.raises(UnknownRecord) as gone:
        found.update(name="gone")
    assert str(gone.value) == "no record at 'User(1)'"


def test_none_is_null_whatever_the_default(db: SqlDatabase) -> None:
    """JSON's null is another value, which IS NULL does not find."""
    db.execute("alter table organizations add column size int default 7")
    sized: Any = db.model("organizations")

    ada = User.create(email="ada@x.y", meta=None)
    assert User.where("meta", None).count() == 1
    ada.update(meta={}).update(meta=None)
    User.create_many([{"email": "bob@x.y", "active": True, "meta": None}])
    assert User.where("meta", None).count() == 2
    with pytest.raises(NotNullViolation):
        User.create(email="cleo@x.y", active=None)
    assert (sized.create(name="a").size, sized.create(name="b", size=None).size) == (7, None)
    assert sized.where("size", None).count() == 1


def test_an_update_holds_what_the_server_made_of_it(db: SqlDatabase) -> None:
    made = {
        "postgresql": "n numeric(9,2), twice numeric generated always as (n * 2) stored",
        "mysql": "n decimal(9,2), twice decimal(9,2) as (n * 2) stored",
        "sqlite": "n integer, twice integer as (n * 2)",
    }
    db.execute(f"create table numbers (id int primary key, {made[db.dialect]})")
    numbers: Any = db.model("numbers")

    row = numbers.create(id=1, n=1)
    assert row.update(n=Decimal("2.00") if db.dialect == "sqlite" else Decimal("1.999")).twice == 4
    assert row.n == 2
    assert row.update(n=None).twice is None


def test_what_a_key_referred_to_is_gone_with_it(db: SqlDatabase) -> None:
    one, two = Organization.create(name="a"), Organization.create(name="b")
    user = User.create(email="ada@x.y", organization=one)

    assert user.update(name="Ada").organization is one
    user.update(org_id=two.id)
    with pytest.raises(KataxError, match="was read without 'organization'"):
        _ = user.organization
    loaded = user.load("organization").organization
    assert loaded is not None
    assert loaded.name == "b"
    assert user.update(organization=one).org_id == one.id
    assert user.organization is one
    assert user.update(name="Lovelace", org_id=one.id).organization is one, "the key is as it was"


def test_a_row_that_another_caller_changed(db: SqlDatabase) -> None:
    """What is written is written, also if it is what was read; a row that is gone is not said to be changed."""
    one, two = Organization.create(name="a"), Organization.create(name="b")
    db.execute("update organizations set name = 'theirs' where id = 1")
    one.update(name="a")
    assert db.query("select name from organizations where id = 1") == [{"name": "a"}]
    one.update(name="a")
    one.update(id=7)
    assert [row.id for row in Organization.query().order_by("id")] == [2, 7]

    db.execute("delete from organizations")
    calls: list[Callable[[], object]] = [
        lambda: two.update(name="c"),
        two.update,
        two.load,
        lambda: one.update(name="c", id=8),
    ]
    for call in calls:
        with pytest.raises(UnknownRecord, match="no record at 'Organization"):
            call()
    assert (two.id, two.name, one.id) == (2, "b", 7)
    two.delete()
    with pytest.raises(UnknownRecord):
        two.update(name="c")
    with pytest.raises(ValueError, match=r"this Organization has no row yet; use create\(\)"):
        Organization(name="x").update(name="y")


def test_rows_come_with_what_they_refer_to(db: SqlDatabase) -> None:
    org = Organization.create(name="Math")
    ada = User.create(
        email="ada@x.y", organization=org, sessions=[LoginSession(device="a"), LoginSession(device="b")]
    )
    assert (ada.org_id, ada.sessions[1].user_id) == (org.id, ada.id)

    [found] = User.where("email", "ada@x.y").with_("organization", "sessions.user").all()
    assert found.organization is not None
    assert found.organization.name == "Math"
    assert [session.device for session in found.sessions] == ["a", "b"]
    assert found.sessions[0].user is found

    bare = User.where("email", "ada@x.y").first()
    assert bare is not None
    with pytest.raises(KataxError) as refused:
        _ = bare.organization
    assert str(refused.value) == (
        "User(1) was read without 'organization'; read it with_('organization'), or call load('organization')"
    )
    assert bare.load("organization").organization.name == "Math"  # type: ignore[union-attr]
    bare.load("sessions").delete()
    assert db.query("select count(*) as n from sessions") == [{"n": 0}]
