"""Everything that lives on Redis, on a cluster of three masters, behind Sentinel, over TLS and as a restricted user."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from queue import Queue
from typing import Any

import pytest

from katax_cli.core.measure.health import HealthPolicy
from katax_cli.core.resilience.deadline import Deadline
from katax_cli.core.settings import ConnectionSettings, Secret, TlsSettings
from katax_cli.errors import ConfigError, LockHeld, OutcomeUnknown, QueryError, Unavailable
from katax_cli.services.cache import copy
from katax_cli.services.cache.cache import Cache
from katax_cli.services.cache.doctor import examine
from katax_cli.services.databases.clients import RedisDatabase
from katax_cli.services.health.deep_probe import DeepProbe
from katax_cli.services.health.probe import probe
from katax_cli.services.locks.lock import Lock, RedisBackend, held_locks
from katax_cli.services.program.records import RecordStore
from katax_cli.services.redis.acl import GROUPS, least_rule
from katax_cli.services.redis.limits import ALGORITHMS, RateLimiter
from katax_cli.services.redis.pubsub import PubSub
from katax_cli.services.redis.sessions import SessionStore
from katax_cli.snapshot import ConnectionHealth
from tests.engines.connections import settings_for
from tests.engines.redis.test_topologies import Watched, cluster_node, tell, until
from tests.engines.redis.test_topologies import watched as watched  # a fixture
from tests.servers import Server
from tests.servers.fixtures import Throwaway
from tests.services.redis_database import database_of, opened, redis_database
from tests.waiting import SECONDS

SLOTS = 16384
PREFIX = "app:"


def works_in_full(redis: RedisDatabase, *, pattern: str = "p*") -> None:
    """Every service once, with many keys."""
    cache = Cache(redis)
    values = {f"k{number}": number for number in range(300)}
    cache.mset(values)
    cache.mset({"short": 1}, ttl=500)
    assert cache.mget([*values, "none"]) == [*values.values(), None]
    assert cache.survey("k*").matching == 300
    assert {key.decode() for batch in cache.scan("k*") for key in batch} == set(values)
    assert cache.stats()["used_memory"] > 0
    assert examine(cache)[1] >= 300
    lines = [line.encode() for batch in copy.export(cache, "k1*") for line in batch]
    assert copy.load(cache, lines, replace=True).imported == len(lines) == 111
    assert cache.delete("k0", "k1", "none") == 2
    assert cache.clear("k*") == 298
    assert cache.remember("r", 60, lambda: {"x": 1}, stale_if_error=True) == {"x": 1}
    assert cache.set_raw("big", b"x" * (1 << 20))
    assert (cache.incr("n"), cache.expire("n", 500), cache.persist("n")) == (1, True, True)
    assert cache.invalidate("nothing") == 0

    for algorithm in ALGORITHMS:
        limiter = RateLimiter(redis, 2, 3600, algorithm=algorithm)
        assert [limiter.check("k").allowed for _ in range(3)] == [True, True, False]
        assert not limiter.peek("k").allowed
        assert limiter.reset("k")

    for name in ("job", "other", "{tag}x"):
        with Lock(redis, name):
            with pytest.raises(LockHeld):
                Lock(redis, name).acquire()
            assert [each.name for each in held_locks(redis)] == [name]

    sessions = SessionStore(redis)
    ids = [sessions.create({"user_id": 1, "n": number}) for number in range(5)]
    assert sessions.touch(ids[0])
    assert sessions.update(ids[0], {"x": 1}) == {"user_id": 1, "n": 0, "x": 1}
    assert sessions.destroy(ids[1])
    assert len(sessions.list_for_user(1)) == 4
    assert sessions.revoke(1) == 4

    records = RecordStore("users", redis)
    for number in range(20):
        records.create({"id": number})
    assert records.list(page=1, size=15).pager.total == records.count() == 20
    RecordStore("users:archive", redis).create({"id": 1})
    assert records.compare_and_set({"id": 4}, {"id": 4, "a": 1}) == records.load({"id": 4, "a": 1})
    assert (records.purge({"a": 1}), records.count()) == (1, 19)
    assert (records.update({"id": 3, "a": 1}), records.pick(3)) == ({"id": 3, "a": 1}, {"id": 3, "a": 1})

    heard: Queue[Any] = Queue()
    stop = records.subscribe(heard.put, "events")
    records.publish("event", "events")
    assert heard.get(timeout=SECONDS) == "event"
    stop()
    records.close()
    with PubSub(redis) as pubsub:
        pubsub.psubscribe(pattern, lambda *args: heard.put(args))
        pubsub.publish("pp", 1)
        assert heard.get(timeout=SECONDS) == (pattern, "pp", 1)
    cache.clear("*")
    assert {key for batch in cache.scan() for key in batch} == set()


@pytest.fixture
def masters(throwaway: Throwaway) -> list[Server]:
    """Three masters that share the slots."""
    servers = [throwaway("redis", full=True, settings=cluster_node()) for _ in range(3)]
    thirds = [range(SLOTS * part // 3, SLOTS * (part + 1) // 3) for part in range(3)]
    for server, slots in zip(servers, thirds, strict=True):
        tell(server, "CLUSTER", "ADDSLOTS", *slots)
    for other in servers[1:]:
        (_, bus_port) = tell(other, "CONFIG", "GET", "cluster-port")
        tell(servers[0], "CLUSTER", "MEET", other.host, other.port, bus_port)
    until(lambda: all(b"cluster_state:ok" in tell(server, "CLUSTER", "INFO") for server in servers))
    until(lambda: all(len(tell(server, "CLUSTER", "SLOTS")) == 3 for server in servers))
    return servers


@pytest.fixture
def cluster(masters: list[Server]) -> Iterator[RedisDatabase]:
    settings = ConnectionSettings(
        "cache",
        "redis",
        password=Secret.of(masters[0].password),
        topology="cluster",
        nodes=tuple((server.host, server.port) for server in masters),
        prefix=PREFIX,
    )
    database = database_of(settings)
    yield database
    database.close()


def test_a_cluster_of_three_masters(cluster: RedisDatabase, masters: list[Server]) -> None:
    works_in_full(cluster)
    Cache(cluster).mset({f"k{number}": 1 for number in range(100)})
    assert all(tell(server, "DBSIZE") > 0 for server in masters)
    tell(masters[0], "SET", _key_of(masters[0]), 1)  # not under the prefix
    assert Cache(cluster).flush() == 100
    assert sum(tell(server, "DBSIZE") for server in masters) == 1
    with pytest.raises(
        ConfigError, match="'cache' is a cluster, each server of which tells of its own keys only"
    ):
        RecordStore("users", cluster).watch(print)
    with pytest.raises(QueryError, match="all keys must map to the same key slot") as error:
        cluster.redis("MGET", "a", "b")
    assert error.value.code == "CROSSSLOT"


def test_commands_of_several_nodes_of_which_one_cannot_be_reached(masters: list[Server]) -> None:
    """What the others did is not done again, and not said to have failed."""
    settings = ConnectionSettings(
        "cache",
        "redis",
        password=Secret.of(masters[0].password),
        topology="cluster",
        nodes=tuple((server.host, server.port) for server in masters),
    )
    with closing(database_of(settings, attempts=3)) as redis:
        keys = [_key_of(server) for server in masters]
        assert redis.pipeline([("INCR", key) for key in keys]) == [1, 1, 1]
        for server in masters:
            tell(server, "CONFIG", "SET", "cluster-require-full-coverage", "no")
        masters[1].kill()
        with pytest.raises(OutcomeUnknown, match="1 of 3 commands were answered"):
            redis.pipeline([("INCR", key) for key in keys])
        assert tell(masters[0], "GET", keys[0]) == b"2"
        with pytest.raises(Unavailable):
            redis.pipeline([("INCR", key) for key in (keys[1], keys[0])])
        assert tell(masters[0], "GET", keys[0]) == b"2"


def test_keys_are_found_while_their_slot_moves(cluster: RedisDatabase, masters: list[Server]) -> None:
    """Half of a slot's keys are on the node that it moves to; the rest of the cluster does not know it yet."""
    cache = Cache(cluster)
    cache.mset({f"{{tag}}{number}": number for number in range(10)})
    slot = tell(masters[0], "CLUSTER", "KEYSLOT", "tag")
    owner = next(server for server in masters if tell(server, "CLUSTER", "COUNTKEYSINSLOT", slot))
    target = next(server for server in masters if server is not owner)
    ids = {server.port: tell(server, "CLUSTER", "MYID") for server in (owner, target)}
    tell(target, "CLUSTER", "SETSLOT", slot, "IMPORTING", ids[owner.port])
    tell(owner, "CLUSTER", "SETSLOT", slot, "MIGRATING", ids[target.port])
    for number in range(5):
        key = f"{PREFIX}{{tag}}{number}"
        tell(owner, "MIGRATE", target.host, target.port, key, 0, 5000, "AUTH", owner.password)

    names = [f"{{tag}}{number}" for number in range(10)]
    assert cache.mget(names) == list(range(10))
    cache.mset(dict.fromkeys(names, "new"))
    assert cache.mget(names) == ["new"] * 10
    assert cache.clear("*") == 10
    assert [tell(server, "DBSIZE") for server in masters] == [0, 0, 0]


