"""Creating and dropping the database of a connection, as a command on real servers."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.cli.harness import Done, katax, write_profile
from tests.servers.fixtures import MakeFresh, Target
from tests.services.connections import open_database
from tests.waiting import SECONDS

ODD = "katax_life%20%22%60%27%20x"


@pytest.fixture
def elsewhere(sql_engine: Target, tmp_path: Path) -> str:
    """The URL of a database that is not there, with a name that needs quoting."""
    if sql_engine.engine == "sqlite":
        return f"sqlite:///{tmp_path}/katax life.db"
    return f"{sql_engine.url.rpartition('/')[0]}/{ODD}"


def json(*words: str) -> Done:
    return katax("db", *words, "-f", "json")


def test_a_database_lives_from_create_to_drop(sql_engine: Target, elsewhere: str, tmp_path: Path) -> None:
    write_profile(tmp_path, {"main": elsewhere})
    name = f"{tmp_path}/katax life.db" if sql_engine.engine == "sqlite" else "katax_life \"`' x"

    planned = json("create", "--dry-run")
    created, again = json("create"), json("create")
    katax("db", "exec", "CREATE TABLE kept (id int)")
    previewed, refused = json("drop", "--dry-run"), katax("db", "drop")
    dropped, none_left = json("drop", "-y"), json("drop", "-y")

    assert (planned.code, planned.json) == (0, {"database": name, "created": True, "dry_run": True})
    assert (created.code, created.json) == (0, {"database": name, "created": True})
    assert (again.code, again.json) == (0, {"database": name, "created": False})
    assert (previewed.code, previewed.json) == (0, {"database": name, "dropped": True, "dry_run": True})
    assert refused.code == 4
    assert "needs confirmation" in refused.err
    assert "table" in refused.err.splitlines()[0]
    assert (dropped.code, dropped.json) == (0, {"database": name, "dropped": True})
    assert (none_left.code, none_left.json) == (0, {"database": name, "dropped": False})
    assert f"there is no database {name!r}" in katax("db", "drop", "-y").err


def test_on_prod_drop_needs_the_name_and_a_frozen_one_is_left_alone(
    sql_engine: Target, elsewhere: str, tmp_path: Path
) -> None:
    write_profile(tmp_path, {"main": elsewhere}, role="prod")
    assert katax("db", "create").code == 0
    assert katax("db", "drop", "-y").code == 4
    write_profile(tmp_path, {"main": elsewhere}, role="frozen")
    assert (katax("db", "create").code, katax("db", "drop", "--confirm", "test/main").code) == (4, 4)
    write_profile(tmp_path, {"main": elsewhere}, role="prod")
    assert katax("db", "ping").code == 0
    assert katax("db", "drop", "--confirm", "test/main").code == 0


def test_of_many_that_create_at_once_none_fails(elsewhere: str, tmp_path: Path) -> None:
    write_profile(tmp_path, {"main": elsewhere})

    with ThreadPoolExecutor(6) as threads:
        done = list(threads.map(lambda _: json("create"), range(6)))

    assert {one.code for one in done} == {0}, [one.err for one in done]
    assert json("drop", "-y").json["dropped"] is True


def test_what_is_in_use_is_not_dropped(fresh: MakeFresh, tmp_path: Path) -> None:
    for target in (fresh("postgresql"), fresh("sqlite")):
        with open_database(target.url) as database, database.session(timeout=10 * SECONDS) as session:
            session.run("CREATE TABLE kept (id int)")
            write_profile(tmp_path, {"main": target.url})
            done = katax("db", "drop", "-y")
            assert done.code != 0, target.engine
            assert session.run("SELECT count(*) FROM kept").rows == [(0,)]
        assert katax("db", "query", "SELECT * FROM kept").code == 0


def test_what_is_no_database_of_ours_is_refused(
    fresh: MakeFresh, tmp_path: Path, mongodb_url: str, redis_url: str
) -> None:
    for engine, name in (("postgresql", "template1"), ("postgresql", "postgres"), ("mysql", "MySQL")):
        write_profile(tmp_path, {"main": f"{fresh(engine).url.rpartition('/')[0]}/{name}"})
        assert katax("db", "drop", "-y").code == 4, name
    write_profile(tmp_path, {"main": mongodb_url, "cache": redis_url})
    for connection in ("main", "cache"):
        for command in ("create", "drop"):
            done = katax("db", command, "-y", "-c", connection)
            assert (done.code, "works on postgresql, mysql, sqlite" in done.err) == (2, True)
    letter = tmp_path / "letter.db"
    letter.write_text("Dear database, " * 1000)
    write_profile(tmp_path, {"main": f"sqlite:///{letter}"})
    assert katax("db", "drop", "-y").code != 0
    assert letter.exists()
