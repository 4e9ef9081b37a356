"""Migrations on MongoDB: `.py` files, a lease, resumable steps."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path
from typing import Any, cast

import pytest
from pymongo import MongoClient

from katax_cli.engines.mongodb import migrate
from katax_cli.errors import LockHeld, LockLost, MigrationError, OutcomeUnknown, StatementFailed
from katax_cli.services.databases.mongodb import MongoDatabase
from katax_cli.services.migrate.migrator import Migrator
from katax_cli.services.migrate.rehearse import rehearse
from katax_cli.services.tables.scratch import open_settings
from tests.services.connections import open_database
from tests.services.crowd import crowd
from tests.services.migrate.killable import CROWD
from tests.services.migrate.test_migrator import states
from tests.waiting import until

ONE = (
    "def up(db):\n    db.users.insert_one({'_id': 1})\n    db['users'].create_index('name')\n"
    "def down(db):\n    db.users.drop()\n"
)


@pytest.fixture
def mongo(mongodb_url: str, open_url: Callable[..., MongoDatabase]) -> MongoDatabase:
    return open_url(mongodb_url)


@pytest.fixture
def migrator(mongo: MongoDatabase, folder: Path) -> Migrator:
    return Migrator(mongo, str(folder))


def documents(mongo: MongoDatabase, name: str = "users", key: str = "_id") -> list[Any]:
    reply = mongo.command({"find": name, "filter": {}, "sort": {"_id": 1}})
    return [document[key] for document in reply["cursor"]["firstBatch"]]


def test_up_and_down(migrator: Migrator, mongo: MongoDatabase, folder: Path) -> None:
    (folder / "001_users.py").write_text(ONE)

    assert states(migrator) == [("001_users.py", "pending")]
    assert [one.name for one in migrator.up()] == ["001_users.py"]
    assert migrator.up() == []
    assert documents(mongo) == [1]
    assert states(migrator) == [("001_users.py", "applied")]
    migrator.down()
    assert documents(mongo) == []
    assert states(migrator) == [("001_users.py", "pending")]


def test_a_file_of_sql_is_refused_before_anything_is_run(
    migrator: Migrator, mongo: MongoDatabase, folder: Path
) -> None:
    (folder / "001_users.py").write_text(ONE)
    (folder / "002_b.sql").write_text("-- UP\nSELECT 1;\n")

    with pytest.raises(MigrationError) as error:
        migrator.up()

    assert (
        str(error.value) == "migration 002_b.sql is SQL, which mongodb does not run; write it as a .py file"
    )
    assert documents(mongo) == []


STEPS = """import os
def up(db):
    if db.step("one"):
        db.users.insert_one({{"_id": 1}})
    if db.step("two"):
        if os.path.exists({gate!r}):
            raise RuntimeError("not yet")
        db.users.insert_one({{"_id": 2}})
