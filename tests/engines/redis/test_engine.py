"""The Redis engine against real servers, and against wires that break."""

import socket
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import pytest
from redis.exceptions import RedisError

from katax_cli.core.resilience.failure import FailureKind
from katax_cli.core.settings import ConnectionSettings, PoolSettings, Secret, TlsSettings
from katax_cli.engines import registry
from katax_cli.engines.base import KeyValueEngine, ReportsServer
from katax_cli.engines.redis import RedisEngine, create
from katax_cli.errors import ConfigError, PoolTimeout
from tests.engines.connections import settings_for
from tests.servers import Server
from tests.servers.certificates import Certificates
from tests.servers.fixtures import MakeProxy, Throwaway
from tests.waiting import at_last, until

Connect = Callable[[ConnectionSettings], tuple[RedisEngine, Any]]
settings_of = partial(settings_for, name="cache")


@pytest.fixture
def connect(connect: Callable[[RedisEngine], Any]) -> Connect:
    def open_one(settings: ConnectionSettings) -> tuple[RedisEngine, Any]:
        engine = create(settings)
        return engine, connect(engine)

    return open_one


def failure_of(engine: RedisEngine, call: Callable[[], object]) -> tuple[FailureKind, str]:
    with pytest.raises(Exception) as error:
        call()
    failure = engine.classify(error.value)
    return failure.kind, failure.message


def sent_chunks(proxied: Any) -> list[bytes]:
    """What clients of the proxy sent, chunk by chunk; grows."""
    chunks: list[bytes] = []
    proxied.on_client_bytes(chunks.append)
    return chunks


def test_the_registry_gives_an_engine_with_these_abilities(redis_url: str) -> None:
    engine = registry.load(settings_of(redis_url))
    assert engine.name == "redis"
    assert isinstance(engine, KeyValueEngine)
    assert isinstance(engine, ReportsServer)


def test_replies_are_as_the_server_sent_them(connect: Connect, redis_url: str) -> None:
    engine, client = connect(settings_of(redis_url))
    assert engine.command(client, "SET", "k", "v", timeout=60.0) == b"OK"
    assert engine.command(client, b"get", "k", timeout=60.0) == b"v"
    assert engine.command(client, "GET", "missing", timeout=60.0) is None
    assert engine.command(client, "INCRBYFLOAT", "f", 1.5, timeout=60.0) == b"1.5"
    assert engine.command(client, "HSET", "h", b"\xff", 1, timeout=60.0) == 1
    assert engine.command(client, "HGETALL", "h", timeout=60.0) == [b"\xff", b"1"]
    name, number = engine.command(client, "CONFIG GET", "databases", timeout=60.0)
    assert (name, number.isdigit()) == (b"databases", True)
    # The client itself converts, as its users expect.
    assert client.set("k", "w") is True
    assert client.hgetall("h") == {b"\xff": b"1"}


def test_connecting_takes_one_round_trip(proxy: MakeProxy, redis_url: str, connect: Connect) -> None:
    proxied = proxy(redis_url)
    chunks = sent_chunks(proxied)
    connect(settings_of(proxied.url))
    assert len(chunks) == 1
    login = [b"AUTH"] if urlsplit(redis_url).password else []
    words = (b"AUTH", b"SELECT", b"SETNAME", b"PING")
    assert [word for word in words if word in chunks[0]] == [*login, b"SELECT", b"SETNAME", b"PING"]


def test_the_session_is_in_its_database_and_has_a_name(connect: Connect, redis_url: str) -> None:
    engine, client = connect(settings_of(redis_url))
    mine = engine.command(client, "CLIENT", "LIST", "ID", engine.command(client, "CLIENT", "ID"))
    assert f" db={urlsplit(redis_url).path[1:]} ".encode() in mine
    assert b" name=katax " in mine


