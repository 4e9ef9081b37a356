"""`katax lock`: programs under locks of Redis, PostgreSQL and MySQL, and what becomes of them (promise 16)."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest
import redis as driver

from katax_cli.services.locks.sql_lock import SqlBackend
from katax_cli.services.migrate.migrator import Migrator
from tests.cli.harness import katax, write_profile
from tests.servers import Server
from tests.servers.fixtures import MakeFresh, Target, Throwaway
from tests.services.connections import open_database
from tests.waiting import until

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def redis(redis_url: str, tmp_path: Path) -> driver.Redis:
    write_profile(tmp_path, {"cache": redis_url})
    return driver.Redis.from_url(redis_url)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts `katax WORDS…` as a process of its own."""
    running: list[subprocess.Popen[str]] = []

    def run(*words: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "katax_cli", *words], cwd=tmp_path, stderr=subprocess.PIPE, text=True
        )
        running.append(process)
        return process

    yield run
    for process in running:
        with suppress(ProcessLookupError):
            process.send_signal(signal.SIGCONT)
        process.kill()
        process.communicate()


def text(path: Path) -> str:
    return path.read_text() if path.exists() else ""


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False


def test_the_program_runs_with_its_token_and_its_status(redis: driver.Redis, tmp_path: Path) -> None:
    words = ["lock", "run", "job", "--", "sh", "-c", 'echo "$KATAX_LOCK_TOKEN" >> tokens; exit 7']
    assert [katax(*words).code, katax(*words).code] == [7, 7]
    tokens = [int(token) for token in text(tmp_path / "tokens").split()]
    assert tokens == sorted(set(tokens))
    assert redis.exists("lock:job") == 0


def test_a_file_that_cannot_be_executed_is_one_line(redis: driver.Redis, tmp_path: Path) -> None:
    script = tmp_path / "no-shebang"
    script.write_text("echo hi\n")
    script.chmod(0o755)

    done = katax("lock", "run", "a", "--", str(script))

    reason = f"katax: cannot run '{script}': Exec format error; a script begins with #! and its interpreter\n"
    assert (done.code, done.err) == (2, reason)
    assert katax("lock", "run", "a", "--", "true").code == 0


def test_a_signal_that_ends_the_program_is_its_status(redis: driver.Redis) -> None:
    assert katax("lock", "run", "job", "--", "sh", "-c", "kill -KILL $$").code == 137


def test_a_held_lock_is_told_and_the_program_does_not_run(redis: driver.Redis, tmp_path: Path) -> None:
    redis.set("lock:job", "1")
    done = katax("lock", "run", "job", "--wait", "100ms", "--", "touch", "ran")
    assert done.code == 5
    assert done.err == "katax: lock 'job' is held by an unknown holder\n"
    assert not (tmp_path / "ran").exists()


def test_waiting_gets_it_when_it_is_free(redis: driver.Redis, start: Start, tmp_path: Path) -> None:
    first = start("lock", "run", "job", "--", "sh", "-c", "touch in; while [ ! -e go ]; do sleep 0.01; done")
    until((tmp_path / "in").exists)
    second = start("lock", "run", "job", "--wait", "1m", "--", "touch", "second")
    time.sleep(0.2)
    assert not (tmp_path / "second").exists()
    (tmp_path / "go").touch()
    assert (first.wait(), second.wait()) == (0, 0)
    assert (tmp_path / "second").exists()


WRITER = 'echo $$ > pid; echo "$KATAX_LOCK_TOKEN" > token; while true; do echo x >> work; sleep 0.02; done'


def test_a_holder_that_slept_through_its_ttl_is_stopped_and_the_next_has_a_higher_token(
    redis: driver.Redis, start: Start, tmp_path: Path
) -> None:
    first = start("lock", "run", "job", "--ttl", "5s", "--", "sh", "-c", WRITER)
    until(lambda: text(tmp_path / "work"))
    token, program = int(text(tmp_path / "token")), int(text(tmp_path / "pid"))
    first.send_signal(signal.SIGSTOP)
    redis.delete("lock:job")  # as at the end of its ttl

    second = start("lock", "run", "job", "--", "sh", "-c", 'echo "$KATAX_LOCK_TOKEN" > second; sleep 100')
    until(lambda: text(tmp_path / "second").strip())
    assert int(text(tmp_path / "second")) > token
    assert alive(program)  # only the token protects against it: katax itself is stopped
    first.send_signal(signal.SIGCONT)

    assert first.wait() == 6
    assert not alive(program)
    assert first.stderr is not None
    assert first.stderr.read().splitlines() == [
        "lock 'job' was lost: it expired, or it was released by force; stopping the command",
        "katax: lock 'job' was lost: it expired, or it was released by force",
    ]
    assert second.poll() is None
    held = driver.Redis.from_pool(redis.connection_pool).get("lock:job")
    assert held is not None


