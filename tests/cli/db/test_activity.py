"""`katax db activity|blocking|cancel|terminate` beside sessions whose state is known."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest

from tests.cli.harness import Done, katax, write_profile
from tests.cli.processes import spawn
from tests.cli.terminal import at_terminal
from tests.waiting import until

SECRET = "hush-hush-word"


class Clients:
    """Sessions of PostgreSQL that run statements in threads; all end with the test."""

    def __init__(self, url: str, stack: ExitStack) -> None:
        self.url = url
        self._stack = stack

    def connect(self, url: str | None = None) -> psycopg.Connection[Any]:
        connection = psycopg.connect(url or self.url)
        self._stack.callback(connection.close)
        return connection

    def run(self, connection: psycopg.Connection[Any], sql: str) -> Callable[[], BaseException | None]:
        """Runs it in a thread; the result waits for its end and returns its error."""
        ended: list[BaseException | None] = []

        def execute() -> None:
            try:
                connection.execute(sql)
                ended.append(None)
            except psycopg.Error as error:
                ended.append(error)

        thread = Thread(target=execute, daemon=True)
        thread.start()

        def result() -> BaseException | None:
            thread.join(60)
            return ended[0]

        self._stack.callback(thread.join, 60)
        self._stack.callback(connection.cancel)
        return result


@pytest.fixture
def clients(postgresql_url: str, tmp_path: Path) -> Iterator[Clients]:
    write_profile(tmp_path, {"main": postgresql_url})
    with ExitStack() as stack:
        yield Clients(postgresql_url, stack)


def pid_of(connection: psycopg.Connection[Any]) -> int:
    return connection.info.backend_pid


def row_of(pid: int, *words: str) -> dict[str, Any]:
    done = katax("db", "activity", *words, "-f", "json")
    assert (done.code, done.err) == (0, "")
    return next((row for row in done.json if row["pid"] == pid), {})


def running(pid: int, *words: str) -> None:
    until(lambda: row_of(pid, *words).get("state") == "active")


def ended(done: Done) -> tuple[int, str]:
    return done.code, done.json["outcome"] if done.out else done.err


def test_what_a_session_does_without_its_values(clients: Clients) -> None:
    busy, idle = clients.connect(), clients.connect()
    idle.execute(f"select '{SECRET}'")
    cut_by_the_server = f"select '{SECRET}', pg_sleep(600), '{SECRET * 200}'"
    clients.run(busy, cut_by_the_server)
    running(pid_of(busy))

    row, idle_row = row_of(pid_of(busy)), row_of(pid_of(idle))
    assert row["statement"] == "select ?, pg_sleep(?), ?"
    assert row["database"] == urlsplit(clients.url).path[1:]
    assert row["age_seconds"] >= 0
    assert row["transaction_age_seconds"] >= row["age_seconds"]
    assert (idle_row["state"], idle_row["wait"]) == ("idle in transaction", None)
    for format in ("table", "csv", "json"):
        for command in ("activity", "blocking"):
            done = katax("db", command, "-f", format)
            assert SECRET not in done.out + done.err


def test_a_tree_of_waits_and_what_is_waited_for(clients: Clients) -> None:
    holder, second, third = (clients.connect() for _ in range(3))
    holder.execute("create table t (n int)")
    holder.execute("insert into t values (1)")
    holder.commit()
    assert katax("db", "blocking", "-f", "json").json == []
    holder.execute("update t set n = 2")
    clients.run(second, "update t set n = 3")
    until(lambda: len(katax("db", "blocking", "-f", "json").json) == 2)
    clients.run(third, "alter table t add m int")
    until(lambda: len(katax("db", "blocking", "-f", "json").json) == 3)

    rows = katax("db", "blocking", "-f", "json").json
    shape = [(row["pid"], row["level"], row["lock"]) for row in rows]
    assert shape == [
        (pid_of(holder), 0, None),
        (pid_of(second), 1, "a row of t"),
        (pid_of(third), 1, "AccessExclusiveLock on t"),
    ]
    assert rows[0]["state"] == "idle in transaction"
    assert rows[1]["blocked_by"] == [pid_of(holder)]
    assert rows[1]["waiting_seconds"] >= 0
    assert f"\n└ {pid_of(second)} " in katax("db", "blocking").out
    assert katax("db", "terminate", str(pid_of(holder))).code == 0
    until(lambda: pid_of(holder) not in [row["pid"] for row in katax("db", "blocking", "-f", "json").json])


def test_a_deadlock_of_three_is_said(clients: Clients) -> None:
    three = [clients.connect() for _ in range(3)]
    for number, connection in enumerate(three):
        connection.execute("set deadlock_timeout = '10min'")
        connection.execute("select pg_advisory_lock(%s)", [number])
    for number, connection in enumerate(three):
        clients.run(connection, f"select pg_advisory_lock({(number + 1) % 3})")
    until(lambda: len(katax("db", "blocking", "-f", "json").json) == 3)

    done = katax("db", "blocking")
    assert done.code == 0
    assert "wait for each other on 'main': a deadlock" in done.err
    assert all(str(pid_of(connection)) in done.err for connection in three)
    assert katax("db", "cancel", str(pid_of(three[0]))).code == 0


def test_a_statement_is_cancelled_and_its_session_goes_on(clients: Clients) -> None:
    client = clients.connect()
    client.autocommit = True
    result = clients.run(client, "select pg_sleep(600)")
    running(pid_of(client))

    done = katax("db", "cancel", str(pid_of(client)), "-f", "json")

    assert (done.code, done.json["outcome"], done.err) == (0, "cancelled", "")
    assert isinstance(result(), psycopg.errors.QueryCanceled)
    assert client.execute("select 1").fetchone() == (1,)
    idle = katax("db", "cancel", str(pid_of(client)))
    assert (idle.code, idle.out) == (1, "")
    assert "runs no statement (idle)" in idle.err


def test_a_session_is_terminated_and_a_second_time_it_is_not_there(clients: Clients) -> None:
    client = clients.connect()
    pid = str(pid_of(client))

    assert ended(katax("db", "terminate", pid, "-f", "json")) == (0, "terminated")
    gone = katax("db", "terminate", pid)
    assert (gone.code, gone.out) == (1, "")
    assert f"session {pid} of 'main' was not ended: there is no such session" in gone.err
    with pytest.raises(psycopg.OperationalError):
        client.execute("select 1")


def test_a_statement_that_does_not_obey_is_still_running(clients: Clients) -> None:
    """One that catches its cancellation."""
    client = clients.connect()
    caught = "begin perform pg_sleep(600); exception when query_canceled then null; end"
    stubborn = f"do $$ begin loop {caught}; end loop; end $$"
    clients.run(client, stubborn)
    running(pid_of(client))

    done = katax("db", "cancel", str(pid_of(client)), "--wait", "0", "-f", "json")
    assert (done.code, done.json["outcome"]) == (1, "still running")
    assert json.loads(done.err)["error"]["code"] == "session_not_ended"
    assert row_of(pid_of(client))["state"] == "active"
    until(lambda: katax("db", "terminate", str(pid_of(client))).code in (0, 1))
    until(lambda: not row_of(pid_of(client)))


def test_words_that_nearly_are_a_pid(clients: Clients) -> None:
    pid = str(pid_of(clients.connect()))
    for word in (f"{pid}x", f" {pid}", f"+{pid}", f"{pid}.0", f"0x{pid}", "", "٣", "-5", "1_0", "9" * 30):
        done = katax("db", "terminate", word)
        assert (done.code, done.out) == (2, ""), (word, done.err)
        assert "is no pid; 'katax db activity' lists them" in done.err
    for word in (f"0{pid}", "0", "99999999999999999999", "2147483648"):
        assert katax("db", "terminate", word).code == 1, word
    assert row_of(int(pid))["state"] == "idle"


def test_roles_ask_and_nothing_happens_without_an_answer(clients: Clients, tmp_path: Path) -> None:
    client = clients.connect()
    pid = str(pid_of(client))
    write_profile(tmp_path, {"main": clients.url}, role="prod")
    assert katax("db", "terminate", pid).code == 4
    no = at_terminal("db", "terminate", pid, typed="n")
    assert no.code == 4
    assert f"terminate session {pid} (" in no.err
    assert katax("db", "terminate", pid, "--dry-run", "--yes").code == 0
    write_profile(tmp_path, {"main": clients.url}, role="frozen")
    assert katax("db", "terminate", pid, "--yes").code == 4
    assert row_of(int(pid))["state"] == "idle"
    write_profile(tmp_path, {"main": clients.url}, role="prod")
    assert at_terminal("db", "terminate", pid, typed="y").code == 0


@pytest.fixture
def roles(clients: Clients) -> Iterator[dict[str, str]]:
    """URLs of two plain users, one of whom may end what others run."""
    parts = urlsplit(clients.url)
    names = {kind: f"{kind}_{parts.path[1:]}" for kind in ("plain", "signaller")}
    with psycopg.connect(clients.url, autocommit=True) as admin:
        for name in names.values():
            admin.execute(f"create role {name} login password 'plain'")
        admin.execute(f"grant pg_signal_backend to {names['signaller']}")
        at = clients.url.rpartition("@")[2]
        yield {kind: f"postgresql://{name}:plain@{at}" for kind, name in names.items()}
        for name in names.values():
            admin.execute(
                f"select pg_terminate_backend(pid, 60000) from pg_stat_activity where usename = '{name}'"
            )
            admin.execute(f"drop role {name}")


def test_a_plain_user_is_told_what_stays_hidden(
    clients: Clients, roles: dict[str, str], tmp_path: Path
) -> None:
    admins, theirs = clients.connect(), clients.connect(roles["plain"])
    write_profile(tmp_path, {"main": roles["signaller"]})
    row = row_of(pid_of(admins))
    assert (row["state"], row["statement"], row["age_seconds"]) == ("hidden", None, None)
    assert row["user"] == urlsplit(clients.url).username
    assert "GRANT pg_read_all_stats" in katax("db", "activity").err
    assert katax("db", "metrics", "-f", "json").json["connections"]["total"] >= 3

    refused = katax("db", "terminate", str(pid_of(admins)))
    assert (refused.code, refused.out) == (1, "")
    assert "42501" in refused.err

    clients.run(theirs, "select pg_sleep(600)")
    write_profile(tmp_path, {"all": clients.url, "main": roles["signaller"]})
    running(pid_of(theirs), "-c", "all")
    unknown = katax("db", "cancel", str(pid_of(theirs)), "-f", "json")
    assert (unknown.code, unknown.json["outcome"]) == (6, "unknown")
    assert ended(katax("db", "terminate", str(pid_of(theirs)), "-f", "json")) == (0, "terminated")


def test_watching_gives_one_json_value_a_line_until_ctrl_c(clients: Clients) -> None:
    pid = pid_of(clients.connect())
    with spawn("db", "activity", "--watch", "--interval", "20ms", "-f", "json") as process:
        assert process.stdout
        looks = [json.loads(process.stdout.readline()) for _ in range(3)]
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=120)

    assert (process.returncode, err) == (130, b"")
    assert all(pid in [row["pid"] for row in look] for look in looks)


def test_a_terminal_says_which_connection_a_session_is_on(clients: Clients, tmp_path: Path) -> None:
    pid = pid_of(clients.connect())
    done = at_terminal("db", "activity", "-c", "mai*", typed=None, width=100)

    (line,) = (line for line in done.out.splitlines() if str(pid) in line)
    assert line.startswith("main")
    assert done.out.splitlines()[0].split()[:2] == ["connection", "pid"]