@pytest.mark.parametrize(
    "commands",
    [
        [("SELECT", 5)],
        [(b"select", "5"), (" select  5",), (b"client no-evict        on",)],
        [("MULTI",), ("SET", "k", "1")],
        [("WATCH", "k")],
        [("CLIENT", "SETNAME", "mine")],
        [("CLIENT", "NO-EVICT", "on")],
        [("CLIENT", "TRACKING", "on")],
        [("HELLO", "2", "SETNAME", "mine")],
        [("RESET",)],
    ],
)
def test_what_one_caller_did_to_the_session_does_not_meet_the_next(
    connect: Connect, redis_url: str, commands: list[tuple[bytes | str | int, ...]]
) -> None:
    engine, client = connect(settings_of(redis_url, pool=PoolSettings(max=1)))
    before = int(engine.command(client, "CLIENT", "ID"))
    assert int(engine.command(client, "CLIENT", "ID")) == before

    for command in commands:
        try:
            engine.command(client, *command)
        except RedisError as error:
            assert engine.classify(error).kind is FailureKind.REJECTED  # noqa: PT017
        assert int(engine.command(client, "CLIENT", "ID")) != before
        before = int(engine.command(client, "CLIENT", "ID"))
        assert engine.command(client, "CLIENT", "GETNAME") == b"katax"
        assert engine.command(client, "SET", "k", "2") == b"OK"
        if command[0] == "MULTI":
            break


def test_a_transaction_of_a_pipeline_keeps_its_connection(connect: Connect, redis_url: str) -> None:
    engine, client = connect(settings_of(redis_url, pool=PoolSettings(max=1)))
    before = engine.command(client, "CLIENT", "ID")

    with client.pipeline(transaction=True) as pipeline:
        pipeline.watch("k")
        pipeline.multi()
        pipeline.set("k", "3")
        pipeline.execute()

    assert engine.command(client, "CLIENT", "ID") == before


def test_a_wrong_password_is_tried_once(proxy: MakeProxy, redis_url: str) -> None:
    proxied = proxy(redis_url)
    chunks = sent_chunks(proxied)
    engine = create(settings_of(proxied.url, password=Secret.of("wr0ng-s3cr3t")))
    kind, message = failure_of(engine, lambda: engine.connect(60.0))
    assert kind is FailureKind.AUTHENTICATION
    assert b"".join(chunks).count(b"AUTH") == 1
    assert proxied.connections == 1
    assert "wr0ng-s3cr3t" not in message


def test_no_password_is_an_authentication_failure(redis_acl: Server) -> None:
    engine = create(settings_of(redis_acl.url, user=None, password=None))
    assert failure_of(engine, lambda: engine.connect(60.0))[0] is FailureKind.AUTHENTICATION


def test_secrets_show_in_no_repr(connect: Connect, redis_acl: Server) -> None:
    _, client = connect(settings_of(redis_acl.url))
    shown = repr(client) + repr(client.connection_pool) + repr(client.connection_pool.connection_kwargs)
    assert redis_acl.password
    assert redis_acl.password not in shown


def test_a_restricted_user_connects(connect: Connect, redis_acl: Server) -> None:
    engine, client = connect(settings_of(redis_acl.url))
    assert engine.command(client, "SET", "app:k", 1) == b"OK"
    assert failure_of(engine, lambda: engine.command(client, "GET", "k"))[0] is FailureKind.REJECTED


def test_a_user_that_may_not_even_ping_connects(connect: Connect, redis_acl: Server) -> None:
    admin, boss = connect(settings_of(redis_acl.url, user=None, password=Secret.of(_default_password())))
    admin.command(boss, "ACL", "SETUSER", "mute", "on", ">mute-s3cr3t", "~*", "-@all", "+get")
    engine, client = connect(settings_of(redis_acl.url, user="mute", password=Secret.of("mute-s3cr3t")))
    assert engine.command(client, "GET", "k") is None


def _default_password() -> str:
    from tests.servers.redis import PASSWORD

    return PASSWORD


def test_a_database_that_is_not_there_is_configuration(redis_server: Server) -> None:
    engine = create(settings_of(redis_server.url, database="64"))
    kind, message = failure_of(engine, lambda: engine.connect(60.0))
    assert (kind, message) == (FailureKind.CONFIGURATION, "DB index is out of range")


def test_a_database_that_is_no_number_is_named() -> None:
    engine = create(settings_of("redis://localhost:1/app"))
    with pytest.raises(ConfigError) as error:
        engine.connect(1.0)
    assert str(error.value) == "'cache' has the database 'app', expected a number such as 0"


def test_a_unix_socket(connect: Connect, throwaway: Throwaway) -> None:
    server = throwaway("redis")
    engine, client = connect(settings_of(server.url, host=None, port=None, socket=str(server.socket)))
    assert engine.command(client, "PING", timeout=60.0) == b"PONG"
    missing = create(settings_of(server.url, socket=str(server.socket) + "-gone"))
    assert failure_of(missing, lambda: missing.connect(60.0))[0] is FailureKind.UNREACHABLE


