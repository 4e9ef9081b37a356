"""Redis's backups: every key with its value and its end."""

import random
import resource
import time
from contextlib import closing
from pathlib import Path
from threading import Event, Thread
from typing import Any, cast

import pytest
import redis

from katax_cli.errors import KataxError
from katax_cli.profiles.load import load_profile
from katax_cli.services.backup.create import create_backup
from katax_cli.services.backup.dumps.key_stream import StoredKey, stored_keys
from katax_cli.services.backup.dumps.redis_keys import DUMP
from katax_cli.services.backup.store.place import open_store
from katax_cli.services.backup.streams import opened
from katax_cli.services.backup.work import StoppableWork
from katax_cli.services.databases.clients import RedisDatabase
from katax_cli.services.runtime.runtime import Runtime
from tests.cli.harness import katax
from tests.servers import Server
from tests.servers.fixtures import MakeFresh, MakeProxy, Throwaway
from tests.services.backup.server_of_backups import back_up, left, profile_for, refused
from tests.waiting import until


def keys_of(folder: Path, name: str) -> dict[bytes | None, StoredKey]:
    with opened(folder / "backups" / name / DUMP) as pieces:
        return {key.name: key for key in stored_keys(pieces)}


def test_a_full_disk_is_told_and_leaves_nothing(redis_url: str, tmp_path: Path) -> None:
    profile_for(tmp_path, redis_url)
    with closing(redis.Redis.from_url(redis_url)) as client:
        client.mset({f"key:{number}": "x" * 100 for number in range(500)})
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        code, said = refused()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    assert (code, "cannot write the names of the keys" in said) == (1, True), said
    assert left(tmp_path) == []


def test_every_key_comes_back_with_its_end(redis_url: str, tmp_path: Path) -> None:
    profile_for(tmp_path, redis_url)
    with redis.Redis.from_url(redis_url) as client:
        client.mset({f"k{number}": "x" * (number % 50) for number in range(3000)})
        client.hset("h", mapping={"a": "1"})
        client.zadd("z", {"m": 1.5})
        client.set(b"\xff\x00", b"\x00\xff", px=500_000)
        client.set("large", b"y" * 6_000_000)
        ends_ms = time.time() * 1000 + 500_000
        dumps = {name: client.dump(name) for name in (b"h", b"z", b"\xff\x00", b"large", b"k7")}

        manifest = back_up()
        keys = keys_of(tmp_path, manifest.name)

        assert manifest.rows == {"keys": 3004}
        assert manifest.consistency.startswith("no single moment")
        assert {name: keys[name].value for name in dumps} == dumps
        assert keys[b"h"].expires_at_ms is None
        assert abs(cast("int", keys[b"\xff\x00"].expires_at_ms) - ends_ms) < 60_000
        client.restore("again", 0, keys[b"z"].value)
        assert client.zrange("again", 0, -1, withscores=True) == [(b"m", 1.5)]
    assert left(tmp_path) == [manifest.name]
    assert sorted(path.name for path in (tmp_path / "backups" / manifest.name).iterdir()) == [
        DUMP,
        "manifest.json",
    ]


