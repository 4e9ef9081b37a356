"""The sessions of MySQL and Redis as `katax db` shows and ends them; PostgreSQL's: tests/cli/db/test_activity.py."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import urlsplit

import pymysql
import pytest
import redis

from katax_cli.engines.mongodb.activity import listed
from tests.cli.harness import katax, write_profile
from tests.promises.witness import mysql_connection
from tests.waiting import until

SECRET = "hush-hush-word"

Row = dict[str, Any]


def rows(*words: str) -> list[Row]:
    done = katax("db", "activity", *words, "-f", "json")
    assert (done.code, done.err) == (0, "")
    assert SECRET not in done.out
    return list(done.json)


def row_of(pid: object) -> Row:
    return next((row for row in rows() if row["pid"] == pid), {})


def told(action: str, pid: object, *words: str) -> tuple[int, str]:
    done = katax("db", action, str(pid), "-f", "json", *words)
    return done.code, done.json["outcome"] if done.out else done.err


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as opened:
        yield opened


class MysqlClient:
    """A session, and a statement of it in a thread."""

    def __init__(self, url: str, stack: ExitStack) -> None:
        self.connection = stack.enter_context(mysql_connection(url))
        with self.connection.cursor() as cursor:
            cursor.execute("select connection_id()")
            [(self.id,)] = cursor.fetchall()

    def run(self, sql: str) -> Callable[[], BaseException | None]:
        ended: list[BaseException | None] = []

        def execute() -> None:
            try:
                with self.connection.cursor() as cursor:
                    cursor.execute(sql)
                ended.append(None)
            except pymysql.MySQLError as error:
                ended.append(error)

        thread = Thread(target=execute, daemon=True)
        thread.start()

        def result() -> BaseException | None:
            thread.join(60)
            return ended[0]

        return result


def test_mysql_shows_cancels_and_terminates(mysql_url: str, tmp_path: Path, stack: ExitStack) -> None:
    write_profile(tmp_path, {"main": mysql_url})
    client = MysqlClient(mysql_url, stack)
    result = client.run(f"select '{SECRET}', sleep(600)")
    until(lambda: row_of(client.id).get("wait") == "User sleep")

    row = row_of(client.id)
    assert (row["state"], row["statement"]) == ("active", "select ?, sleep(?)")
    assert row["database"] == urlsplit(mysql_url).path[1:]
    assert told("cancel", client.id) == (0, "cancelled")
    result()
    until(lambda: row_of(client.id)["state"] == "idle")
    code, message = told("cancel", client.id)
    assert code == 1
    assert "runs no statement (idle)" in message
    assert told("terminate", client.id) == (0, "terminated")
    code, message = told("terminate", client.id)
    assert code == 1
    assert "there is no such session" in message


def test_mysql_knows_who_waits_for_rows_and_says_where_it_does_not(
    mysql_url: str, tmp_path: Path, stack: ExitStack
) -> None:
    write_profile(tmp_path, {"main": mysql_url})
    holder, second, third = (MysqlClient(mysql_url, stack) for _ in range(3))
    for sql in ("create table t (n int primary key)", "insert into t values (1)", "commit"):
        assert holder.run(sql)() is None
    for sql in ("begin", "update t set n = 2"):
        assert holder.run(sql)() is None
    assert second.run("set innodb_lock_wait_timeout = 3600")() is None
    waits = second.run("update t set n = 3")

    seen: list[Row] = []

    def tree() -> list[Row]:
        """Those of this database: what the server does for others does not count."""
        seen[:] = [
            row
            for row in katax("db", "blocking", "-f", "json").json
            if row["database"] in (None, urlsplit(mysql_url).path[1:])
        ]
        return seen

    until(lambda: [row["pid"] for row in tree()] == [holder.id, second.id])
    top, below = seen
    until(lambda: row_of(holder.id)["state"] == "idle in transaction")
    assert (top["level"], top["blocked_by"]) == (0, [])
    assert (below["level"], below["blocked_by"]) == (1, [holder.id])
    assert below["lock"].endswith(f"lock on {urlsplit(mysql_url).path[1:]}.t")
    assert below["waiting_seconds"] >= 0

    alters = third.run("alter table t add column m int")
    until(lambda: third.id in [row["pid"] for row in tree()])
    waiting = next(row for row in seen if row["pid"] == third.id)
    assert (waiting["level"], waiting["lock"]) == (1, "Waiting for table metadata lock")
    assert "not told" in katax("db", "blocking").out
    assert told("terminate", holder.id) == (0, "terminated")
    assert waits() is None
    assert alters() is None


def test_mysql_as_a_plain_user_and_as_hosted(mysql_url: str, tmp_path: Path, stack: ExitStack) -> None:
    """A user without rights sees and ends its own sessions; others by the procedures of RDS, where there are such."""
    parts = urlsplit(mysql_url)
    name = f"plain_{parts.path[1:]}"[-30:]
    theirs = MysqlClient(mysql_url, stack)
    admin = stack.enter_context(mysql_connection(mysql_url)).cursor()
    stack.callback(admin.execute, f"drop user {name}")
    admin.execute(f"create user {name} identified by 'plain'")
    admin.execute(f"grant all on {parts.path[1:]}.* to {name}")
    plain_url = f"mysql://{name}:plain@{parts.hostname}:{parts.port}{parts.path}"
    write_profile(tmp_path, {"main": plain_url})
    own = MysqlClient(plain_url, stack)

    seen = rows()
    assert {row["user"] for row in seen} == {name, None}
    assert [row["state"] for row in seen if row["pid"] is None] == ["hidden"]
    assert "GRANT PROCESS" in katax("db", "activity").err
    blind = katax("db", "blocking")
    assert (blind.code, blind.out) == (2, "")
    assert "GRANT PROCESS" in blind.err
    code, message = told("terminate", theirs.id)
    assert code == 1
    assert "sessions of other users" in message
    assert told("terminate", own.id) == (0, "terminated")

    admin.execute(f"grant process on *.* to {name}")
    code, message = told("terminate", theirs.id)
    assert code == 1, message
    assert "1095" in message
    stack.callback(admin.execute, "drop procedure mysql.rds_kill")
    admin.execute("create procedure mysql.rds_kill(thread bigint) kill thread")
    admin.execute(f"grant execute on procedure mysql.rds_kill to {name}")
    assert told("terminate", theirs.id) == (0, "terminated")


def test_redis_shows_cancels_and_terminates(redis_url: str, tmp_path: Path, stack: ExitStack) -> None:
    write_profile(tmp_path, {"main": redis_url})
    client = stack.enter_context(redis.Redis.from_url(redis_url, single_connection_client=True))
    client.set(SECRET, SECRET)
    pid = str(client.client_id())
    row = row_of(pid)
    assert (row["state"], row["host"]) == ("idle", "127.0.0.1")
    code, message = told("cancel", pid)
    assert code == 1
    assert "runs no statement (idle)" in message

    errors: list[BaseException] = []

    def blocked() -> None:
        try:
            client.blpop([SECRET + "-list"], timeout=0)
        except redis.RedisError as error:
            errors.append(error)

    thread = Thread(target=blocked, daemon=True)
    thread.start()
    until(lambda: row_of(pid)["state"] == "blocked")
    assert row_of(pid)["statement"] == "BLPOP"
    assert told("cancel", pid) == (0, "cancelled")
    thread.join(60)
    assert "UNBLOCKED" in str(errors[0])

    assert told("terminate", pid) == (0, "terminated")
    code, message = told("terminate", pid)
    assert code == 1
    assert "there is no such session" in message
    refused = katax("db", "blocking")
    assert refused.code == 2
    assert "redis has no locks between sessions; 'db blocking' works on postgresql, mysql" in refused.err


def test_mongodb_lists_operations_and_open_transactions() -> None:
    """As its manual shows what currentOp answers; the values of a command stay out."""
    question = {
        "opid": 9,
        "active": True,
        "client": "10.0.0.7:5",
        "op": "command",
        "command": {"currentOp": 1},
    }
    busy = {
        "opid": 12,
        "active": True,
        "client": "10.0.0.7:50000",
        "effectiveUsers": [{"user": "app", "db": "admin"}],
        "op": "query",
        "ns": "shop.orders",
        "command": {"find": "orders", "filter": {"card": SECRET}, "lsid": {"id": "x"}, "$db": "shop"},
        "microsecs_running": 2_500_000,
        "waitingForLock": True,
    }
    idle_connection = {"active": False, "client": "10.0.0.8:50001", "connectionId": 4}
    idle_transaction = {
        "type": "idleSession",
        "active": False,
        "client": "10.0.0.9:50002",
        "lsid": {"id": "0f8fad5b-d9cb-469f-a165-70867728950e", "uid": b""},
        "transaction": {"timeOpenMicros": 60_000_000},
    }
    of_a_shard = {**busy, "opid": "shard01:77", "waitingForLock": False, "microsecs_running": 1}
    internal = {"opid": 1, "active": True, "op": "none", "desc": "JournalFlusher"}

    sessions, own = listed([question, idle_connection, internal, idle_transaction, of_a_shard, busy])

    assert own == 9
    assert [(one.pid, one.state, one.work) for one in sessions] == [
        (12, "active", "12"),
        ("shard01:77", "active", "shard01:77"),
        ("0f8fad5b-d9cb-469f-a165-70867728950e", "idle in transaction", None),
        (None, "idle", None),
    ]
    assert sessions[0][1:9] == (
        "app",
        "10.0.0.7",
        "shop",
        "active",
        "lock",
        2.5,
        None,
        "query shop.orders {filter}",
    )
    assert sessions[2].transaction_age_seconds == 60.0


def test_a_server_that_only_speaks_mongodb_s_protocol_says_so(mongodb_url: str, tmp_path: Path) -> None:
    write_profile(tmp_path, {"main": mongodb_url})
    done = katax("db", "activity")
    said = "does not list its operations; only MongoDB's own server does" in done.err
    assert (done.code, said) in [(0, False), (2, True)], done.err
