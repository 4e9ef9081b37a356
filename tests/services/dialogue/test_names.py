"""Names for completion: bounded, from the server, and never waited for longer than half a second."""

from pathlib import Path

from katax_cli.services.dialogue.names import MOST, RememberedNames
from katax_cli.services.runtime.runtime import Runtime
from tests.servers.fixtures import MakeProxy, Target
from tests.services.profiles import profile
from tests.waiting import until


def test_tables_and_columns_are_remembered_until_forgotten(sql_engine: Target, tmp_path: Path) -> None:
    with Runtime(profile(tmp_path, {"main": sql_engine.url})) as runtime:
        database = runtime.sql(runtime.profile.connection("main"))
        database.execute("create table one (a int, b int)")
        names = RememberedNames(database)

        until(lambda: names.tables() == ["one"])
        until(lambda: names.columns("one") == ["a", "b"])
        database.execute("create table two (a int)")
        assert names.tables() == ["one"]
        names.forget()
        until(lambda: names.tables() == ["one", "two"])
        until(lambda: names.columns("nosuch") == [])


def test_some_keys_of_many(redis_url: str, tmp_path: Path) -> None:
    with Runtime(profile(tmp_path, {"main": redis_url})) as runtime:
        database = runtime.redis(runtime.profile.connection("main"))
        database.pipeline([("SET", f"user:{number}", "1") for number in range(3000)])
        database.redis("SET", "own*", "1")
        names = RememberedNames(database)

        until(lambda: len(names.keys("user:")) == MOST)
        until(lambda: names.keys("own*") == ["own*"])
        until(lambda: "GET" in names.commands())


def test_a_server_that_is_silent_is_no_longer_waited_for(
    postgresql_url: str, proxy: MakeProxy, tmp_path: Path
) -> None:
    """What comes later is there at the next time."""
    wire = proxy(postgresql_url)
    with Runtime(profile(tmp_path, {"main": wire.url})) as runtime:
        database = runtime.sql(runtime.profile.connection("main"))
        database.execute("create table one (a int)")
        names = RememberedNames(database)
        wire.stall()

        assert names.tables() == []
        wire.resume()

        def known() -> bool:
            names.forget()
            return names.tables() == ["one"]

        until(known)