def test_nobody_there_is_unreachable(closed_port: int) -> None:
    engine = create(settings_of(f"redis://127.0.0.1:{closed_port}"))
    kind, message = failure_of(engine, lambda: engine.connect(60.0))
    assert kind is FailureKind.UNREACHABLE
    assert "refused" in message


def test_an_unknown_host_is_unreachable() -> None:
    engine = create(settings_of("redis://nowhere.invalid:6379"))
    assert failure_of(engine, lambda: engine.connect(60.0))[0] is FailureKind.UNREACHABLE


@pytest.mark.parametrize("where", ["deaf_port", "unreachable_port"])
def test_connecting_ends_within_its_time(where: str, request: pytest.FixtureRequest) -> None:
    """The settings would wait ten times as long; pytest's own timeout is the bad twin."""
    engine = create(settings_of(f"redis://127.0.0.1:{request.getfixturevalue(where)}", connect_timeout=300.0))
    assert failure_of(engine, lambda: engine.connect(0.2))[0] is FailureKind.UNREACHABLE


def test_an_answer_that_does_not_come_is_lost(proxy: MakeProxy, redis_url: str, connect: Connect) -> None:
    proxied = proxy(redis_url)
    engine, client = connect(settings_of(proxied.url))
    chunks: list[bytes] = []

    def stall_at_once(chunk: bytes) -> None:
        if b"INCR" in chunk:
            proxied.stall()
        chunks.append(chunk)

    proxied.on_client_bytes(stall_at_once)
    kind, _ = failure_of(engine, lambda: engine.command(client, "INCR", "n", timeout=0.2))
    assert kind is FailureKind.LOST
    until(lambda: b"INCR" in b"".join(chunks))
    proxied.resume()
    assert engine.command(client, "PING", timeout=60.0) == b"PONG"
    # Sent once and never again: redis-py's own retries are off.
    assert b"".join(chunks).count(b"INCR") == 1


def test_a_cut_before_the_answer_is_lost_and_not_repeated(
    proxy: MakeProxy, redis_url: str, connect: Connect
) -> None:
    proxied = proxy(redis_url)
    engine, client = connect(settings_of(proxied.url))
    proxied.cut_after(b"INCR", forward=True)
    assert (
        failure_of(engine, lambda: engine.command(client, "INCR", "n", timeout=60.0))[0] is FailureKind.LOST
    )
    assert engine.command(client, "GET", "n", timeout=60.0) == b"1"


def test_a_connection_that_died_while_idle_is_replaced(
    proxy: MakeProxy, redis_url: str, connect: Connect
) -> None:
    proxied = proxy(redis_url)
    engine, client = connect(settings_of(proxied.url))
    proxied.cut()
    assert engine.command(client, "INCR", "n", timeout=60.0) == 1
    proxied.cut()
    proxied.refuse()
    kind, _ = failure_of(engine, lambda: engine.command(client, "INCR", "n", timeout=60.0))
    assert kind is FailureKind.UNREACHABLE


def test_the_limit_holds_for_pipelines_and_only_within(
    proxy: MakeProxy, redis_url: str, connect: Connect
) -> None:
    proxied = proxy(redis_url)
    engine, client = connect(settings_of(proxied.url))
    proxied.stall()
    with engine.limited(0.2):
        kind, _ = failure_of(engine, client.pipeline().set("k", "v").execute)
    assert kind is FailureKind.LOST
    proxied.resume()
    connection = client.connection_pool.get_connection()
    assert connection._get_socket().gettimeout() == 60.0
    client.connection_pool.release(connection)


def test_a_command_without_a_limit_waits_longer_than_the_client(connect: Connect, redis_url: str) -> None:
    engine = create(settings_of(redis_url))
    client = at_last(lambda: engine.connect(0.3))
    try:
        assert engine.command(client, "BLPOP", "empty", 1, timeout=None) is None
        kind, _ = failure_of(engine, lambda: client.execute_command("BLPOP", "empty", 0))
        assert kind is FailureKind.LOST
    finally:
        engine.close(client)


def test_a_full_pool_says_so(connect: Connect, redis_url: str) -> None:
    engine, client = connect(settings_of(redis_url, pool=PoolSettings(max=1, timeout=0.1)))
    held = client.connection_pool.get_connection()
    with pytest.raises(PoolTimeout) as error:
        engine.command(client, "PING", timeout=60.0)
    waited = f"{error.value.waited:.1f}"
    assert (
        str(error.value) == f"couldn't get a connection to 'cache' after {waited} s: 1 of 1 in use, 0 waiting"
    )
    client.connection_pool.release(held)
    assert engine.command(client, "PING", timeout=60.0) == b"PONG"