"""


def test_a_failed_step_is_resumed_and_a_finished_one_is_not_run_again(
    migrator: Migrator, mongo: MongoDatabase, folder: Path
) -> None:
    gate = folder / "gate"
    gate.touch()
    (folder / "001_users.py").write_text(STEPS.format(gate=str(gate)))

    with pytest.raises(StatementFailed):
        migrator.up()
    gate.unlink()
    migrator.resume()

    assert documents(mongo) == [1, 2]
    assert states(migrator) == [("001_users.py", "applied")]


def test_a_step_of_a_runner_that_died_cannot_be_known(
    migrator: Migrator, mongo: MongoDatabase, folder: Path
) -> None:
    gate = folder / "gate"
    gate.touch()
    (folder / "001_users.py").write_text(STEPS.format(gate=str(gate)))
    with pytest.raises(StatementFailed):
        migrator.up()
    gate.unlink()
    mongo.command({"update": "katax_migrations", "updates": [{"q": {}, "u": {"$set": {"state": "running"}}}]})

    with pytest.raises(OutcomeUnknown) as error:
        migrator.resume()
    assert "step 'two' of 001_users.py was under way" in str(error.value)
    migrator.resume(assume="done")
    assert documents(mongo) == [1]


def test_eight_runners_apply_each_file_exactly_once(
    mongo: MongoDatabase, mongodb_url: str, folder: Path
) -> None:
    for number in range(1, 4):
        (folder / f"{number:03}_x.py").write_text(
            f"def up(db):\n    db.users.insert_one({{'n': {number}}})\n"
        )

    crowd(CROWD, mongodb_url, str(folder), processes=8)

    reply = mongo.command({"find": "users", "filter": {}})
    assert sorted(document["n"] for document in reply["cursor"]["firstBatch"]) == [1, 2, 3]


def test_a_lease_names_its_holder_and_a_lost_one_stops_the_run(
    migrator: Migrator, mongo: MongoDatabase, mongodb_url: str, folder: Path
) -> None:
    (folder / "001_users.py").write_text(ONE)
    with open_database(mongodb_url) as second, migrator.locked() as runner:
        other = Migrator(second, str(folder), lock_timeout=0.1)
        runner._lock.announce("001_users.py")
        with pytest.raises(LockHeld) as error:
            other.up()
        assert f"pid {os.getpid()} on " in str(error.value)
        assert "at 001_users.py" in str(error.value)
        mongo.command({"delete": "katax_migrations_lock", "deletes": [{"q": {}, "limit": 0}]})
        with pytest.raises(LockLost):
            runner.run(migrator.pending_job("001"))
    assert documents(mongo) == []


def test_a_lease_that_ran_out_is_taken_over_and_one_that_is_kept_alive_is_not(
    migrator: Migrator, mongodb_url: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrate, "_BEATS", 1000)
    others = threading.enumerate()
    with open_database(mongodb_url) as second, migrator.locked() as runner:
        other = Migrator(second, str(folder), lock_timeout=0.1)
        (first,) = documents(second, "katax_migrations_lock", "expires")
        until(lambda: documents(second, "katax_migrations_lock", "expires") != [first])
        with pytest.raises(LockHeld), other.locked():
            pass
        engine = cast("migrate.MongoMigrations", migrator.engine)
        (beats,) = [
            thread
            for thread in threading.enumerate()
            if thread.name == "katax-lease" and thread not in others
        ]
        assert beats.daemon
        assert engine._stop is not None
        engine._stop.set()
        beats.join()
        with MongoClient[Any](mongodb_url) as client:
            leases = client.get_default_database()["katax_migrations_lock"]
            leases.update_one({}, {"$set": {"expires": datetime.now(UTC) - timedelta(seconds=1)}})
        with other.locked(), pytest.raises(LockLost):
            runner._lock.announce("001_users.py")


def test_a_lease_runs_by_the_clock_of_the_server(
    migrator: Migrator, mongodb_url: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A runner whose own clock is an hour ahead takes over no lease that lives, and makes none that lasts."""

    class Ahead(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Any:
            return datetime.now(tz) + timedelta(hours=1)

    with open_database(mongodb_url) as second, migrator.locked():
        monkeypatch.setattr(migrate, "datetime", Ahead)
        with pytest.raises(LockHeld), Migrator(second, str(folder), lock_timeout=0.1).locked():
            pass
    with open_database(mongodb_url) as second, migrator.locked():
        (expires,) = documents(second, "katax_migrations_lock", "expires")
        assert expires <= second.command({"hello": 1})["localTime"] + migrate.LEASE


def test_a_rehearsal_runs_on_a_database_of_its_own(
    migrator: Migrator, mongo: MongoDatabase, folder: Path
) -> None:
    (folder / "001_users.py").write_text(ONE)

    found = rehearse(migrator, open_settings)

    assert found.ok, found
    assert documents(mongo) == []


def test_an_error_of_the_driver_is_told_with_its_line(migrator: Migrator, folder: Path) -> None:
    twice = "def up(db):\n    db.users.insert_one({'_id': 1})\n    db.users.insert_one({'_id': 1})\n"
    (folder / "001_users.py").write_text(twice)

    with pytest.raises(StatementFailed) as failed:
        migrator.up()

    assert failed.value.line == 3
    assert "what ran outside of one runs again" in str(failed.value)
