"""What a read-only Redis connection lets through, on every surface of the client, on old and new servers."""

from collections.abc import Callable
from typing import Any

import pytest

from katax_cli.core.settings import Secret
from katax_cli.engines.redis import RedisEngine, create
from katax_cli.engines.redis.guard import only_reads, spelled
from katax_cli.errors import Refused
from tests.engines.redis.test_engine import settings_of
from tests.servers.fixtures import MakeFresh, MakeProxy

Guarded = tuple[RedisEngine, Any, Any]


@pytest.fixture(params=["shared", "redis7"])
def guarded(
    request: pytest.FixtureRequest, fresh: MakeFresh, connect: Callable[[RedisEngine], Any]
) -> Guarded:
    """An engine, its read-only client, and a client that may write, of one database with `k` = `v` in it."""
    target = fresh("redis" if request.param == "shared" else request.getfixturevalue("redis7"))
    engine, writer = create(settings_of(target.url, read_only=True)), create(settings_of(target.url))
    client, admin = connect(engine), connect(writer)
    admin.set("k", "v")
    return engine, client, admin


READS = (
    "GET k",
    "get k",
    "MGET k j",
    "STRLEN k",
    "EXISTS k",
    "TTL k",
    "TYPE k",
    "SCAN 0",
    "KEYS *",
    "DUMP k",
    "OBJECT ENCODING k",
    "MEMORY USAGE k",
    "SORT list",
    "SORT list BY nosort",
    "GETEX k",
    "BITCOUNT k",
    "BITFIELD_RO k GET u8 0",
    "XINFO STREAM stream",
    "PFCOUNT hll",
    "PING",
    "ECHO x",
    "INFO server",
    "DBSIZE",
    "TIME",
    "ROLE",
    "CONFIG GET maxmemory",
    "CLIENT LIST",
    "COMMAND COUNT",
    "ACL WHOAMI",
    "SLOWLOG LEN",
    "LATENCY LATEST",
    "PUBSUB CHANNELS",
    "MEMORY STATS",
    "SCRIPT EXISTS abc",
)
WRITES = (
    "SET k x",
    "set k x",
    "DEL k",
    "UNLINK k",
    "INCR n",
    "EXPIRE k 1",
    "GETSET k x",
    "GETDEL k",
    "GETEX k PERSIST",
    "GETEX k EX 1",
    "SORT list STORE k",
    "SORT list BY w GET # store k",
    "BITFIELD k SET u8 0 1",
    "BITFIELD k GET u8 0",
    "GEORADIUS g 0 0 1 m STORE k",
    "EVAL return(1) 0",
    "EVALSHA abc 0",
    "FCALL f 0",
    "SCRIPT LOAD return(1)",
    "SCRIPT FLUSH",
    "FUNCTION FLUSH",
    "FLUSHDB",
    "FLUSHALL",
    "SWAPDB 0 1",
    "CONFIG SET maxmemory 1",
    "CONFIG RESETSTAT",
    "CONFIG REWRITE",
    "CLIENT KILL ID 1",
    "CLIENT PAUSE 1",
    "CLIENT",
    "ACL SETUSER x",
    "SLOWLOG RESET",
    "LATENCY RESET",
    "MEMORY PURGE",
    "DEBUG SLEEP 0",
    "PUBLISH c m",
    "XGROUP CREATE s g $ MKSTREAM",
    "XREADGROUP GROUP g c STREAMS s >",
    "BLPOP list 1",
    "RENAME k j",
    "COPY k j",
    "RESTORE j 0 x",
    "MIGRATE h 1 k 0 1",
    "PFADD hll x",
    "SAVE",
    "BGREWRITEAOF",
    "SHUTDOWN NOSAVE",
    "REPLICAOF NO ONE",
    "FAILOVER",
    "MODULE LOAD x",
    "CLUSTER RESET",
    "NOSUCHCOMMAND",
    "",
)


def prepare(admin: Any) -> None:
    admin.rpush("list", 1)
    admin.xadd("stream", {"a": 1})
    admin.pfadd("hll", "x")


def test_reads_pass(guarded: Guarded) -> None:
    engine, client, admin = guarded
    prepare(admin)
    for command in READS:
        engine.command(client, *command.split(), timeout=60.0)


@pytest.mark.parametrize("command", WRITES)
def test_writes_are_refused(guarded: Guarded, command: str) -> None:
    engine, client, admin = guarded
    words = command.split() or [""]
    with pytest.raises(Refused) as error:
        engine.command(client, *words, timeout=60.0)
    assert (words[0].upper() or "an empty command") in str(error.value)
    assert (admin.get("k"), admin.ttl("k"), admin.dbsize()) == (b"v", -1, 1)
    assert engine.pool_stats(client).active == 0
    assert engine.command(client, "GET", "k", timeout=60.0) == b"v"
    # Nothing of it was sent, so its connection is as good as before.
    assert engine.opened(client) == 1


