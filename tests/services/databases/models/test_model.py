"""Models on each SQL engine: what they write and read, whom they belong to, and what they refuse."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

import pytest

from katax_cli import KataxError, SqlDatabase, UnknownRecord
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
