"""What servers say of those who are connected: `look` and `fates`, beside a client whose state is known."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pymongo
import pytest
import redis

from katax_cli.engines import registry
from katax_cli.engines.sessions import Orphan, ServerLook, ServerSession
from katax_cli.errors import ConfigError
from katax_cli.profiles.load import load_profile
from tests.cli.harness import write_profile
from tests.promises.witness import mysql_connection
from tests.servers import Server
from tests.servers.fixtures import MakeFresh
from tests.waiting import until


@contextmanager
def asking(folder: Path, url: str) -> Iterator[tuple[Any, Any]]:
    """The module's object and a connection."""
    write_profile(folder, {"main": url})
    engine = registry.load(load_profile("test").connection("main"))
    connection = engine.connect(60.0)
    try:
        yield registry.part(engine, "sessions"), connection
    finally:
        engine.close(connection)


def the_one(look: ServerLook, port: int) -> ServerSession:
    (found,) = [session for session in look.sessions if session.port == port]
    return found


def when(look: Callable[[], ServerSession], is_so: Callable[[ServerSession], bool]) -> ServerSession:
    """Looks until it is so. InnoDB shows its transactions of up to 0.1 s ago, whoever of all clients asked then."""
    for _ in range(100):
        if is_so(seen := look()):
            return seen
        time.sleep(0.15)
    raise AssertionError(look())


def test_postgresql_says_what_a_session_holds(tmp_path: Path, postgresql_url: str) -> None:
    with (
        psycopg.connect(postgresql_url, application_name="shop") as client,
        asking(tmp_path, postgresql_url) as (sessions, connection),
    ):
        port = _port(client.pgconn.socket)
        client.execute("create table t (n int)")
        client.commit()
        client.execute("alter table t add column m int")
        client.execute("select pg_advisory_lock(7)")
        open_one = the_one(sessions.look(connection), port)
        fates = sessions.fates(connection, [str(open_one.work)])
        client.commit()
        closed = the_one(sessions.look(connection), port)

        assert open_one.name == "shop"
        assert open_one.in_transaction
        assert open_one.doing == "SELECT"
        assert "advisory lock" in open_one.locks
        assert "AccessExclusiveLock on t" in open_one.locks
        assert fates == {open_one.work: "in progress"}
        assert sessions.fates(connection, [str(open_one.work)]) == {open_one.work: "committed"}
        assert (closed.id, closed.in_transaction, closed.work) == (open_one.id, False, None)
        assert closed.locks == ("advisory lock",)


def test_postgresql_counts_sessions_that_were_dropped(tmp_path: Path, postgresql_url: str) -> None:
    with asking(tmp_path, postgresql_url) as (sessions, connection):
        before = sessions.look(connection).dropped
        psycopg.connect(postgresql_url).close()

        assert sessions.look(connection).dropped == before


def test_mysql_says_what_a_session_holds(tmp_path: Path, mysql_url: str) -> None:
    with (
        mysql_connection(mysql_url) as client,
        client.cursor() as cursor,
        asking(tmp_path, mysql_url) as (sessions, connection),
    ):
        cursor.execute("create table t (n int)")
        cursor.execute("begin")
        cursor.execute("insert into t values (1)")
        port = client._sock.getsockname()[1]  # type: ignore[attr-defined]
        # The answer to the INSERT comes before its end shows in the list.
        open_one = when(
            lambda: the_one(sessions.look(connection), port), lambda one: one.in_transaction and not one.busy
        )
        cursor.execute("commit")
        closed = when(lambda: the_one(sessions.look(connection), port), lambda one: not one.in_transaction)

        assert len(open_one.locks) == 1
        assert (closed.id, closed.in_transaction, closed.locks) == (open_one.id, False, ())


def test_mysql_knows_that_a_transaction_ended_well_as_long_as_none_was_rolled_back(
    tmp_path: Path, mysql_url: str
) -> None:
    with (
        mysql_connection(mysql_url) as client,
        client.cursor() as cursor,
        asking(tmp_path, mysql_url) as (sessions, connection),
    ):
        port = client._sock.getsockname()[1]  # type: ignore[attr-defined]
        cursor.execute("create table t (n int)")

        def fate_after(end: str) -> list[str]:
            cursor.execute("begin")
            cursor.execute("insert into t values (1)")
            work = when(
                lambda: the_one(sessions.look(connection), port), lambda one: one.work is not None
            ).work
            assert sessions.fates(connection, [work]) == {work: "in progress"}
            cursor.execute(end)
            when(lambda: the_one(sessions.look(connection), port), lambda one: not one.in_transaction)
            return list(sessions.fates(connection, [work]).values())

        # A session of an earlier test may end, and be rolled back, meanwhile.
        until(lambda: fate_after("commit") == ["committed"])
        assert fate_after("rollback") == []