def test_the_message_names_connection_and_command(guarded: Guarded) -> None:
    engine, client, _ = guarded
    with pytest.raises(Refused) as error:
        engine.command(client, "config", "set", "maxmemory", "s3cr3t", timeout=60.0)
    assert str(error.value) == (
        "refused: 'cache' is read-only and CONFIG SET is not known to only read; "
        "use a connection that may write"
    )


SURFACES: dict[str, Callable[[Any], object]] = {
    "method": lambda client: client.set("k", "x"),
    "execute_command": lambda client: client.execute_command("SET", "k", "x"),
    "words in one": lambda client: client.execute_command("SET k x"),
    "bytes": lambda client: client.execute_command(b"SET k", "x"),
    "bytearray": lambda client: client.execute_command(bytearray(b"SET"), "k", "x"),
    "pipeline": lambda client: client.pipeline(transaction=False).get("k").set("k", "x").execute(),
    "transaction": lambda client: client.pipeline().get("k").set("k", "x").execute(),
    "watching": lambda client: client.transaction(lambda pipe: pipe.multi() or pipe.set("k", "x"), "k"),
    "immediate": lambda client: client.pipeline().immediate_execute_command("SET", "k", "x"),
    "script": lambda client: client.register_script("return redis.call('SET', 'k', 'x')")(),
    "lock": lambda client: client.lock("k2").acquire(blocking=False),
    "single connection": lambda client: client.client().set("k", "x"),
    "pubsub": lambda client: client.pubsub().execute_command("SET", "k", "x"),
    "connection": lambda client: client.connection_pool.get_connection().send_command("SET", "k", "x"),
    "packed": lambda client: client.connection_pool.get_connection().pack_command("SET", "k", "x"),
}


@pytest.mark.parametrize("surface", SURFACES)
def test_no_surface_of_the_client_writes(guarded: Guarded, surface: str) -> None:
    _, client, admin = guarded
    with pytest.raises(Refused):
        SURFACES[surface](client)
    assert (admin.get("k"), admin.dbsize()) == (b"v", 1)


def test_a_pipeline_with_one_write_sends_nothing(guarded: Guarded, proxy: MakeProxy) -> None:
    _, client, admin = guarded
    url = settings_url(client)
    proxied = proxy(url)
    engine = create(settings_of(proxied.url, read_only=True))
    through = engine.connect(60.0)
    through.get("k")
    chunks: list[bytes] = []
    proxied.on_client_bytes(chunks.append)
    with pytest.raises(Refused):
        through.pipeline().get("k").append("k", "x").execute()
    assert all(b"COMMAND" in chunk for chunk in chunks)
    engine.close(through)
    assert admin.get("k") == b"v"


def settings_url(client: Any) -> str:
    options = client.connection_pool.connection_kwargs
    provider = options["credential_provider"]
    login = "" if provider is None else f":{provider.get_credentials()[0]}@"
    return f"redis://{login}{options['host']}:{options['port']}/{options['db']}"


def test_reading_transactions_and_subscriptions_work(guarded: Guarded) -> None:
    _, client, _ = guarded
    assert client.pipeline().get("k").ttl("k").execute() == [b"v", -1]
    subscription = client.pubsub()
    subscription.subscribe("news")
    assert subscription.get_message(timeout=60.0)["type"] == "subscribe"
    subscription.close()


def test_the_server_is_asked_once_about_each_command(guarded: Guarded, proxy: MakeProxy) -> None:
    proxied = proxy(settings_url(guarded[1]))
    engine = create(settings_of(proxied.url, read_only=True))
    client = engine.connect(60.0)
    chunks: list[bytes] = []
    proxied.on_client_bytes(chunks.append)
    for _ in range(3):
        engine.command(client, "GET", "k", timeout=60.0)
        engine.command(client, "OBJECT", "ENCODING", "k", timeout=60.0)
    engine.close(client)
    assert b"".join(chunks).count(b"COMMAND") == 2


def test_a_user_who_may_not_ask_gets_the_careful_answer(guarded: Guarded) -> None:
    _, client, admin = guarded
    password, may = "+curious-s3cr3t", ["+get", "+select"]
    admin.acl_setuser("curious", enabled=True, passwords=[password], keys=["*"], commands=may)
    url = settings_url(client)
    login = {"user": "curious", "password": Secret.of("curious-s3cr3t")}
    engine = create(settings_of(url, read_only=True, **login))
    restricted = engine.connect(60.0)
    with pytest.raises(Refused):
        engine.command(restricted, "GET", "k", timeout=60.0)
    engine.close(restricted)
    admin.acl_deluser("curious")


def test_words_are_split_as_the_driver_splits_them() -> None:
    assert spelled(("CONFIG GET", "a b")) == [b"CONFIG", b"GET", b"a b"]
    assert spelled((b"CONFIG GET", 1)) == [b"CONFIG", b"GET", b"1"]
    assert spelled(("\tSET\n",)) == [b"SET"]
    assert spelled(()) == []


def test_values_are_not_looked_at() -> None:
    """A megabyte of them would take longer than the call."""

    class Unread:
        def __str__(self) -> str:
            raise AssertionError("read")

    assert not only_reads(["SET", "key", Unread()])
    assert not only_reads(["MSET", "key", Unread(), "other", Unread()])
