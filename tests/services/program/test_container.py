"""The container: one name, one object; what it opens, it closes."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from katax_cli import (
    ConfigError,
    ConnectionConflict,
    Katax,
    PoolClosed,
    Refused,
    Unavailable,
    UnknownConnection,
    UnknownProfile,
    WrongEngine,
)
from katax_cli.core.settings import PoolSettings
from katax_cli.services.calls.guard import Safety
from katax_cli.services.state import reporter as reporter_module
from katax_cli.services.state.circuits import decide
from katax_cli.services.state.store import StateStore
from tests.servers.fixtures import Target
from tests.services.profiles import profile
from tests.services.runtimes import patient
from tests.waiting import until


@pytest.fixture
def katax(tmp_path: Path) -> Iterator[Katax]:
    with Katax("local") as made:
        yield made


def write_profile(folder: Path, text: str, name: str = "dev") -> None:
    path = folder / "profiles" / f"{name}.toml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    path.chmod(0o644)


@pytest.fixture
def singleton(tmp_path: Path) -> Iterator[None]:
    (tmp_path / "katax.toml").write_text('default_profile = "local"\n')
    yield
    Katax.reset()


def test_one_instance_however_many_threads_ask_first(tmp_path: Path, singleton: None) -> None:
    gate = threading.Barrier(16)

    def ask(_number: int) -> Katax:
        gate.wait()
        return Katax.get_instance()

    with ThreadPoolExecutor(16) as threads:
        found = list(threads.map(ask, range(16)))

    assert len({id(each) for each in found}) == 1


def test_reset_shuts_the_instance_down_and_forgets_it(tmp_path: Path, singleton: None) -> None:
    first = Katax.get_instance()
    database = first.database(type="sqlite", connection="sqlite:///a.db")

    Katax.reset()

    assert database.closed
    assert Katax.get_instance() is not first


def test_containers_are_isolated(tmp_path: Path) -> None:
    with Katax("local") as one, Katax("local") as other:
        assert one is not other
        assert one.database("x", connection="sqlite:///a.db") is not other.database(
            "x", connection="sqlite:///a.db"
        )


def test_it_connects_nowhere_and_writes_nothing_until_asked(tmp_path: Path, closed_port: int) -> None:
    with Katax("local") as made:
        made.database("pg", connection=f"postgresql://u@127.0.0.1:{closed_port}/x")
        assert made.profile.name == "local"

    assert list(tmp_path.iterdir()) == []


def test_same_name_same_object_on_every_engine(katax: Katax, engine: Target) -> None:
    first = katax.database("x", connection=patient(engine.url))
    first.ping()

    assert katax.database("x", connection=patient(engine.url)) is first
    assert katax.database("x") is first
    assert katax.db("x") is first
    assert katax.database("x", type=engine.engine) is first  # type: ignore[call-overload]


def test_many_threads_get_the_same_object(katax: Katax) -> None:
    gate = threading.Barrier(16)

    def ask(_number: int) -> Any:
        gate.wait()
        return katax.database("x", connection="sqlite:///a.db")

    with ThreadPoolExecutor(16) as threads:
        assert len({id(each) for each in threads.map(ask, range(16))}) == 1


@pytest.mark.parametrize(
    "other",
    [
        {"connection": "sqlite:///other.db"},
        {"type": "redis"},
        {"pool": {"max": 3}},
        {"connection": {"type": "sqlite", "database": "a.db", "read_only": True}},
    ],
)
def test_another_configuration_under_a_used_name_is_a_conflict(katax: Katax, other: dict[str, Any]) -> None:
    katax.database("x", connection="sqlite:///a.db")

    with pytest.raises(ConnectionConflict) as caught:
        katax.database("x", **other)

    assert (
        str(caught.value) == "connection 'x' exists with another configuration; close it or use another name"
    )


def test_another_password_is_a_conflict_too(katax: Katax) -> None:
    katax.database("x", connection="redis://:one@localhost:1/0")

    with pytest.raises(ConnectionConflict):
        katax.database("x", connection="redis://:two@localhost:1/0")


def test_a_closed_database_frees_its_name(katax: Katax) -> None:
    first = katax.database("x", connection="sqlite:///a.db")
    first.close()

    second = katax.database("x", connection="sqlite:///b.db")

    assert second is not first
    assert second.query("select 1 as one") == [{"one": 1}]


def test_the_profiles_connections_by_name(tmp_path: Path) -> None:
    write_profile(
        tmp_path,
        'role = "dev"\n[connections.main]\nurl = "sqlite:///m.db"\n[connections.b]\nurl = "sqlite:///b.db"\n',
    )
    with Katax() as made:
        assert made.database("b").settings.path == str(tmp_path / "b.db")
        assert made.database() is made.database("main")
        with pytest.raises(UnknownConnection) as caught:
            made.db("c")
        assert str(caught.value) == "no connection named 'c'; known connections of profile 'dev': main, b"


def test_names_of_the_program_are_known_too(katax: Katax) -> None:
    katax.database("mine", connection="sqlite:///a.db")

    with pytest.raises(UnknownConnection) as caught:
        katax.db("mini")

    assert "mine" in str(caught.value)


def test_what_the_program_says_goes_before_a_profiles_connection(katax: Katax) -> None:
    assert katax.database("main", connection="sqlite:///mine.db").settings.path.endswith("mine.db")


def test_a_type_that_contradicts_the_profile_is_a_conflict(katax: Katax) -> None:
    with pytest.raises(ConnectionConflict):
        katax.database("main", type="postgresql")


def test_a_frozen_profile_makes_the_programs_connections_read_only(tmp_path: Path) -> None:
    write_profile(tmp_path, 'role = "frozen"\n[connections.main]\nurl = "sqlite:///m.db"\n')
    (tmp_path / "x.db").touch()
    with Katax() as made:
        database = made.database("x", connection="sqlite:///x.db")
        with pytest.raises(Refused):
            database.execute("create table t (n int)")


def test_the_pool_of_the_program(katax: Katax) -> None:
    table = katax.database("a", connection="sqlite:///a.db", pool={"max": 3, "idle_timeout": "5m"})
    value = katax.database("b", connection="sqlite:///b.db", pool=PoolSettings(max=4))

    assert (table.settings.pool.max, table.settings.pool.idle_timeout) == (3, 300.0)
    assert value.pool_stats().max == 4


def test_the_built_in_profile_is_never_a_default(tmp_path: Path) -> None:
    """A program whose configuration is missing would work on an empty file."""
    with pytest.raises(ConfigError) as error:
        Katax()
    assert str(error.value) == (
        "no configuration found for Katax(); write a profile ('katax profile init'), set DATABASE_URL, "
        "use Katax(config={…}) or Katax('local')"
    )
    assert not (tmp_path / ".katax").exists()
    (tmp_path / "katax.toml").write_text('default_profile = "local"\n')
    with Katax() as made:
        assert made.profile.name == "local"


def test_profiles_that_cannot_be_are_errors(tmp_path: Path) -> None:
    with pytest.raises(UnknownProfile):
        Katax("prdo")
    for name in ("a", "b"):
        write_profile(tmp_path, 'role = "dev"\n[connections]\n', name)
    with pytest.raises(ConfigError, match="several profiles and none chosen"):
        Katax()
    assert Katax("b").profile.name == "b"


def test_the_cache_is_on_redis_only(katax: Katax, redis_url: str, sqlite_url: str) -> None:
    katax.database("cache", connection=patient(redis_url))
    katax.cache().set("k", {"a": 1}, 60)
    assert katax.cache().get("k") == {"a": 1}
    katax.database("x", connection=sqlite_url)
    with pytest.raises(WrongEngine) as caught:
        katax.cache("x")
    assert str(caught.value) == "sqlite has no cache; 'cache' works on redis"
    with pytest.raises(UnknownConnection):
        katax.cache("nowhere")


def test_a_postgresql_client_of_its_own(katax: Katax, postgresql_url: str) -> None:
    db = katax.database("pg", type="postgresql", connection=patient(postgresql_url))
    db.execute("create table t (n int)")
    client = db.get_client()
    try:
        client.execute("BEGIN")
        client.execute("insert into t values (%s)", [1])
        client.execute("COMMIT")
        client.execute("BEGIN")
        client.execute("insert into t values (2)")
        client.rollback()
    finally:
        db.release(client)

    assert db.query("select n from t") == [{"n": 1}]
    assert db.pool_stats().active == 0


def test_config_and_logger_belong_to_it(
    katax: Katax, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("PORT", "8080")
    katax.database("x", connection="postgresql://u:s3cr3t-known@h/d")
    assert katax.config.get("PORT", 3000) == 8080

    katax.logger.info("the password is s3cr3t-known")

    assert [record.getMessage() for record in caplog.records if record.name == "katax.app"] == [
        "the password is ***"
    ]
    assert katax.logger is katax.logger


def test_shutdown_runs_hooks_in_order_then_services_then_databases(tmp_path: Path) -> None:
    katax = Katax("local")
    database = katax.database("x", connection="sqlite:///a.db")
    seen: list[str] = []

    class Service:
        name = "service"

        def close(self) -> None:
            seen.append(f"service, database closed: {database.closed}")

    service = Service()
    assert katax.register(service) is service

    @katax.on_shutdown
    def first() -> None:
        database.execute("create table t (n int)")
        seen.append("first")

    katax.on_shutdown(lambda: seen.append("second"))

    report = katax.shutdown()

    assert seen == ["first", "second", "service, database closed: False"]
    assert database.closed
    assert report.clean
    assert report.done == ("hook first", "hook <lambda>", "service", "x")


def test_shutdown_is_done_once_and_says_the_same(tmp_path: Path) -> None:
    katax = Katax("local")
    calls: list[int] = []
    katax.on_shutdown(lambda: calls.append(1))
    with ThreadPoolExecutor(8) as threads:
        reports = list(threads.map(lambda _: katax.shutdown(), range(8)))

    assert calls == [1]
    assert len({id(report) for report in reports}) == 1


def test_after_the_shutdown_nothing_is_opened(tmp_path: Path) -> None:
    katax = Katax("local")
    database = katax.database("x", connection="sqlite:///a.db")
    katax.shutdown()

    with pytest.raises(Unavailable) as caught:
        katax.database("x")
    assert "this container was shut down" in str(caught.value)
    with pytest.raises(PoolClosed):
        database.query("select 1")


def test_a_failing_hook_stops_nothing(tmp_path: Path) -> None:
    katax = Katax("local")
    database = katax.database("x", connection="sqlite:///a.db")

    @katax.on_shutdown
    def broken() -> None:
        raise ValueError("boom")

    report = katax.shutdown()

    assert database.closed
    assert str(report).endswith("hook broken failed: ValueError: boom")


def test_work_in_progress_is_waited_for_and_named_when_it_takes_too_long(
    tmp_path: Path, engine: Target
) -> None:
    katax = Katax("local")
    database = katax.database("x", connection=patient(engine.url))
    leased, free = threading.Event(), threading.Event()

    def work(_connection: object, _seconds: float | None) -> None:
        leased.set()
        free.wait(60)

    def hold() -> None:
        database.ask(work, safety=Safety.READ, doing="holding")

    holder = threading.Thread(target=hold, name="holder", daemon=True)
    holder.start()
    leased.wait()

    # A shutdown as short as this has but a moment to say it, too little for a busy machine.
    *_, databases = katax.shutdown_stages()
    (step,) = databases()
    (left,) = step.call(0.3)
    free.set()

    assert left.startswith("x: a ")
    assert left.endswith(("of thread holder", "by thread holder"))


def test_repr_names_what_is_open_and_no_secret(katax: Katax) -> None:
    katax.database("x", connection="postgresql://u:s3cr3t@h/d")

    assert repr(katax) == "<Katax 'local': x>"


class TestReporting:
    def test_a_program_takes_part_until_its_shutdown(self, tmp_path: Path) -> None:
        katax = Katax("local")
        database = katax.database("x", connection="sqlite:///a.db")
        database.query("select 1")

        katax.report("app")
        katax.report("again")

        with StateStore(katax.profile) as store:
            until(lambda: [each.kind for each in store.processes()] == ["app"])
            until(lambda: [each.connection for each in store.pool_samples(since=0)] == ["x"])
            # A busy machine has slow statements to tell of, too.
            assert {"traffic"} <= {each.part for each in store.reports()} <= {"traffic", "slow"}
            decide(store, "main", "trip", reason="new disks")
            katax.database("main")
            until(lambda: katax.database("main").guard.breaker.is_open())

            assert katax.shutdown().clean
            until(lambda: store.processes() == [])

    def test_it_ends_before_the_databases_do(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(reporter_module, "STOP_SECONDS", 60.0)
        katax = Katax("local")
        database = katax.database("x", connection="sqlite:///a.db")
        katax.report("app")
        reporter = katax._reporter
        assert reporter is not None
        seen: list[bool] = []
        reporter.tell("seen", lambda: seen.append(database.closed) or [])  # type: ignore[func-returns-value]

        katax.shutdown()

        assert seen
        assert not any(seen)

    def test_after_the_shutdown_it_is_too_late(self, tmp_path: Path) -> None:
        katax = Katax("local")
        katax.shutdown()

        with pytest.raises(Unavailable, match="this container was shut down"):
            katax.report("app")

    def test_without_a_state_database_nothing_is_amiss(self, closed_port: int, tmp_path: Path) -> None:
        urls = {"main": "sqlite:///a.db", "state": f"postgresql://127.0.0.1:{closed_port}/x"}
        with Katax(profile(tmp_path, urls, extra='[state]\nurl = "state"\n')) as katax:
            katax.report("app")
            assert katax.database("main").query("select 1 as a") == [{"a": 1}]

    def test_its_socket_servers_are_told_too(self, tmp_path: Path) -> None:
        with Katax("local") as katax, StateStore(katax.profile) as store:
            katax.report("app")
            katax.socket("news", port=0)
            assert katax._reporter is not None
            katax._reporter.changed("x", "closed", "open")  # so that it reports at once

            def sockets() -> list[str]:
                return [
                    row["name"] for each in store.reports() if each.part == "sockets" for row in each.rows
                ]

            until(lambda: sockets() == ["news"])