def test_a_program_that_ignores_everything_is_killed_with_its_children(
    redis: driver.Redis, start: Start, tmp_path: Path
) -> None:
    """Bad twin: without the loss it goes on, as it does until the lock is released."""
    stubborn = 'trap "" TERM INT HUP; (while true; do sleep 0.05; echo x >> child; done) & '
    holder = start("lock", "run", "job", "--ttl", "5s", "--", "sh", "-c", stubborn + WRITER)
    until(lambda: text(tmp_path / "work") and text(tmp_path / "child"))
    size = (tmp_path / "child").stat().st_size
    until(lambda: (tmp_path / "child").stat().st_size > size)
    assert holder.poll() is None

    assert katax("lock", "release", "job").code == 0
    assert holder.wait() == 6
    sizes = [(tmp_path / name).stat().st_size for name in ("work", "child")]
    time.sleep(0.3)
    assert [(tmp_path / name).stat().st_size for name in ("work", "child")] == sizes


def test_killing_katax_does_not_leave_the_program(redis: driver.Redis, start: Start, tmp_path: Path) -> None:
    """Nor its children, nor what they were started by."""
    child = "(echo x > child; while true; do sleep 0.05; echo x >> child; done) & "
    holder = start("lock", "run", "job", "--", "sh", "-c", child + WRITER)
    until(lambda: text(tmp_path / "work") and text(tmp_path / "child"))
    holder.kill()
    until(lambda: not alive(int(text(tmp_path / "pid"))))
    size = -1
    while (now := (tmp_path / "child").stat().st_size) != size:
        size = now
        time.sleep(0.3)


def test_terminating_katax_ends_the_program_and_frees_the_lock(
    redis: driver.Redis, start: Start, tmp_path: Path
) -> None:
    holder = start("lock", "run", "job", "--", "sh", "-c", 'trap "echo bye > bye; exit 0" TERM; ' + WRITER)
    until(lambda: text(tmp_path / "work"))
    holder.terminate()
    assert holder.wait() == 143
    assert text(tmp_path / "bye") == "bye\n"
    assert not redis.exists("lock:job")


def test_the_maximum_ends_what_takes_too_long(redis: driver.Redis, tmp_path: Path) -> None:
    done = katax("lock", "run", "job", "--ttl", "1m", "--max", "300ms", "--", "sh", "-c", WRITER)
    assert done.code == 6
    assert "it was held for its maximum of 0.3 s" in done.err


def test_no_such_program_takes_no_lock_with_it(redis: driver.Redis) -> None:
    done = katax("lock", "run", "job", "--", "no-such-program")
    assert (done.code, done.err) == (
        2,
        "katax: cannot run 'no-such-program': no such program; name another\n",
    )
    assert not redis.exists("lock:job")


def test_ls_and_release(redis: driver.Redis, start: Start, tmp_path: Path) -> None:
    holder = start("lock", "run", "a", "--", "sh", "-c", WRITER)
    until(lambda: text(tmp_path / "work"))
    (row,) = katax("lock", "ls", "-f", "json").json
    assert list(row) == ["name", "token", "host", "pid", "acquired_at", "ttl_seconds", "session"]
    assert [each["token"] for each in katax("lock", "ls", "a", "b", "-f", "json").json] == [row["token"]]
    assert katax("lock", "ls", "b", "-f", "json").json == []
    assert (row["name"], row["token"], row["pid"]) == ("a", int(text(tmp_path / "token")), holder.pid)
    assert katax("lock", "release", "a", "--dry-run").code == 0
    assert katax("lock", "release", "a", "-f", "json").json == {"lock": "a", "released": True}
    assert katax("lock", "release", "a").code == 1
    assert katax("lock", "ls", "-f", "json").json == []