@pytest.mark.parametrize("endpoint", ["ip", "hostname"])
def test_health_knows_of_a_primary_that_died_before_the_cluster_does(
    endpoint: str, masters: list[Server], cluster: RedisDatabase
) -> None:
    for server in masters:
        tell(server, "CONFIG", "SET", "cluster-announce-hostname", "localhost")
        tell(server, "CONFIG", "SET", "cluster-preferred-endpoint-type", endpoint)
    host = {"ip": masters[0].host.encode(), "hostname": b"localhost"}[endpoint]
    until(
        lambda: all(
            owner[0] == host for server in masters for _, _, owner in tell(server, "CLUSTER", "SLOTS")
        )
    )

    def seen() -> ConnectionHealth:
        return probe(cluster, HealthPolicy(degraded_ms=60_000, unhealthy_ms=60_000), Deadline(600.0))

    assert seen().status == "healthy"
    masters[2].kill()
    assert seen().status == "unhealthy"


def test_health_knows_of_slots_that_nobody_serves(masters: list[Server], cluster: RedisDatabase) -> None:
    deadline = Deadline(600.0)

    def seen() -> ConnectionHealth:
        return probe(cluster, HealthPolicy(degraded_ms=60_000, unhealthy_ms=60_000), deadline)

    def take_away(slot: int, told: bytes) -> None:
        """From all, and again where what its owner had said of it before came later, until all tell so."""

        def is_gone(server: Server) -> bool:
            known = any(first <= slot <= last for first, last, *_ in tell(server, "CLUSTER", "SLOTS"))
            if known:
                tell(server, "CLUSTER", "DELSLOTS", slot)
            return not known and told in tell(server, "CLUSTER", "INFO")

        until(lambda: all(is_gone(server) for server in masters))

    assert [check.status for check in seen().checks if check.name == "cluster"] == ["healthy"]
    mine = [slots for slots in tell(masters[0], "CLUSTER", "SLOTS") if slots[2][1] == masters[0].port]
    take_away(mine[0][0], b"cluster_state:fail")
    for health in (seen(), DeepProbe(cluster, HealthPolicy(60_000, 60_000))(deadline)):
        assert health.status == "unhealthy"
        assert health.errors == ("cluster_state:fail; 1 of 16384 slots are not served",)
    for server in masters:
        tell(server, "CONFIG", "SET", "cluster-require-full-coverage", "no")
    take_away(mine[0][0] + 1, b"cluster_state:ok")
    health = seen()
    assert (health.status, health.errors) == ("degraded", ("2 of 16384 slots are not served",))


