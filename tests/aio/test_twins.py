"""Each object for tasks and its twin for threads: the same calls, results, errors and words."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import ExitStack, asynccontextmanager, closing
from functools import partial
from inspect import isawaitable, signature
from pathlib import Path
from queue import Queue
from typing import Any

import pytest

from katax_cli import (
    Cache,
    CircuitBreaker,
    Katax,
    Lock,
    PubSub,
    RateLimiter,
    SessionStore,
    aio,
    graceful_shutdown,
    health,
    resilience,
)
from katax_cli.aio import AsyncKatax
from katax_cli.core.text.js_json import parse, stringify
from katax_cli.errors import PoolClosed
from katax_cli.profiles.load import load_profile
from katax_cli.services.databases.builder.builder import Builder
from katax_cli.services.databases.builder.documents import DocumentBuilder
from katax_cli.services.databases.clients import RedisDatabase
from katax_cli.services.databases.mongodb import MongoDatabase
from katax_cli.services.databases.session import Session
from katax_cli.services.databases.sql import SqlDatabase
from katax_cli.services.databases.transaction import Transaction
from katax_cli.services.redis.records import Records
from tests.aio.test_sql import SLEEP
from tests.servers.fixtures import MakeProxy, Target
from tests.services.runtimes import Connection, patient, write_profile
from tests.waiting import SECONDS

Receive = Callable[[], Any]
"""Waits for the next value that arrives."""


class Marked:
    """A codec that writes a mark, and reads nothing without it."""

    def encode(self, value: Any) -> bytes:
        return b"!" + stringify(value).encode()

    def decode(self, data: bytes) -> Any:
        if not data.startswith(b"!"):
            raise ValueError("there is no mark")
        return parse(data[1:].decode())


class Threads:
    """The objects for threads, and how a test uses them."""

    container = Katax
    cache, sessions, limiter, lock, records, pubsub = Cache, SessionStore, RateLimiter, Lock, Records, PubSub

    async def shut_down(self, katax: Any) -> None:
        await asyncio.to_thread(katax.shutdown)

    @asynccontextmanager
    async def heard(self, redis: Any, *, codec: Any, record: bool) -> AsyncIterator[Receive]:
        heard: Queue[Any] = Queue()
        with ExitStack() as stack:
            if record:
                records = stack.enter_context(closing(Records("news", redis, codec=codec)))
                records.subscribe(heard.put, timeout=SECONDS)
            else:
                pubsub = stack.enter_context(PubSub(redis, codec=codec))
                pubsub.subscribe("news", heard.put, timeout=SECONDS)
            yield lambda: asyncio.to_thread(heard.get, timeout=SECONDS)


class Tasks:
    """The same for tasks."""

    container = AsyncKatax
    cache, sessions, limiter = aio.AsyncCache, aio.AsyncSessionStore, aio.AsyncRateLimiter
    lock, records, pubsub = aio.AsyncLock, aio.AsyncRecords, aio.AsyncPubSub

    async def shut_down(self, katax: Any) -> None:
        await katax.shutdown()

    @asynccontextmanager
    async def heard(self, redis: Any, *, codec: Any, record: bool) -> AsyncIterator[Receive]:
        if record:
            async with aio.AsyncRecords("news", redis, codec=codec).subscribe(timeout=SECONDS) as events:
                yield partial(anext, events)
        else:
            async with aio.AsyncPubSub(redis, codec=codec).subscribe("news", timeout=SECONDS) as messages:

                async def value() -> Any:
                    return (await anext(messages)).value

                yield value


TWINS = (Threads(), Tasks())
both = pytest.mark.parametrize("twin", TWINS, ids=["threads", "tasks"])


@asynccontextmanager
async def opened(
    twin: Threads | Tasks, folder: Path, extra: str = "", /, **connections: Connection
) -> AsyncIterator[Any]:
    write_profile(folder, extra, **{name: patient(each) for name, each in connections.items()})
    katax = twin.container(load_profile("test", cwd=str(folder)))
    try:
        yield katax
    finally:
        await twin.shut_down(katax)


async def done(given: Any) -> Any:
    """The result of a call of either twin."""
    return await given if isawaitable(given) else given


async def outcome(call: Callable[[], Any]) -> object:
    try:
        return await done(call())
    except Exception as error:  # noqa: BLE001 - what it raises is what is compared
        return type(error).__name__, str(error)


_never: Any = None
_LEAKY: Any = "leaky"


# The objects of a table are made anew for each call, so that what making them raises is compared too.
ON_REDIS: Mapping[str, Callable[[Threads | Tasks, Any], Any]] = {
    "a lifetime as text": lambda twin, redis: twin.cache(redis).set("k", {"a": 1}, ttl="1h"),
    "no time to live": lambda twin, redis: twin.cache(redis).set("k", 1, ttl=0),
    "a lifetime that is none": lambda twin, redis: twin.cache(redis).set("k", 1, ttl="1 fortnight"),
    "no number": lambda twin, redis: twin.cache(redis).set("k", float("nan")),
    "only if missing": lambda twin, redis: twin.cache(redis).set("k", 2, only_if="nx"),
    "what was stored": lambda twin, redis: twin.cache(redis).get("k"),
    "under its prefix": lambda twin, redis: redis.redis("EXISTS", "app:k"),
    "a text that is no number": lambda twin, redis: twin.cache(redis).incr("k"),
    "by a codec": lambda twin, redis: twin.cache(redis, codec=Marked()).set("c", [1], ttl="1d"),
    "as it is stored": lambda twin, redis: twin.cache(redis).get_raw("c"),
    "what the codec reads": lambda twin, redis: twin.cache(redis, codec=Marked()).mget(["c", "none"]),
    "what it cannot read": lambda twin, redis: twin.cache(redis, codec=Marked()).get("k"),
    "of another type": lambda twin, redis: redis.redis("RPUSH", "app:list", 1),
    "the list as a value": lambda twin, redis: twin.cache(redis).get("list"),
    "no time": lambda twin, redis: twin.cache(redis).get("k", timeout=0),
    "a time that is none": lambda twin, redis: twin.cache(redis).get("k", timeout="soon"),
    "a negative beta": lambda twin, redis: twin.cache(redis).remember("r", 60, _never, beta=-1),
    "a session": lambda twin, redis: twin.sessions(redis, "s:", "1h").create({"user_id": 7}, id="one"),
    "a session's id in use": lambda twin, redis: twin.sessions(redis, "s:").create({}, id="one"),
    "no id of a session": lambda twin, redis: twin.sessions(redis, "s:").create({}, id="user:7"),
    "a session's data": lambda twin, redis: twin.sessions(redis, "s:").update("one", {"b": 2}),
    "a session by a codec": lambda twin, redis: twin.sessions(redis, codec=Marked()).create(
        {"a": 1}, id="two"
    ),
    "that session": lambda twin, redis: twin.sessions(redis, codec=Marked()).get("two"),
    "sessions without a time": lambda twin, redis: twin.sessions(redis, ttl=0),
    "revoked": lambda twin, redis: twin.sessions(redis, "s:").revoke(7),
    "no maximum": lambda twin, redis: twin.limiter(redis, 0),
    "no window": lambda twin, redis: twin.limiter(redis, 1, "0s"),
    "no algorithm": lambda twin, redis: twin.limiter(redis, algorithm=_LEAKY),
    "more than ever fits": lambda twin, redis: twin.limiter(redis, 2).take("a", 3),
    "a limit": lambda twin, redis: twin.limiter(redis, 1, "1h").reset("a"),
    "a lock without a name": lambda twin, redis: twin.lock(redis, ""),
    "a lock without a time": lambda twin, redis: twin.lock(redis, "job", ttl="10ms"),
    "a lock with a brace": lambda twin, redis: twin.lock(redis, "a}b").acquire(),
    "a lock that is not held": lambda twin, redis: twin.lock(redis, "job").release(),
    "records without a name": lambda twin, redis: twin.records("", redis),
    "a record": lambda twin, redis: twin.records("users", redis).create({"id": 7, "n": 1}, ttl="1h"),
    "a record in use": lambda twin, redis: twin.records("users", redis).create({"id": 7}),
    "a record without an id": lambda twin, redis: twin.records("users", redis).save({"n": 1}),
    "a record's time that is over": lambda twin, redis: twin.records("users", redis).save({"id": 8}, ttl=0),
    "an unknown record": lambda twin, redis: twin.records("users", redis).get(9),
    "records by a field": lambda twin, redis: twin.records("users", redis).load(1, "n"),
    "a page that cannot be": lambda twin, redis: twin.records("users", redis).list(page=-1),
    "empty criteria": lambda twin, redis: twin.records("users", redis).purge({}),
    "a message to nobody": lambda twin, redis: twin.pubsub(redis).publish("news", {"n": 1}),
    "a message that cannot be": lambda twin, redis: twin.pubsub(redis).publish("news", float("inf")),
    "a command in doubt": lambda twin, redis: redis.redis("GETS", "k"),
}


@pytest.mark.parametrize("way", ["open", "read-only", "refused"])
async def test_the_same_on_redis(way: str, tmp_path: Path, redis_url: str, proxy: MakeProxy) -> None:
    wire = proxy(redis_url)
    keys = {"url": wire.url, "prefix": "app:", "read_only": way == "read-only"}
    outcomes = []
    for twin in TWINS:
        async with opened(
            twin, tmp_path, "[retry]\nattempts = 1\n[breaker]\nfailures = 1000\n", cache=keys
        ) as katax:
            redis = katax.redis()
            if way == "refused":
                wire.refuse()
            outcomes.append(
                {name: await outcome(partial(call, twin, redis)) for name, call in ON_REDIS.items()}
            )
            wire.come_back()
        async with opened(Tasks(), tmp_path, cache=redis_url) as katax:
            await katax.redis().redis("FLUSHDB", timeout=SECONDS)
    assert outcomes[0] == outcomes[1]


@both
@pytest.mark.parametrize("record", [False, True], ids=["pubsub", "records"])
async def test_messages_pass_through_the_codec(
    twin: Threads | Tasks, record: bool, tmp_path: Path, redis_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """One that it cannot read is logged, and the next one arrives."""
    async with opened(twin, tmp_path, cache={"url": redis_url, "prefix": "app:"}) as katax:
        redis = katax.redis()
        publisher = twin.pubsub(redis, codec=Marked())
        async with twin.heard(redis, codec=Marked(), record=record) as heard:
            await done(publisher.publish("news", {"n": 1}, timeout=SECONDS))
            await done(redis.redis("PUBLISH", "app:news", b"no mark", timeout=SECONDS))
            await done(publisher.publish("news", {"n": 2}, timeout=SECONDS))
            assert [await heard(), await heard()] == [{"n": 1}, {"n": 2}]
    errors = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert errors == ["a message of 'news' could not be decoded"]


@both
async def test_nothing_is_subscribed_after_the_end(
    twin: Threads | Tasks, tmp_path: Path, redis_url: str
) -> None:
    async with opened(twin, tmp_path, cache=redis_url) as katax:
        redis = katax.redis()
        await done(redis.connect())
    with pytest.raises(PoolClosed):
        async with twin.heard(redis, codec=Marked(), record=False):
            raise AssertionError("it was subscribed")


@both
async def test_a_value_that_cannot_be_computed(twin: Threads | Tasks, tmp_path: Path, redis_url: str) -> None:
    """Its last value stands in for up to a day, if that is wanted."""

    def computing(value: int | None) -> Callable[[], Any]:
        def plain() -> int:
            if value is None:
                raise ZeroDivisionError
            return value

        async def awaited() -> int:
            await asyncio.sleep(0)
            return plain()

        return awaited if isinstance(twin, Tasks) else plain

    async with opened(twin, tmp_path, cache={"url": redis_url, "prefix": "app:"}) as katax:
        cache, redis = katax.cache(), katax.redis()
        ask = partial(cache.remember, "k", "1h", beta=0.0, timeout=SECONDS)
        assert await done(ask(computing(1), stale_if_error=True)) == 1
        await done(redis.redis("DEL", "app:k"))
        assert await done(ask(computing(None), stale_if_error=True)) == 1
        with pytest.raises(ZeroDivisionError):
            await done(ask(computing(None)))
        assert await done(ask(computing(2))) == 2


async def in_transaction(db: Any, use: Callable[[Any], Any]) -> object:
    """The outcome of a use of an open transaction, which is rolled back then."""
    transaction = await done(db.begin(timeout=SECONDS))
    try:
        return await outcome(partial(use, transaction))
    finally:
        await done(transaction.rollback())


async def after_its_end(db: Any, use: Callable[[Any], Any]) -> object:
    transaction = await done(db.begin(timeout=SECONDS))
    await done(transaction.commit())
    return await outcome(partial(use, transaction))


ON_SQL: Mapping[str, Callable[[Any, str], Any]] = {
    "rows": lambda db, _: db.query("select n, n from t order by n"),
    "one of several": lambda db, _: db.one("select n from t"),
    "none": lambda db, _: db.one("select n from t where n > 100"),
    "several columns": lambda db, _: db.scalar("select n, n from t where n = 1"),
    "a row twice": lambda db, _: db.execute("insert into t values (1)"),
    "what is no SQL": lambda db, _: db.execute("selct 1"),
    "too few parameters": lambda db, _: db.query("select $1, $2", [1]),
    "no time": lambda db, _: db.query("select 1", timeout=0),
    "a time that is none": lambda db, _: db.query("select 1", timeout="soon"),
    "too long": lambda db, engine: db.query(SLEEP[engine], timeout=0.2),
    "no isolation": lambda db, _: db.begin(isolation="loose"),
    "deferrable alone": lambda db, _: db.begin(deferrable=True),
    "no name of a table": lambda db, _: db.table("a b").all(),
    "all rows of a builder": lambda db, _: db.table("t").delete(),
    "built without time": lambda db, _: db.table("t").where("n", 1).all(timeout=0),
    "the tables": lambda db, _: db.tables(),
    "no replicas": lambda db, _: db.replica(),
    "no time in a transaction": lambda db, _: in_transaction(db, lambda it: it.query("select 1", timeout=0)),
    "too long in a transaction": lambda db, engine: in_transaction(
        db, lambda it: it.query(SLEEP[engine], timeout=0.2)
    ),
    "refused in a transaction": lambda db, _: in_transaction(db, lambda it: it.execute("selct 1")),
    "after its end": lambda db, _: after_its_end(db, lambda it: it.query("select 1")),
    "ended twice": lambda db, _: after_its_end(db, lambda it: it.commit()),
    "a savepoint after its end": lambda db, _: after_its_end(db, lambda it: it.transaction()),
}


@pytest.mark.parametrize("read_only", [False, True], ids=["open", "read-only"])
async def test_the_same_on_sql(read_only: bool, tmp_path: Path, sql_engine: Target) -> None:
    outcomes = []
    async with opened(Tasks(), tmp_path, main=sql_engine.url) as katax:
        await katax.database("main").execute("create table t (n integer primary key)", timeout=SECONDS)
        await katax.database("main").execute("insert into t values (1), (2)", timeout=SECONDS)
    for twin in TWINS:
        keys = {"url": sql_engine.url, "read_only": read_only}
        async with opened(twin, tmp_path, "[retry]\nattempts = 1\n", main=keys) as katax:
            db = katax.database("main")
            await done(db.connect())
            table = {name: partial(call, db, sql_engine.engine) for name, call in ON_SQL.items()}
            outcomes.append({name: await outcome(call) for name, call in table.items()})
    assert outcomes[0] == outcomes[1]
    assert outcomes[0]["no time"] == (
        "DeadlineExceeded",
        "'main' is not available: query was not begun, as no time was left",
    )


@both
async def test_hooks_run_once_whoever_ends_it(twin: Threads | Tasks, tmp_path: Path, sqlite_url: str) -> None:
    told: list[str] = []
    end: Any = graceful_shutdown if isinstance(twin, Threads) else aio.graceful_shutdown
    async with opened(twin, tmp_path, main=sqlite_url) as katax:
        katax.on_shutdown(lambda: told.append("hook"))
        reports = [await done(end(katax)), await done(end([katax]))]
        assert katax.info().shutting_down
    assert told == ["hook"]
    assert reports[0] is reports[1]
    with pytest.raises(TypeError, match="a int cannot be shut down"):
        await done(end([7]))


PAIRS: dict[Any, Any] = {
    Cache: aio.AsyncCache,
    SessionStore: aio.AsyncSessionStore,
    RateLimiter: aio.AsyncRateLimiter,
    Lock: aio.AsyncLock,
    Records: aio.AsyncRecords,
    PubSub: aio.AsyncPubSub,
    Katax: AsyncKatax,
    CircuitBreaker: aio.AsyncCircuitBreaker,
    SqlDatabase: aio.AsyncSqlDatabase,
    RedisDatabase: aio.AsyncRedisDatabase,
    MongoDatabase: aio.AsyncMongoDatabase,
    Transaction: aio.AsyncTransaction,
    Session: aio.AsyncSession,
    Builder: aio.AsyncBuilder,
    DocumentBuilder: aio.AsyncDocumentBuilder,
    health.perform_health_check: aio.perform_health_check,
    health.check_database_health: aio.check_database_health,
    health.get_metrics: aio.get_metrics,
    resilience.with_retry: aio.with_retry,
    resilience.retry: aio.retry,
    graceful_shutdown: aio.graceful_shutdown,
}
OTHERWISE = {
    "fn",
    "once",
    "on_end",
    "on_gap",
    "channel",
    "channels",
    "pattern",
    "patterns",
    "shard",
    "probing",
}
"""Parameters of calls that give what arrives to a function, or to a loop; and what only katax itself needs."""


@pytest.mark.parametrize("plain", PAIRS, ids=lambda plain: plain.__name__)
def test_the_same_parameters_and_defaults(plain: Any) -> None:
    awaited = PAIRS[plain]
    if not isinstance(plain, type):
        assert parameters(awaited) == parameters(plain)
        return
    names = {name for name in dir(plain) if name[0] != "_" and hasattr(awaited, name)}
    calls = {name for name in names if callable(getattr(plain, name))}
    assert calls, "they have no call in common"
    different = {
        name: (parameters(getattr(plain, name)), parameters(getattr(awaited, name)))
        for name in calls
        if parameters(getattr(plain, name)) != parameters(getattr(awaited, name))
    }
    # A container for tasks says on which connection records are; that for threads takes the registered ones.
    different.pop("records", None)
    assert different == {}


def parameters(call: Callable[..., Any]) -> list[tuple[str, object]]:
    return [
        (name, each.default) for name, each in signature(call).parameters.items() if name not in OTHERWISE
    ]