LONG = "nightly /* report */ of a region whose name is longer than what an application_name has room for"


@pytest.fixture(params=["postgresql", "mysql"])
def listing(request: pytest.FixtureRequest, throwaway: Throwaway, fresh: MakeFresh, tmp_path: Path) -> Target:
    """A profile whose connection `main` lists its locks: MariaDB by its performance schema, off by default."""
    schema = {"performance_schema": "ON"}
    target = fresh(
        throwaway("mysql", settings=schema) if request.param == "mysql" else fresh("postgresql").server
    )
    write_profile(tmp_path, {"main": target.url})
    return target


def listed(*words: str) -> list[dict[str, Any]]:
    return list(katax("lock", "ls", "-c", "main", *words, "-f", "json").json)


def test_ls_on_sql_shows_who_holds_what_and_since_when(listing: Target, start: Start, tmp_path: Path) -> None:
    before = datetime.now(UTC).replace(microsecond=0)
    names = ["Nightly report", LONG.replace("/*", "").replace("*/", "")]
    holders = {
        name: start("lock", "run", "-c", "main", name, "--ttl", "300ms", "--", "sh", "-c", WRITER)
        for name in names
    }
    # Of a long name there is but the beginning for a moment, between taking a lock and looking after it.
    until(lambda: [row["name"] for row in listed()] == names)
    rows = listed()
    time.sleep(1.1)  # renewed meanwhile: the lock is not younger for that

    assert [row["name"] for row in rows] == names
    assert [row["pid"] for row in rows] == [holders[name].pid for name in names]
    assert [(row["token"], row["ttl_seconds"]) for row in rows] == [(None, None)] * 2
    assert [row["host"] for row in rows] == [socket.gethostname()[:20]] * 2
    assert all(before <= datetime.fromisoformat(row["acquired_at"]) <= datetime.now(UTC) for row in rows)
    assert listed() == rows
    assert listed(names[1], "nobody's") == rows[1:]
    holders[names[0]].terminate()
    holders[names[0]].wait()
    assert listed() == rows[1:]


def test_ls_leaves_out_migrations_and_what_is_not_held_any_more(listing: Target, tmp_path: Path) -> None:
    with open_database(listing.url) as database:
        backend = SqlBackend(database)
        backend.acquire("job", 30.0)
        assert [row["name"] for row in listed()] == ["job"]
        backend.release()
        (tmp_path / "migrations").mkdir()
        with Migrator(database, str(tmp_path / "migrations")).locked():
            assert listed() == []
        backend.close()


def test_a_name_that_another_role_cannot_see_whole_is_cut(
    fresh: MakeFresh, postgresql: Server, start: Start, tmp_path: Path
) -> None:
    target = fresh("postgresql")
    role = f"role_{target.url.rpartition('/')[2]}"
    with psycopg.connect(postgresql.url, autocommit=True) as admin:
        admin.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'other'".encode())
        try:
            other = urlsplit(target.url)
            other = other._replace(netloc=f"{role}:other@{other.hostname}:{other.port}")
            write_profile(tmp_path, {"main": target.url, "other": other.geturl()})
            start("lock", "run", "-c", "main", LONG, "--", "sh", "-c", WRITER)
            until(lambda: text(tmp_path / "work"))
            (row,) = katax("lock", "ls", "-c", "other", "-f", "json").json
            assert row["name"][-1] == "\N{HORIZONTAL ELLIPSIS}"
            assert LONG.startswith(row["name"][:-1])
            (whole,) = katax("lock", "ls", LONG, "-c", "other", "-f", "json").json
            assert whole == row | {"name": LONG}
        finally:
            admin.execute(f"DROP ROLE {role}".encode())


def test_a_server_that_keeps_no_list_wants_names(
    mariadb: Server, fresh: MakeFresh, start: Start, tmp_path: Path
) -> None:
    write_profile(tmp_path, {"main": fresh(mariadb).url})
    holder = start("lock", "run", "-c", "main", "job", "--", "sh", "-c", WRITER)
    until(lambda: text(tmp_path / "work"))

    done = katax("lock", "ls", "-c", "main")
    assert (done.code, done.err) == (
        2,
        "katax: 'main' lists no locks (its performance_schema is off, or not for this user); "
        "name them: katax lock ls NAME\n",
    )
    (row,) = listed("job", "other")
    assert (row["name"], row["pid"], bool(row["host"]), int(row["session"]) > 0) == ("job", None, True, True)
    holder.terminate()
    holder.wait()
    assert listed("job") == []


