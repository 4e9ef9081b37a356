"""One call of a model is guarded as any other: roles, unknown outcomes, deadlines, pools, threads and forks."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import pytest
from sqlalchemy import event

from katax_cli import (
    ConfigError,
    DeadlineExceeded,
    KataxError,
    Model,
    OutcomeUnknown,
    PoolClosed,
    PoolTimeout,
    QueryError,
    SqlDatabase,
    Unavailable,
)
from katax_cli.core.clock import SYSTEM
from katax_cli.services.databases.models import unit
from katax_cli.services.runtime.runtime import Runtime
from tests.servers.fixtures import MakeFresh, MakeProxy
from tests.services.databases.models.people import (
    LoginSession,
    Organization,
    User,
    UserRepository,
    create_tables,
)
from tests.services.profiles import profile
from tests.waiting import patiently

SERVERS = ("postgresql", "mysql")


@contextmanager
def opened(folder: Path, urls: dict[str, str]) -> Iterator[dict[str, SqlDatabase]]:
    with Runtime(profile(folder, urls)) as runtime:
        yield {name: cast(SqlDatabase, runtime.database(name)) for name in urls}


@pytest.mark.parametrize("name", SERVERS)
def test_a_write_without_answer_is_unknown_and_not_repeated(
    name: str, fresh: MakeFresh, proxy: MakeProxy, tmp_path: Path
) -> None:
    """A single INSERT commits by itself, several end with COMMIT: neither is said to have failed."""
    target = fresh(name)
    door = proxy(target)
    with opened(tmp_path, {"main": door.url, "direct": target.url}) as dbs:
        create_tables(dbs["direct"])
        organizations, users = Organization.on(dbs["main"]), dbs["main"].repository(UserRepository)
        kept = organizations.create(name="kept")

        door.cut_after(b"INSERT", forward=True)
        with pytest.raises(OutcomeUnknown):
            organizations.create(name="unknown")
        door.cut_after(b"COMMIT", forward=True)
        with pytest.raises(OutcomeUnknown):
            users.create(email="a@x.y", sessions=[LoginSession(device="d")])
        door.cut_after(b"UPDATE", forward=True)
        with pytest.raises(KataxError):
            kept.update(name="changed")

        assert (kept.name, kept.id) == ("kept", 1)
        assert kept.update(name="again").name == "again"
        assert dbs["direct"].query("select name from organizations order by id") == [
            {"name": "again"},
            {"name": "unknown"},
        ]
        assert dbs["direct"].query("select count(*) as n from sessions") == [{"n": 1}]


@pytest.mark.parametrize("name", SERVERS)
def test_what_was_lost_before_its_commit_is_not_there(
    name: str, fresh: MakeFresh, proxy: MakeProxy, tmp_path: Path
) -> None:
    """The bad twin: nothing is unknown of what the server rolled back."""
    target = fresh(name)
    door = proxy(target)
    with opened(tmp_path, {"main": door.url, "direct": target.url}) as dbs:
        create_tables(dbs["direct"])
        users = dbs["main"].repository(UserRepository)
        users.list()
        door.cut_after(b"INSERT INTO sessions", forward=False)
        with pytest.raises(Unavailable):
            users.create(email="a@x.y", sessions=[LoginSession(device="d")])
        assert dbs["direct"].query("select count(*) as n from users") == [{"n": 0}]
        assert users.list() == []


def test_an_object_holds_what_it_held_after_an_error(db: SqlDatabase) -> None:
    User.create(email="taken@x.y")
    org = Organization.create(name="Math")
    ada = User.create(email="ada@x.y", meta={"a": 1})
    ada.name = "assigned"

    with pytest.raises(QueryError):
        ada.update(email="taken@x.y", plan="gold")
    with pytest.raises(QueryError):
        User.create(email="taken@x.y", organization=org)

    assert (ada.email, ada.plan, ada.meta, ada.name, org.name) == (
        "ada@x.y",
        "free",
        {"a": 1},
        "assigned",
        "Math",
    )
    ada.update()
    assert db.query("select name, plan from users where email = 'ada@x.y'") == [
        {"name": "assigned", "plan": "free"}
    ]
    assert User.create(email="b@x.y", organization=org).org_id == org.id


@pytest.mark.parametrize("sql_engine", ["mysql"], indirect=True)
def test_a_server_that_returns_no_rows_is_asked_for_them(
    db: SqlDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MySQL proper has no RETURNING: the number and the defaults of a row come from its own connection."""
    Organization.query().count()
    dialect = unit._engines.of(db).dialect
    monkeypatch.setattr(dialect, "insert_returning", False)
    monkeypatch.setattr(dialect, "favor_returning_over_lastrowid", False)

    first, second = User.create(email="a"), User.create(email="b", sessions=[LoginSession(device="d")])
    with db.transaction() as trx:
        third = User.on(trx).create(email="c")

    assert [(user.id, user.plan) for user in (first, second, third)] == [
        (1, "free"),
        (2, "free"),
        (3, "free"),
    ]
    assert second.sessions[0].user_id == 2
    assert first.update(name="z").created_at is not None