def test_mysql_lists_prepared_transactions(tmp_path: Path, mysql_url: str) -> None:
    with (
        mysql_connection(mysql_url) as client,
        client.cursor() as cursor,
        asking(tmp_path, mysql_url) as (sessions, connection),
    ):
        cursor.execute("xa start 'drilled'")
        cursor.execute("xa end 'drilled'")
        cursor.execute("xa prepare 'drilled'")
        found = sessions.look(connection).orphans
        cursor.execute("xa rollback 'drilled'")

        assert Orphan("transaction", "drilled") in found
        assert Orphan("transaction", "drilled") not in sessions.look(connection).orphans


def test_redis_says_what_a_client_does(tmp_path: Path, redis_url: str) -> None:
    with (
        redis.Redis.from_url(redis_url, client_name="shop", single_connection_client=True) as client,
        asking(tmp_path, redis_url) as (sessions, connection),
    ):
        client.set("answer", 42)
        own = str(client.client_id())
        client.execute_command("MULTI")
        look = sessions.look(connection)
        client.execute_command("DISCARD")

        (found,) = [session for session in look.sessions if session.id.startswith(f"{own}@")]
        assert found.name == "shop"
        assert found.port is not None
        assert found.in_transaction
        assert found.doing == "MULTI"
        assert Orphan("key", "answer") in look.orphans


@pytest.mark.parametrize("engine", ["postgresql", "mysql", "redis"])
def test_the_asking_session_is_left_out(engine: str, tmp_path: Path, fresh: MakeFresh) -> None:
    with asking(tmp_path, fresh(engine).url) as (sessions, connection):
        first, second = sessions.look(connection), sessions.look(connection)

        own = own_id(engine, connection)
        seen = {each.id.partition("@")[0] for each in (*first.sessions, *second.sessions)}
        assert own not in seen


def own_id(engine: str, connection: Any) -> str:
    if engine == "postgresql":
        return str(connection.info.backend_pid)
    return str(connection.thread_id() if engine == "mysql" else connection.client_id())


def test_a_server_that_does_not_list_its_operations_says_so(tmp_path: Path, mongodb: Server) -> None:
    """What speaks MongoDB's protocol and leaves currentOp empty would look as if nothing were left."""
    with asking(tmp_path, mongodb.url) as (sessions, connection):
        seen, said = 0, ""
        try:
            seen = len(sessions.look(connection).sessions)
        except ConfigError as error:
            said = str(error)

        assert seen or said == "'main' does not list its operations; only MongoDB's own server does"


@pytest.mark.needs_mongod
def test_mongodb_says_what_a_client_does(tmp_path: Path, mongodb_url: str) -> None:
    client: pymongo.MongoClient[dict[str, object]] = pymongo.MongoClient(mongodb_url, appname="shop")
    with client, asking(tmp_path, mongodb_url) as (sessions, connection):
        client.get_default_database().command("ping")

        found = [each for each in sessions.look(connection).sessions if each.name == "shop"]
        assert found
        assert all(each.port and not each.in_transaction for each in found)


def _port(descriptor: int) -> int:
    with socket.socket(fileno=os.dup(descriptor)) as wire:
        return int(wire.getsockname()[1])


def test_transactions_that_run_side_by_side_keep_their_numbers(tmp_path: Path, postgresql_url: str) -> None:
    """Those begun behind the oldest that runs have numbers beyond the snapshot's xmax, and are of its epoch."""
    clients = [psycopg.connect(postgresql_url) for _ in range(4)]
    try:
        with asking(tmp_path, postgresql_url) as (sessions, connection):
            numbers = [client.execute("select txid_current()").fetchone() for client in clients]
            seen = [
                the_one(sessions.look(connection), _port(client.pgconn.socket)).work for client in clients
            ]
            assert seen == [str(number[0]) for number in numbers if number]
            for client in clients[:2]:
                client.commit()
            clients[2].rollback()
            assert sessions.fates(connection, seen) == {
                seen[0]: "committed",
                seen[1]: "committed",
                seen[2]: "aborted",
                seen[3]: "in progress",
            }
    finally:
        for client in clients:
            client.close()
