"""How long services wait for a Redis that is there and does not answer: every call, and the crowd of all of them."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from katax_cli import Katax
from katax_cli.errors import DeadlineExceeded, KataxError, OutcomeUnknown, Unavailable
from katax_cli.services.cache.cache import Cache
from katax_cli.services.databases.clients import ANSWER_SECONDS, RedisDatabase
from katax_cli.services.locks.lock import Lock, held_locks, release_by_force
from katax_cli.services.program.records import RecordStore
from katax_cli.services.redis.limits import ALGORITHMS, RateLimiter
from katax_cli.services.redis.pubsub import PubSub
from katax_cli.services.redis.sessions import SessionStore
from katax_cli.services.runtime.runtime import Runtime
from tests.servers import Server
from tests.servers.fixtures import Throwaway
from tests.services.profiles import profile
from tests.services.redis_database import redis_database
from tests.waiting import SECONDS, until

Call = Callable[..., object]
USUAL = RedisDatabase.patience
"""A program's; the other tests have more."""


def reads(database: RedisDatabase) -> dict[str, Call]:
    cache, sessions, records = Cache(database), SessionStore(database), RecordStore("r", database)
    return {
        "get": lambda **t: cache.get("k", **t),
        "get_raw": lambda **t: cache.get_raw("k", **t),
        "mget": lambda **t: cache.mget(["k", "l"], **t),
        "exists": lambda **t: cache.exists("k", **t),
        "ttl": lambda **t: cache.ttl("k", **t),
        "scan": lambda **t: list(cache.scan("*", **t)),
        "survey": lambda **t: cache.survey("*", **t),
        "stats": lambda **t: cache.stats(**t),
        "remember": lambda **t: cache.remember("k", 10, dict, **t),
        "session get": lambda **t: sessions.get("s", **t),
        "list_for_user": lambda **t: sessions.list_for_user("u", **t),
        "revoke": lambda **t: sessions.revoke("u", **t),
        **{
            f"peek {algorithm}": lambda algorithm=algorithm, **t: RateLimiter(
                database, algorithm=algorithm
            ).peek("k", **t)
            for algorithm in ALGORITHMS
        },
        "held_locks": lambda **t: held_locks(database, **t),
        "record get": lambda **t: records.get("1", **t),
        "record load": lambda **t: records.load("x", "name", **t),
        "record update": lambda **t: records.update({"id": 1}, **t),
        "list": lambda **t: records.list({"a": 1}, **t),
        "record count": lambda **t: records.count(**t),
        "record purge": lambda **t: records.purge(**t),
        "compare_and_set": lambda **t: records.compare_and_set({"id": 1}, {"id": 1}, **t),
        "subscribe": lambda **t: PubSub(database).subscribe("c", print, **t),
        "psubscribe": lambda **t: PubSub(database).psubscribe("c*", print, **t),
        "record subscribe": lambda **t: records.subscribe(print, **t),
    }