def test_large_values_come_a_few_at_a_time(
    redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when all are large, and nothing was read before them."""
    profile_for(tmp_path, redis_url)
    with closing(redis.Redis.from_url(redis_url)) as client:
        for number in range(20):
            client.set(f"large:{number}", random.randbytes(3_000_000))
    sizes, pipeline = list[int](), RedisDatabase.pipeline

    def weighed(self: RedisDatabase, commands: Any, **more: Any) -> list[Any]:
        replies = pipeline(self, commands, **more)
        sizes.append(sum(len(reply) for reply in replies if isinstance(reply, bytes)))
        return replies

    monkeypatch.setattr(RedisDatabase, "pipeline", weighed)
    assert back_up().rows == {"keys": 20}
    assert max(sizes) < 7_000_000


def test_a_key_that_is_made_anew_meanwhile_keeps_an_end(redis_url: str, tmp_path: Path) -> None:
    """Each has one at every moment that it is there; names as long as what the server reads at once, so that others
    come between any two commands."""
    profile_for(tmp_path, redis_url)
    names, stop = [f"{number}" * 20_000 for number in range(8)], Event()

    def renew() -> None:
        with redis.Redis.from_url(redis_url) as client, client.pipeline(transaction=False) as pipe:
            while not stop.is_set():
                for name in names:
                    pipe.unlink(name).set(name, "x", px=500_000)
                pipe.execute()

    thread = Thread(target=renew)
    thread.start()
    try:
        for _ in range(10):
            keys = keys_of(tmp_path, back_up().name)
            assert [key for key in keys.values() if key.name and key.expires_at_ms is None] == []
    finally:
        stop.set()
        thread.join()


def test_keys_that_the_server_evicts_meanwhile_are_told(throwaway: Throwaway, tmp_path: Path) -> None:
    """The dump of a large value takes its memory once more, at the cost of the others."""
    server = throwaway("redis")
    profile_for(tmp_path, server.url)
    with redis.Redis.from_url(server.url) as client:
        client.mset({f"k{number}": "x" * 1000 for number in range(5000)})
        client.set("large", random.randbytes(30_000_000))
    # Another one, since the server keeps the memory by which the value came.
    with redis.Redis.from_url(server.url) as client:
        client.config_set("maxmemory-policy", "allkeys-random")
        client.config_set("maxmemory", client.info("memory")["used_memory"] + 1_000_000)

        code, said = refused()
        evicted = client.info("stats")["evicted_keys"]

    assert (code, f"{evicted} keys that the server evicted meanwhile" in said) == (1, True), said
    assert evicted > 0
    assert left(tmp_path) == []


def test_functions_are_kept(redis7: Server, fresh: MakeFresh, tmp_path: Path) -> None:
    target = fresh(redis7)
    profile_for(tmp_path, target)
    with redis.Redis.from_url(target.url) as client:
        client.execute_command(
            "FUNCTION", "LOAD", "#!lua name=l\nredis.register_function('f', function() return 1 end)"
        )
        try:
            manifest = back_up()
            assert manifest.objects == {"functions": 1}
            value = keys_of(tmp_path, manifest.name)[None].value
            assert value == client.execute_command("FUNCTION", "DUMP")
        finally:
            client.execute_command("FUNCTION", "FLUSH")


def test_what_a_restricted_user_may_not_read_is_named(
    redis7: Server, fresh: MakeFresh, tmp_path: Path
) -> None:
    target = fresh(redis7)
    with redis.Redis.from_url(target.url) as owner:
        owner.mset({"app:mine": "1", "other": "2", "another": "3"})
        rights = ("+ping", "+select", "+info", "+scan", "+pttl", "+dump", "+time", "+client", "+command")
        owner.execute_command("ACL", "SETUSER", "reader", "on", ">plain", "~app:*", *rights)
        try:
            profile_for(tmp_path, target.url.replace(f":{redis7.password}@", "reader:plain@"))
            code, message = refused()
            assert code == 1
            assert (
                "functions: no right to see them; grant +function|dump and +function|list; 2 keys, the first"
                in message
            )
            assert "grant their names to the user" in message
            assert left(tmp_path) == []

            manifest = back_up("--allow-missing")
            assert (manifest.rows, len(manifest.left_out)) == ({"keys": 1}, 2)

            owner.execute_command("ACL", "SETUSER", "reader", "~*", "+function|dump", "+function|list")
            assert back_up().rows == {"keys": 3}, "no administrator is needed"
        finally:
            owner.execute_command("ACL", "DELUSER", "reader")


@pytest.mark.parametrize("words", [b"SCAN", b"DUMP"])
def test_a_cut_wire_leaves_no_backup(
    words: bytes, redis_url: str, proxy: MakeProxy, redis_server: Server, tmp_path: Path
) -> None:
    """The bad twin: the same wire, not cut."""
    wire = proxy(redis_url)
    profile_for(tmp_path, wire.url)
    with redis.Redis.from_url(redis_url) as client:
        client.mset({f"k{number}": "x" for number in range(500)})
    wire.cut_after(words, forward=True)
    done = katax("db", "backup", "-f", "json")
    assert (done.code in (1, 3), left(tmp_path)) == (True, []), done
    assert back_up().rows == {"keys": 500}


def test_an_end_beside_a_frozen_server_leaves_nothing(throwaway: Throwaway, tmp_path: Path) -> None:
    """The read of its answer has no end of its own: the connection is dropped. The bad twin: it answers again."""
    server = throwaway("redis")
    profile_for(tmp_path, server.url)
    with redis.Redis.from_url(server.url) as client:
        client.mset({f"k{number}": "x" for number in range(10_000)})
    with Runtime(load_profile()) as runtime:
        database, work = runtime.database("main"), StoppableWork("main")
        store = open_store(str(tmp_path / "backups"), work=work)
        raised: list[Exception] = []

        def back_up_frozen() -> None:
            try:
                create_backup(database, store, work=work, told=lambda _: freeze())
            # Or what the driver says when its connection is closed under it.
            except (KataxError, OSError, ValueError) as error:
                raised.append(error)

        frozen = Event()

        def freeze() -> None:
            if not frozen.is_set():
                server.stop_signal()
                frozen.set()

        thread = Thread(target=back_up_frozen)
        thread.start()
        try:
            until(frozen.is_set)
            work.stop()
            assert left(tmp_path) == []
        finally:
            server.resume()
            thread.join()
    assert len(raised) == 1
    assert left(tmp_path) == []
    assert back_up().rows == {"keys": 10_000}