def test_pool_stats_count_what_is_open(connect: Connect, redis_url: str) -> None:
    engine, client = connect(settings_of(redis_url, pool=PoolSettings(max=2, timeout=60.0)))
    assert _numbers(engine, client) == (2, 1, 0, 1, 0)
    held = [client.connection_pool.get_connection() for _ in range(2)]
    assert _numbers(engine, client) == (2, 2, 2, 0, 0)
    waiter = threading.Thread(target=engine.command, args=(client, "PING"))
    waiter.start()
    while _numbers(engine, client)[-1] != 1:
        time.sleep(0.001)
    for connection in held:
        client.connection_pool.release(connection)
    waiter.join()
    assert _numbers(engine, client) == (2, 2, 0, 2, 0)


def _numbers(engine: RedisEngine, client: Any) -> tuple[int, ...]:
    stats = engine.pool_stats(client)
    return stats.max, stats.total, stats.active, stats.idle, stats.waiting


def test_closing_ends_the_sessions(redis_url: str, connect: Connect) -> None:
    engine = create(settings_of(redis_url))
    client = engine.connect(60.0)
    own_id = engine.command(client, "CLIENT", "ID")
    engine.close(client)
    engine.close(client)
    watcher, other = connect(settings_of(redis_url))
    while watcher.command(other, "CLIENT", "LIST", "ID", own_id):
        time.sleep(0.001)


def test_the_server_reports_itself(connect: Connect, redis_server: Server) -> None:
    engine, client = connect(settings_of(redis_server.url))
    facts = engine.server(client, 5.0)
    assert facts["version"] == redis_server.version
    assert facts["role"] == "master"
    assert isinstance(facts["connections"], int)
    assert facts["max_connections"] == int(engine.command(client, "CONFIG", "GET", "maxclients")[1])


def test_errors_are_told_by_the_servers_code(connect: Connect, throwaway: Throwaway) -> None:
    server = throwaway("redis")
    engine, client = connect(settings_of(server.url))

    def kind(*command: str) -> FailureKind:
        return failure_of(engine, lambda: engine.command(client, *command, timeout=60.0))[0]

    assert kind("NOSUCH") is FailureKind.REJECTED
    engine.command(client, "SET", "k", "text")
    assert kind("INCR", "k") is FailureKind.REJECTED
    engine.command(client, "CONFIG", "SET", "maxmemory", "1")
    assert kind("SET", "other", "x") is FailureKind.FULL
    engine.command(client, "CONFIG", "SET", "maxmemory", "0")
    engine.command(client, "REPLICAOF", "127.0.0.1", "1")
    opened = client.connection_pool.opened
    assert kind("SET", "k", "x") is FailureKind.UNREACHABLE
    engine.command(client, "CONFIG", "SET", "replica-serve-stale-data", "no")
    assert client.connection_pool.opened == opened + 1  # by a new one Sentinels show the way to the primary
    assert kind("GET", "k") is FailureKind.UNREACHABLE


def test_a_busy_script_is_busy(connect: Connect, throwaway: Throwaway) -> None:
    server = throwaway("redis", settings={"lua-time-limit": "1"})
    engine, client = connect(settings_of(server.url))
    script = threading.Thread(
        target=failure_of,
        args=(engine, lambda: engine.command(client, "EVAL", "while true do end", 0, timeout=60)),
    )
    other = create(settings_of(server.url))
    script.start()
    try:
        kind, _ = _first_failure(other)
    finally:
        _kill_script(server)
        script.join()
    assert kind is FailureKind.BUSY


def _first_failure(engine: RedisEngine) -> tuple[FailureKind, str]:
    """Connects until the server is busy with the script."""
    while True:
        try:
            engine.close(engine.connect(60.0))
        except Exception as error:  # noqa: BLE001
            failure = engine.classify(error)
            return failure.kind, failure.message


def _kill_script(server: Server) -> None:
    """By hand: a busy server answers PING with an error, which is not what a login of ours expects."""
    with socket.create_connection((server.host, server.port)) as raw:
        raw.sendall(f"AUTH {server.password}\r\nSCRIPT KILL\r\n".encode())
        while raw.recv(100).count(b"\r\n") < 1:
            pass