def _key_of(server: Server) -> str:
    """A key that this node owns."""
    ((first, last, *_), *_) = [
        slots for slots in tell(server, "CLUSTER", "SLOTS") if slots[2][1] == server.port
    ]
    return next(
        key for key in map(str, range(99999)) if first <= tell(server, "CLUSTER", "KEYSLOT", key) <= last
    )


def test_a_clear_begins_again_on_the_primary_that_the_sentinels_name_by_then(watched: Watched) -> None:
    """After a failover the old primary goes on as one, until it is told: what is deleted there is not gone."""
    database = database_of(watched.settings(prefix=PREFIX))
    cache = Cache(database)
    cache.mset({f"k{number}": number for number in range(3000)})
    assert database.redis("WAIT", 1, 60_000) == 1
    promoted = False

    def promote(_deleted: int) -> None:
        nonlocal promoted
        if not promoted:
            tell(watched.replica, "REPLICAOF", "NO", "ONE")
            tell(watched.sentinel, "SENTINEL", "REMOVE", "mymaster")
            replica = watched.replica
            tell(watched.sentinel, "SENTINEL", "MONITOR", "mymaster", replica.host, replica.port, 1)
            tell(watched.sentinel, "SENTINEL", "SET", "mymaster", "auth-pass", replica.password)
            promoted = True

    assert cache.clear("k*", on_batch=promote) > 3000

    # The old one was emptied first; this asks the new one.
    assert [key for batch in cache.scan("*") for key in batch] == []
    assert b"db3" not in tell(watched.replica, "INFO", "keyspace")
    database.close()


