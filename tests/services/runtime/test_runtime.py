"""The composition root: one object for each name, deadlines, work in parallel, and everything closed."""

import os
import stat
import threading
from pathlib import Path
from typing import Any

import pytest

from katax_cli.core.resilience.deadline import Deadline
from katax_cli.errors import DeadlineExceeded, Unavailable, UnknownConnection
from katax_cli.profiles.load import load_profile
from katax_cli.profiles.model.model import Profile
from katax_cli.services.databases.clients import RedisDatabase
from katax_cli.services.databases.database import Database
from katax_cli.services.databases.mongodb import MongoDatabase
from katax_cli.services.databases.sql import SqlDatabase
from katax_cli.services.runtime.runtime import Runtime
from tests.servers.fixtures import MakeFresh, MakeProxy, Target
from tests.services.profiles import profile
from tests.waiting import CONNECTING, patiently, until

CLASSES = {"redis": RedisDatabase, "mongodb": MongoDatabase}


def test_one_object_for_each_name(engine: Target, tmp_path: Path) -> None:
    with Runtime(profile(tmp_path, {"main": engine.url})) as runtime:
        database = runtime.database("main")

        assert runtime.database("main") is database
        assert type(database) is CLASSES.get(engine.engine, SqlDatabase)
        assert database.health_check()
        assert database.server()["version"]
    assert database.closed
    assert not database.health_check()


def test_an_unknown_name(tmp_path: Path) -> None:
    with (
        Runtime(profile(tmp_path, {"main": "sqlite:///x.db"})) as runtime,
        pytest.raises(UnknownConnection) as error,
    ):
        runtime.database("mian")

    assert "did you mean 'main'?" in str(error.value)


def test_a_probing_runtime_holds_one_connection(engine: Target, tmp_path: Path) -> None:
    with Runtime(profile(tmp_path, {"main": engine.url}), probing=True) as runtime:
        database = runtime.database("main")
        database.ping()

        assert database.pool_stats().max == 1
        assert database.guard.breaker is None


@pytest.mark.parametrize(
    ("how", "attempts", "has_breaker"),
    [({}, 3, True), ({"one_shot": True}, 1, False), ({"probing": True}, 1, False)],
)
def test_who_retries_and_who_asks_the_breaker(
    how: dict[str, Any], attempts: int, has_breaker: bool, fresh: MakeFresh, proxy: MakeProxy, tmp_path: Path
) -> None:
    """Counted at the server: connects that it did not answer."""
    door = proxy(fresh("redis"))
    door.black_hole()
    profile(tmp_path, {"main": door.url})
    file = tmp_path / "profiles" / "test.toml"
    text = file.read_text().replace(f"connect_timeout = {CONNECTING}", "connect_timeout = 0.1")
    file.write_text(text + "[connections.main.retry]\ninitial = 0.01\n")

    with Runtime(load_profile("test"), **how) as runtime:
        database = runtime.database("main")
        with pytest.raises(Unavailable):
            database.connect(timeout=60)

        assert (database.guard.breaker is not None) is has_breaker
    until(lambda: door.connections >= attempts)
    assert door.connections == attempts


def test_work_on_each_runs_at_once_and_failures_are_values(tmp_path: Path, closed_port: int) -> None:
    together = threading.Barrier(2, timeout=60)
    urls = {"one": "sqlite:///x.db", "two": "sqlite:///y.db", "away": f"redis://127.0.0.1:{closed_port}/0"}

    def work(database: Any) -> str:
        if database.name == "away":
            database.ping()
        together.wait()
        return str(database.name)

    with Runtime(profile(tmp_path, urls)) as runtime:
        settings = list(runtime.profile.connections.values())
        found = {one.name: outcome for one, outcome in runtime.each(settings, work)}

    assert (found["one"], found["two"]) == ("one", "two")
    assert isinstance(found["away"], Unavailable)


def test_who_does_not_come_back_is_left_behind(tmp_path: Path) -> None:
    """It delays nobody, and is said to have taken too long."""
    release = threading.Event()
    chosen = profile(tmp_path, {"quick": "sqlite:///y.db", "stuck": "sqlite:///x.db"})

    def work(database: Database) -> str:
        if database.name == "stuck":
            release.wait(60)
        return database.name

    def left_behind(seconds: float) -> bool:
        with Runtime(chosen, deadline=Deadline(seconds)) as runtime:
            outcomes = dict(runtime.each(list(chosen.connections.values()), work))
        found = {one.name: outcome for one, outcome in outcomes.items()}
        assert isinstance(found["stuck"], DeadlineExceeded)
        assert str(found["stuck"]) == f"'stuck' is not available: the call took longer than {seconds:g} s"
        return bool(found["quick"] == "quick")

    patiently(left_behind)
    release.set()


def test_the_tighter_limit_ends_a_call(fresh: MakeFresh, tmp_path: Path) -> None:
    """The deadline of the whole, the connection's own, or what the caller says: each with its own seconds."""
    file = tmp_path / "profiles" / "test.toml"
    profile(tmp_path, {"main": fresh("postgresql").url})
    text = file.read_text()

    def loaded(statement_timeout: float) -> Profile:
        file.write_text(f"{text}statement_timeout = {statement_timeout}\n")
        return load_profile("test")

    def seconds(runtime: Runtime, **limits: float) -> str:
        """Of which connecting is no part."""
        with runtime:
            database = runtime.sql(runtime.profile.connection("main"))
            database.connect(timeout=60)
            with pytest.raises(DeadlineExceeded) as error:
                database.query("select pg_sleep(60)", **limits)  # type: ignore[arg-type]
        return str(error.value).rpartition("than ")[2]

    assert seconds(Runtime(loaded(0.3))) == "0.3 s"
    assert seconds(Runtime(loaded(0.3)), timeout=0.2) == "0.2 s"

    def of_the_whole(given: float, *, own: float, counts: bool) -> bool:
        """Of which connecting is a part: on a busy machine it may take all."""
        made = loaded(own)
        try:
            told = seconds(Runtime(made, deadline=Deadline(given), one_shot=True, statement_timeouts=counts))
        except Unavailable:
            return False
        assert told == f"{given:g} s"
        return True

    patiently(lambda given: of_the_whole(given, own=2 * given, counts=True), shortest=0.15)
    patiently(lambda given: of_the_whole(given, own=given / 2, counts=False), shortest=0.5)


def test_an_interrupt_closes_everything(fresh: MakeFresh, proxy: MakeProxy, tmp_path: Path) -> None:
    doors = [proxy(fresh("postgresql")), proxy(fresh("redis"))]
    urls = {"main": doors[0].url, "cache": doors[1].url}

    with pytest.raises(KeyboardInterrupt), Runtime(profile(tmp_path, urls)) as runtime:  # noqa: PT012 - the block is what raises
        for name in urls:
            runtime.database(name).ping()
        assert all(door.open_connections for door in doors)
        raise KeyboardInterrupt

    until(lambda: not any(door.open_connections for door in doors))


def test_files_of_katax_are_its_users_alone(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        with Runtime(load_profile("local")) as runtime:
            runtime.database("main").ping()
    finally:
        os.umask(before)

    home = tmp_path / ".katax"
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    assert stat.S_IMODE((home / "main.db").stat().st_mode) == 0o600