def test_too_many_clients_is_overload(connect: Connect, throwaway: Throwaway) -> None:
    server = throwaway("redis")
    admin, client = connect(settings_of(server.url))
    admin.command(client, "CONFIG", "SET", "maxclients", 1)
    engine = create(settings_of(server.url))
    assert failure_of(engine, lambda: engine.connect(60.0))[0] is FailureKind.OVERLOADED


def test_a_failing_pipeline_does_not_quote_its_values(connect: Connect, redis_url: str) -> None:
    engine, client = connect(settings_of(redis_url))
    client.lpush("list", "x")
    pipeline = client.pipeline(transaction=False)
    pipeline.execute_command("HSET", "list", "field", "pr1vate-value")
    kind, message = failure_of(engine, pipeline.execute)
    assert kind is FailureKind.REJECTED
    assert message.startswith("WRONGTYPE")
    assert "pr1vate-value" not in message


def test_a_foreign_error_is_unknown(redis_url: str) -> None:
    assert create(settings_of(redis_url)).classify(ValueError("x")).kind is FailureKind.UNKNOWN


def test_subscribers_wait_without_limit_and_notice_silence(connect: Connect, redis_url: str) -> None:
    engine, client = connect(settings_of(redis_url))
    subscriber = at_last(lambda: engine.connect_subscriber(0.2))
    subscription = subscriber.pubsub(ignore_subscribe_messages=True)
    # Channels are the server's, whatever the database.
    news = uuid4().hex
    subscription.subscribe(news)

    def publish() -> None:
        until(lambda: engine.command(client, "PUBSUB", "NUMSUB", news) == [news.encode(), 1])
        engine.command(client, "PUBLISH", news, "hello")

    later = threading.Timer(0.5, publish)
    later.start()
    message = next(subscription.listen())
    later.join()
    assert message["data"] == b"hello"
    connection = subscription.connection
    assert connection._get_socket().gettimeout() is None
    assert connection._get_socket().getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) != 0
    assert connection.health_check_interval == 30
    subscription.close()
    engine.close(subscriber)


def tls(mode: Any, certificates: Certificates, **files: Path) -> TlsSettings:
    names = {name: str(path) for name, path in files.items()}
    return TlsSettings(mode, ca=str(certificates.ca), **names)


@pytest.mark.parametrize("mode", ["require", "verify-ca", "verify-full"])
def test_tls(mode: str, connect: Connect, tls_redis: Server, certificates: Certificates) -> None:
    engine, client = connect(settings_of(tls_redis.url, tls=tls(mode, certificates)))
    assert engine.command(client, "PING", timeout=60.0) == b"PONG"


def test_tls_verifies_what_the_mode_says(throwaway: Throwaway, tmp_path: Path, connect: Connect) -> None:
    from tests.servers.certificates import make_certificates

    elsewhere = make_certificates(tmp_path / "elsewhere", hosts=("other.example",))
    stranger = make_certificates(tmp_path / "stranger")
    server = throwaway("redis", certificates=elsewhere)
    for mode, trusted, works in (
        ("require", stranger, True),
        ("verify-ca", elsewhere, True),
        ("verify-ca", stranger, False),
        ("verify-full", elsewhere, False),
    ):
        settings = settings_of(server.url, tls=tls(mode, trusted))
        if works:
            connect(settings)
            continue
        engine = create(settings)
        kind, message = failure_of(engine, lambda engine=engine: engine.connect(60.0))  # type: ignore[misc]
        assert kind is FailureKind.CONFIGURATION
        assert "CERTIFICATE_VERIFY_FAILED" in message


def test_a_client_certificate(throwaway: Throwaway, certificates: Certificates, connect: Connect) -> None:
    server = throwaway("redis", certificates=certificates, client_certificate=True)
    files = {"cert": certificates.client_cert, "key": certificates.client_key}
    engine, client = connect(settings_of(server.url, tls=tls("verify-full", certificates, **files)))
    assert engine.command(client, "PING", timeout=60.0) == b"PONG"
    without = create(settings_of(server.url, tls=tls("verify-full", certificates)))
    assert failure_of(without, lambda: without.connect(60.0))[0] in (
        FailureKind.CONFIGURATION,
        FailureKind.UNREACHABLE,
    )


def test_a_plain_client_of_a_tls_server_gets_a_hint(tls_redis: Server) -> None:
    engine = create(settings_of(tls_redis.url, host="127.0.0.1"))
    kind, message = failure_of(engine, lambda: engine.connect(60.0))
    assert kind is FailureKind.UNREACHABLE
    assert message.endswith("; does the server expect TLS?")
