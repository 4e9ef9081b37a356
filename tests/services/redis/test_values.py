"""Values of databases and codecs, through every service that stores or sends values."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from queue import Queue
from typing import Any
from uuid import UUID

import pytest

from katax_cli import (
    CircuitBreaker,
    HealthMonitor,
    Katax,
    Lock,
    RateLimiter,
    get_metrics,
    graceful_shutdown,
    with_retry,
)
from katax_cli.services.cache.cache import Cache
from katax_cli.services.databases.clients import RedisDatabase
from katax_cli.services.program.records import RecordStore
from katax_cli.services.redis.pubsub import PubSub
from katax_cli.services.redis.sessions import SessionStore
from tests.services.profiles import profile

ROW = {
    "id": UUID("12345678-1234-5678-1234-567812345678"),
    "at": datetime(2026, 1, 2, 3, 4, 5, 678_000, tzinfo=UTC),
    "price": Decimal("1.10"),
    "data": b"\x00\xff",
}
STORED = {
    "id": "12345678-1234-5678-1234-567812345678",
    "at": "2026-01-02T03:04:05.678Z",
    "price": "1.10",
    "data": "AP8=",
}


def test_a_row_of_a_database_goes_everywhere(redis: RedisDatabase) -> None:
    cache, sessions, pubsub = Cache(redis), SessionStore(redis), PubSub(redis)
    records, heard = RecordStore("rows", redis), Queue[Any]()

    cache.set("k", ROW, "1h")
    assert cache.get("k") == STORED
    cache.mset({"a": ROW, "b": [ROW]})
    assert cache.mget(["a", "b"]) == [STORED, [STORED]]
    assert cache.remember("r", "5m", lambda: ROW) == cache.remember("r", 300, dict) == STORED
    id = sessions.create(ROW, ttl="2h")
    assert sessions.get(id) == STORED
    assert sessions.update(id, {"seen": ROW["at"]})
    assert sessions.get(id)["seen"] == STORED["at"]
    with pubsub:
        pubsub.subscribe("c", heard.put)
        pubsub.publish("c", ROW)
        assert heard.get(timeout=60) == STORED
    records.save({**ROW, "id": 1}, ttl="1d")
    assert records.get(1) == {**STORED, "id": 1}


class Reversed:
    """JSON backwards, as bytes that are no UTF-8."""

    def encode(self, value: Any) -> bytes:
        return b"\xff" + base64.b64encode(json.dumps(value).encode())[::-1]

    def decode(self, data: bytes) -> Any:
        return json.loads(base64.b64decode(data[:0:-1]))


def test_a_codec_replaces_json(redis: RedisDatabase) -> None:
    codec, heard = Reversed(), Queue[Any]()
    cache, sessions = Cache(redis, codec=codec), SessionStore(redis, codec=codec)

    cache.set("k", {"a": [1, None]})
    assert redis.redis("GET", "app:k")[:1] == b"\xff"
    assert cache.get("k") == cache.mget(["k"])[0] == {"a": [1, None]}
    assert cache.remember("r", 60, lambda: "v", stale_if_error=True) == "v"
    redis.redis("UNLINK", "app:r")
    assert cache.remember("r", 60, failing, stale_if_error=True) == "v"

    id = sessions.create({"user_id": 7})
    assert sessions.update(id, {"user_id": 8}) == {"user_id": 8}
    assert [session.data for session in sessions.list_for_user(8)] == [{"user_id": 8}]
    assert sessions.touch(id)
    assert sessions.destroy(id)

    with PubSub(redis, codec=codec) as pubsub:
        pubsub.psubscribe("c*", lambda pattern, channel, message: heard.put(message))
        pubsub.publish("c", [1])
        assert heard.get(timeout=60) == [1]

    records = RecordStore("rows", redis, codec=codec)
    records.create({"id": 1, "a": 1})
    assert records.update({"id": 1, "b": 2}) == records.get(1) == {"id": 1, "a": 1, "b": 2}
    assert list(records.list({"b": 2}).items) == [{"id": 1, "a": 1, "b": 2}]


def failing() -> Any:
    raise RuntimeError("the source is away")


def test_seconds_may_be_text_everywhere(redis: RedisDatabase, tmp_path: Path) -> None:
    """In one spelling for all; a text that is no duration is told."""
    katax = Katax(profile(tmp_path, {"main": f"sqlite:///{tmp_path}/t.db"}))
    main = katax.database("main")
    assert main.query("select 1 as one", timeout="1m") == [{"one": 1}]
    with main.transaction(timeout="1m") as transaction:
        assert transaction.query("select 1 as one", timeout="1m") == [{"one": 1}]
    assert main.health_check(timeout="1m")
    assert get_metrics(main, period="1h").period == 3600
    assert HealthMonitor(main, interval="30s").database.name == "main"
    assert CircuitBreaker(reset="1m", window="10s", rate=0.5).policy.window == 10.0
    assert with_retry(lambda: 1, initial="100ms", max="1s", total="1m", delay="10ms") == 1
    katax.cron("job", "@daily", print, timeout="5m", jitter="1s")
    katax.cron_remove("job")
    assert RateLimiter(redis, 5, "1m").window == 60
    with Lock(redis, "l", ttl="30s", wait="1m", max_hold="1h") as lock:
        assert lock.ttl == 30
    assert Cache(redis).set("k", 1, "1h", timeout="1m")
    for wrong in (lambda: main.query("select 1", timeout="soon"), lambda: Cache(redis).set("k", 1, "1 week")):
        with pytest.raises(ValueError, match="is no duration; write seconds or 250ms, 30s, 5m, 2h, 7d"):
            wrong()
    assert graceful_shutdown(katax, timeout="1m").clean