def writes(database: RedisDatabase) -> dict[str, Call]:
    cache, sessions, records = Cache(database), SessionStore(database), RecordStore("r", database)
    return {
        "set": lambda **t: cache.set("k", 1, "1h", **t),
        "mset": lambda **t: cache.mset({"k": 1}, **t),
        "mset ttl": lambda **t: cache.mset({"k": 1}, "5m", **t),
        "delete": lambda **t: cache.delete("k", **t),
        "del_many": lambda **t: cache.del_many(["k"], **t),
        "forget": lambda **t: cache.forget("k", **t),
        "expire": lambda **t: cache.expire("k", "1h", **t),
        "persist": lambda **t: cache.persist("k", **t),
        "incr": lambda **t: cache.incr("k", **t),
        "incr_by": lambda **t: cache.incr_by("k", 2, **t),
        "decr": lambda **t: cache.decr("k", **t),
        "clear": lambda **t: cache.clear("*", **t),
        "invalidate": lambda **t: cache.invalidate("user", **t),
        "flush": lambda **t: cache.flush(**t),
        "create": lambda **t: sessions.create({"user_id": 1}, ttl="1h", **t),
        "session set": lambda **t: sessions.set("s", {}, **t),
        "touch": lambda **t: sessions.touch("s", **t),
        "extend": lambda **t: sessions.extend("s", **t),
        "destroy": lambda **t: sessions.destroy("s", **t),
        **{
            f"check {algorithm}": lambda algorithm=algorithm, **t: RateLimiter(
                database, algorithm=algorithm
            ).check("k", **t)
            for algorithm in ALGORITHMS
        },
        "consume": lambda **t: RateLimiter(database).consume("k", **t),
        "reset": lambda **t: RateLimiter(database).reset("k", **t),
        "acquire": lambda **t: given_back(Lock(database, "l"), **t),
        "release_by_force": lambda **t: release_by_force(database, "l", **t),
        "record create": lambda **t: records.create({"id": 1}, **t),
        "save": lambda **t: records.save({"id": 1}, **t),
        "record delete": lambda **t: records.delete("1", **t),
        "pick": lambda **t: records.pick("1", **t),
        "publish": lambda **t: PubSub(database).publish("c", 1, **t),
        "record publish": lambda **t: records.publish(1, **t),
    }


def given_back(lock: Lock, **timeout: Any) -> None:
    """Takes it and gives it back, so that nothing renews it behind the test."""
    lock.acquire(**timeout)
    lock.release()


@pytest.fixture
def frozen(throwaway: Throwaway) -> Iterator[RedisDatabase]:
    """A database with an open connection, on a server that stopped answering."""
    server = throwaway("redis")
    database = redis_database(server.url, connect_timeout=0.3)
    database.patience = USUAL
    try:
        until(database.health_check)
        server.stop_signal()
        yield database
    finally:
        server.resume()
        database.close()


def outcome(call: Call, **timeout: object) -> BaseException | object:
    try:
        return call(**timeout)
    except KataxError as error:
        return error


def test_every_call_takes_a_timeout(frozen: RedisDatabase) -> None:
    """What was sent on the connection that was open is in doubt; later ones are opened anew and never sent."""
    assert frozen.answer_seconds == ANSWER_SECONDS == 2.0
    # A busy machine may need that long to begin; then nothing was sent, and the connection is still there.
    until(lambda: isinstance(outcome(writes(frozen)["set"], timeout=0.02), OutcomeUnknown))
    for name, call in (reads(frozen) | writes(frozen)).items():
        error = outcome(call, timeout="20ms")
        assert isinstance(error, Unavailable), (name, error)


def test_a_read_that_was_not_answered_is_not_in_doubt(frozen: RedisDatabase) -> None:
    error = outcome(lambda: frozen.redis("GET", "k", timeout=0.05))
    assert isinstance(error, DeadlineExceeded)
    assert str(error) == "'cache' is not available: GET took longer than 0.05 s"


def test_each_answer_is_waited_for_as_long_as_the_patience_lasts(frozen: RedisDatabase) -> None:
    frozen.patience = 0.05
    for name, call in reads(frozen).items():
        error = outcome(call)
        assert isinstance(error, Unavailable), (name, error)
        assert not isinstance(error, DeadlineExceeded) or error.seconds == 0.05, (name, error)


def test_an_open_limit_stays_open_and_a_value_is_computed_without_the_server(frozen: RedisDatabase) -> None:
    frozen.patience = 0.05
    assert RateLimiter(frozen, on_error="open").check("k").allowed
    assert not RateLimiter(frozen, on_error="closed").check("k").allowed
    assert RateLimiter(frozen, on_error="open").peek("k").allowed
    assert Cache(frozen).remember("k", 60, lambda: "computed", stale_if_error=True) == "computed"


def test_a_crowd_waits_for_one_opening(server_that_never_answers: Server) -> None:
    """Threads that come while the first connection is opened wait beside each other, not one after the other."""
    database = redis_database(server_that_never_answers.url, connect_timeout=SECONDS)
    errors: list[Any] = []
    threads = [
        Thread(target=lambda: errors.append(outcome(lambda: Cache(database).get("k", timeout=0.2))))
        for _ in range(40)
    ]
    opened = count_openings(database)
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(isinstance(error, Unavailable) for error in errors), errors
    assert opened() < 10
    database.close()


