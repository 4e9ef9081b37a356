"""Repositories: on a database, in a transaction, with methods of the program's own."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from katax_cli import KataxError, Repository, SqlDatabase, UnknownRecord
from katax_cli.services.program.container import Katax
from tests.servers.fixtures import Target
from tests.services.databases.models.people import Organization, User, UserRepository, create_tables
from tests.services.profiles import profile


def test_all_that_it_does(db: SqlDatabase) -> None:
    users = db.repository(UserRepository)

    ada = users.create(email="ada@x.y", name="Ada")
    assert users.create_many([{"email": "bob@x.y", "active": False}, {"email": "cleo@x.y"}]) == 2
    found = users.find_by_id(ada.id)
    assert found is not None
    assert found.name == "Ada"
    assert [user.email for user in users.find_active()] == ["ada@x.y", "cleo@x.y"]
    assert [user.email for user in users.find_by(active=False)] == ["bob@x.y"]
    assert [user.id for user in users.list()] == [1, 2, 3]
    assert [user.id for user in users.list(limit=1, offset=1)] == [2]
    assert users.update(ada.id, {"plan": "gold"}, name="Ada L.").plan == "gold"
    assert (users.delete(ada.id), users.delete(ada.id), users.find_by_id(ada.id)) == (True, False, None)
    with pytest.raises(UnknownRecord, match="no record at 'User\\(99\\)'"):
        users.update(99, name="x")


def test_in_a_transaction(db: SqlDatabase) -> None:
    """What it does is part of it; an object knows that it came from there."""
    with db.transaction() as trx:
        users = trx.repository(UserRepository)
        org = Organization.on(trx).create(name="Math")
        ada = users.create(email="ada@x.y", org_id=org.id)
        ada.update(name="Ada")
        assert users.of_organization(org).count() == 1
    assert db.query("select name from users") == [{"name": "Ada"}]

    with pytest.raises(KataxError) as ended:
        ada.update(name="A")
    assert str(ended.value) == f"the transaction of User({ada.id}) has ended; name a database: on=db"
    with pytest.raises(KataxError, match="has ended; begin another"):
        users.list()
    assert ada.update(name="A", on=db).update(name="B").name == "B"

    with pytest.raises(ZeroDivisionError), db.transaction() as trx:  # noqa: PT012 - the block is what raises
        trx.repository(UserRepository).update(ada.id, name="C")
        User.on(trx).where("id", ada.id).delete()
        raise ZeroDivisionError
    assert [user.name for user in User.query()] == ["B"]
    assert db.transaction(lambda trx: trx.repository(UserRepository).create(email="x@x.y").id) == 2


def test_from_a_program(sql_engine: Target, tmp_path: Path) -> None:
    with Katax(profile(tmp_path, {"main": sql_engine.url})) as katax:
        create_tables(katax.database("main"))
        assert katax.database().repository(UserRepository).create(email="a@x.y").id == 1


def test_objects_go_to_other_processes_without_their_database(db: SqlDatabase) -> None:
    ada = db.repository(UserRepository).create(email="ada@x.y", meta={"a": [1]})

    copy: User = pickle.loads(pickle.dumps(ada))

    assert (copy.id, copy.email, copy.meta) == (ada.id, "ada@x.y", {"a": [1]})
    assert copy.update(name="from afar").name == "from afar"


def test_it_says_what_it_lacks() -> None:
    class Nameless(Repository):  # type: ignore[type-arg]
        pass

    with pytest.raises(TypeError, match=r"Nameless names no model; derive it from Repository\[YourModel\]"):
        Nameless(None)  # type: ignore[arg-type]