def test_a_closed_database_is_said_to_be_closed(db: SqlDatabase) -> None:
    ada = User.create(email="ada@x.y")
    db.close()

    for call in (User.query().all, lambda: User.create(email="x"), lambda: ada.update(name="x")):
        with pytest.raises(PoolClosed, match="the pool of 'main' is closed"):
            call()
    assert ada.email == "ada@x.y"


def test_a_model_is_bound_to_one_database_after_the_other(fresh: MakeFresh, tmp_path: Path) -> None:
    """Its objects stay with the database from which they came."""
    urls = {"one": fresh("postgresql").url, "two": fresh("sqlite").url, "three": fresh("mysql").url}
    with opened(tmp_path, urls) as dbs:
        made = {}
        for name, db in dbs.items():
            create_tables(db)
            Model.bind(db)
            made[name] = Organization.create(name=name)
        for name, organization in made.items():
            organization.update(name=f"{name} changed")
            assert dbs[name].query("select name from organizations") == [{"name": f"{name} changed"}]
        Model.bind(None)
        with pytest.raises(
            ConfigError, match=r"User is bound to no database; call Model.bind\(db\), or use User.on\(db\)"
        ):
            User.query()
        User.bind(dbs["two"])
        assert (User.query().count(), vars(User)["_katax_binding"]) == (0, dbs["two"])
        User.bind(None)
        with pytest.raises(ConfigError, match="models work on postgresql, mysql, sqlite"):
            Model.bind(object())  # type: ignore[arg-type]


def test_a_full_pool_and_a_deadline_hold(fresh: MakeFresh, tmp_path: Path) -> None:
    with opened(tmp_path, {"main": fresh("postgresql").url}) as dbs:
        db = dbs["main"]
        create_tables(db)
        db.execute(
            "create function slow() returns bigint language sql as 'select 1::bigint from pg_sleep(60)'"
        )
        db.execute("create view slow_ones as select slow() as id")
        with pytest.raises(ConfigError, match="no primary key"):
            db.model("slow_ones")
        trx = [db.begin() for _ in range(db.settings.pool.max)]

        def waits_for_the_pool(seconds: float) -> bool:
            with pytest.raises((PoolTimeout, DeadlineExceeded)) as raised:
                Organization.on(db).create(name="x", timeout=seconds)
            return isinstance(raised.value, PoolTimeout)

        patiently(waits_for_the_pool)
        for each in trx:
            each.rollback()
        with db.transaction() as holder:
            holder.execute("lock table organizations in exclusive mode")
            with pytest.raises((DeadlineExceeded, OutcomeUnknown)):
                Organization.on(db).create(name="x", timeout=0.2)
        assert Organization.on(db).count() == 0
        assert db.pool_stats().active == 0


def test_a_time_that_is_over_before_a_statement_is_named_as_it_was_given(db: SqlDatabase) -> None:
    """The time is that of all statements of a call; here what looks at the object before it is written takes it."""
    organization = Organization.on(db).create(name="x")

    def is_named(seconds: float) -> bool:
        began: list[float] = []

        def late(*_: object) -> None:
            began.append(seconds)
            SYSTEM.sleep(1.5 * seconds)

        event.listen(Organization, "before_update", late)
        try:
            with pytest.raises(Unavailable) as error:
                organization.update(name="y", timeout=seconds)
        finally:
            event.remove(Organization, "before_update", late)
        if not began:
            return False  # a busy machine had no time left for it
        assert str(error.value) == f"'main' is not available: the call took longer than {seconds:g} s"
        return True

    patiently(is_named, shortest=0.2)


def test_threads_share_a_model(db: SqlDatabase) -> None:
    """Each gets the rows that it made, whatever the others do; the first use of all of them is at the same time."""
    begin = threading.Barrier(8)

    def work(number: int) -> None:
        begin.wait(60)
        for at in range(15):
            email = f"{number}-{at}@x.y"
            made = User.create(email=email, name=str(number))
            made.update(meta={"by": number})
            found = User.where("email", email).first()
            assert found is not None
            assert (found.id, found.name, found.meta) == (made.id, str(number), {"by": number})

    with ThreadPoolExecutor(8) as threads:
        for done in [threads.submit(work, number) for number in range(8)]:
            done.result(60)

    assert User.query().count() == 8 * 15
    assert db.pool_stats().active == 0


def test_a_forked_child_has_connections_of_its_own(db: SqlDatabase) -> None:
    ada = User.create(email="ada@x.y")
    child = os.fork()
    if child == 0:
        status = 1
        try:
            User.create(email="child@x.y")
            ada.update(name="by the child")
            status = 0
        finally:
            os._exit(status)
    User.create(email="parent@x.y")
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert [user.name for user in User.query().order_by("id").limit(1)] == ["by the child"]
    assert User.query().count() == 3