def test_behind_sentinel(watched: Watched) -> None:
    database = database_of(watched.settings(prefix=PREFIX))
    works_in_full(database)
    database.close()


def test_over_tls(tls_redis: Server) -> None:
    assert tls_redis.certificates is not None
    tls = TlsSettings("verify-full", ca=str(tls_redis.certificates.ca))
    settings = settings_for(tls_redis, name="cache", prefix=PREFIX, tls=tls)
    database = database_of(settings)
    works_in_full(database)
    database.close()


def test_a_user_with_the_least_rule_can_do_everything_under_its_prefix(redis7: Server) -> None:
    admin = redis_database(redis7.url)
    rule = least_rule("everything", PREFIX, GROUPS)
    admin.redis(*rule.replace(">PASSWORD", ">s3cr3t-acl").split())
    login: dict[str, Any] = {"user": "everything", "password": Secret.of("s3cr3t-acl"), "prefix": PREFIX}
    with opened(redis7.url, **login) as database:
        works_in_full(database, pattern="*")
        # Redis compares the pattern itself with those of the rule, not what it matches.
        with pytest.raises(QueryError) as error:
            PubSub(database).psubscribe("p*", print)
        assert error.value.code == "NOPERM"
    admin.redis("ACL", "DELUSER", "everything")
    admin.close()


def test_each_group_of_the_least_rule_is_enough_for_itself(redis7: Server) -> None:
    admin = redis_database(redis7.url)
    uses: dict[str, Callable[[RedisDatabase], object]] = {
        "session": lambda redis: SessionStore(redis).touch(SessionStore(redis).create({"user_id": 1})),
        "limit": lambda redis: [RateLimiter(redis, algorithm=each).check("k") for each in ALGORITHMS],
        "lock": _lock_and_look,
        "pubsub": _send_and_hear,
        "record": lambda redis: RecordStore("r", redis).save({"id": 1}) and RecordStore("r", redis).list(),
    }
    for group, use in uses.items():
        rule = least_rule("one", PREFIX, [group])
        admin.redis("ACL", "DELUSER", "one")
        admin.redis(*rule.replace(">PASSWORD", ">s3cr3t-acl").split())
        with opened(redis7.url, user="one", password=Secret.of("s3cr3t-acl"), prefix=PREFIX) as database:
            use(database)
    admin.redis("ACL", "DELUSER", "one")
    Cache(admin).clear("app:*")
    admin.close()


def _lock_and_look(redis: RedisDatabase) -> None:
    lock = RedisBackend(redis)
    lock.acquire("job", 30.0)
    assert lock.renew(30.0, 5.0)
    assert len(held_locks(redis)) == 1
    assert lock.release()


def _send_and_hear(redis: RedisDatabase) -> None:
    heard: Queue[Any] = Queue()
    with PubSub(redis) as pubsub:
        pubsub.subscribe("a", heard.put)
        pubsub.publish("a", 1)
        assert heard.get(timeout=SECONDS) == 1
        pubsub.unsubscribe("a")