def test_freezing_at_random_moments_leaves_no_caller_behind(throwaway: Throwaway) -> None:
    """16 threads of all calls: each one ends, and all work again when the server does."""
    server = throwaway("redis")
    database = redis_database(server.url)
    database.patience = 0.3
    calls = [*reads(database).items(), *writes(database).items()]
    strangers: list[object] = []
    stopping = False

    def work(seed: int) -> None:
        dice = random.Random(seed)
        while not stopping:
            name, call = dice.choice(calls)
            try:
                call()
            except (KataxError, ValueError):
                pass
            except BaseException as error:  # noqa: BLE001 - what must not happen
                strangers.append((name, error))

    threads = [Thread(target=work, args=(seed,)) for seed in range(16)]
    for thread in threads:
        thread.start()
    try:
        for pause in (0.05, 0.4, 0.1, 0.5):
            server.stop_signal()
            threads[0].join(pause)
            server.resume()
            threads[0].join(0.1)
    finally:
        stopping = True
        for thread in threads:
            thread.join()
    assert strangers == []
    database.patience = SECONDS
    assert database.redis("PING") == b"PONG"
    until(lambda: database.pool_stats().active == 0)
    database.close()


@pytest.fixture
def server_that_never_answers(throwaway: Throwaway) -> Iterator[Server]:
    server = throwaway("redis")
    server.stop_signal()
    yield server
    server.resume()


def count_openings(database: RedisDatabase) -> Callable[[], int]:
    """How often a client of the driver was made."""
    made, connect = [], database.engine.connect

    def counted(timeout: float | None) -> Any:
        made.append(timeout)
        return connect(timeout)

    database.engine.connect = counted  # type: ignore[method-assign]
    return lambda: len(made)


def test_a_command_has_one_budget_instead(
    redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RedisDatabase, "patience", USUAL)
    with Runtime(profile(tmp_path, {"main": redis_url}), one_shot=True) as command:
        assert command.redis(command.profile.connection("main")).answer_seconds is None
    with Runtime(profile(tmp_path, {"main": redis_url})) as program:
        database = program.redis(program.profile.connection("main"))
        database.connect()
        assert database.answer_seconds == ANSWER_SECONDS


def test_what_is_known_to_read_is_what_the_server_flags(redis7: Server) -> None:
    """And each command of ours that changes something says that it does."""
    from katax_cli.engines.redis.guard import READS, only_reads

    database = redis_database(redis7.url)
    facts = dict(zip(sorted(READS), database.redis("COMMAND", "INFO", *sorted(READS)), strict=True))
    flagged = {name for name, fact in facts.items() if fact is not None and b"readonly" in fact[2]}
    assert sorted(set(facts) - flagged) == []
    words: tuple[Any, ...]
    for words in (("SET", "k", 1), ("GETEX", "k", "EX", 1), ("CONFIG", "SET", "a", "b"), ("EVAL", "", 0), ()):
        assert not only_reads(words), words
    for words in (("get", "k"), (b"GETEX", "k"), ("CONFIG", "GET", "a"), ("MEMORY", "USAGE", "k"), ("PING",)):
        assert only_reads(words), words
    database.close()


def test_a_program_says_how_calls_on_its_connection_are_repeated(closed_port: int, tmp_path: Path) -> None:
    katax = Katax(profile(tmp_path, {"main": "sqlite:///t.db"}))
    url = f"redis://127.0.0.1:{closed_port}"
    tried: list[int] = []
    for attempts in (1, 4):
        retry = {"attempts": attempts, "initial": "1ms", "max": 0.001}
        name = f"tried-{attempts}"
        database = katax.database(name, connection={"url": url, "retry": retry, "breaker": {"failures": 99}})
        opened = count_openings(database)
        with pytest.raises(Unavailable):
            database.redis("GET", "k")
        tried.append(opened())
    assert tried == [1, 4]
    katax.shutdown()