def test_ls_on_several_says_of_which(
    redis_url: str, postgresql_url: str, start: Start, tmp_path: Path
) -> None:
    write_profile(tmp_path, {"one": redis_url, "two": postgresql_url, "file": "sqlite:///x.db"})
    for name in ("one", "two"):
        start("lock", "run", "-c", name, "job", "--", "sh", "-c", f"touch {name}; sleep 100")
    until(lambda: (tmp_path / "one").exists() and (tmp_path / "two").exists())
    done = katax("lock", "ls", "-c", "*", "-f", "json")
    assert (done.code, [(row["connection"], row["name"]) for row in done.json]) == (
        0,
        [("one", "job"), ("two", "job")],
    )


def test_releasing_on_production_wants_a_yes(redis_url: str, tmp_path: Path) -> None:
    write_profile(tmp_path, {"cache": redis_url}, role="prod")
    assert katax("lock", "release", "a").code == 4
    assert katax("lock", "release", "a", "-y").code == 1


@pytest.fixture(params=["postgresql", "mysql"])
def sql(request: pytest.FixtureRequest, fresh: MakeFresh, tmp_path: Path) -> str:
    """A profile whose connection `main` has locks of its own."""
    write_profile(tmp_path, {"main": fresh(request.param).url})
    return str(request.param)


def test_sql_locks_work_under_the_same_verb(sql: str, start: Start, tmp_path: Path) -> None:
    words = ["lock", "run", "-c", "main", "job"]
    holder = start(*words, "--", "sh", "-c", WRITER)
    until(lambda: text(tmp_path / "work"))
    token = int(text(tmp_path / "token"))

    done = katax(*words, "--", "true")
    assert done.code == 5
    assert "lock 'job' is held by " in done.err
    assert katax("lock", "run", "-c", "main", "other", "--", "true").code == 0

    holder.terminate()
    assert holder.wait() == 143
    assert katax(*words, "--", "sh", "-c", f"test $KATAX_LOCK_TOKEN -gt {token}").code == 0


def test_a_session_that_is_ended_stops_the_program(sql: str, start: Start, tmp_path: Path) -> None:
    words = ["lock", "run", "-c", "main", "job", "--ttl", "3s"]
    holder = start(*words, "--", "sh", "-c", WRITER)
    until(lambda: text(tmp_path / "work"))
    program = int(text(tmp_path / "pid"))
    assert katax("lock", "release", "-c", "main", "job").code == 0
    assert holder.wait() == 6
    assert not alive(program)
    # The server may tell a session of its end before it has let go of its locks.
    until(lambda: katax("lock", "release", "-c", "main", "job").code == 1)


def test_an_engine_without_locks_is_told(tmp_path: Path) -> None:
    write_profile(tmp_path, {"main": "sqlite:///x.db"})
    done = katax("lock", "run", "-c", "main", "job", "--", "true")
    assert (done.code, done.err) == (
        2,
        "katax: sqlite has no locks; 'lock run' works on redis, postgresql, mysql\n",
    )


def test_behind_a_pooler_a_lock_takes_the_direct_way(
    postgresql_url: str, pgbouncer_url: str, tmp_path: Path
) -> None:
    file = write_profile(tmp_path, {"main": pgbouncer_url})
    pooled = file.read_text() + 'pooler = "transaction"\n'
    file.write_text(pooled)
    done = katax("lock", "run", "-c", "main", "job", "--", "true")
    assert done.code == 2
    assert done.err == (
        "katax: 'main' is behind a pooler, where a lock has no session to live in; set its direct_url\n"
    )
    file.write_text(pooled + f'direct_url = "{postgresql_url}"\n')
    assert katax("lock", "run", "-c", "main", "job", "--", "true").code == 0


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--ttl", "0"], "expected more than 0 seconds"),
        (["--ttl", "10ms"], "ttl is 0.01 s, expected at least 0.1"),
        (["--wait", "soon"], "'soon' is no duration"),
    ],
)
def test_bad_input_is_usage(redis: driver.Redis, words: list[str], told: str) -> None:
    done = katax("lock", "run", "job", *words, "--", "true")
    assert done.code == 2
    assert told in done.err
