"""A Node program with ioredis and katax read what the other wrote. Runs where Node is (CI has it)."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from katax_cli.errors import LockHeld
from katax_cli.services.cache.cache import Cache
from katax_cli.services.databases.clients import RedisDatabase
from katax_cli.services.locks.lock import Lock
from katax_cli.services.program.records import RecordStore
from katax_cli.services.redis.pubsub import PubSub
from katax_cli.services.redis.sessions import SessionStore
from tests.servers.rooms import cache_folder, locked
from tests.services.redis_database import opened

IOREDIS = "ioredis@5.6.1"

pytestmark = pytest.mark.needs_node


@pytest.fixture(scope="module")
def modules() -> Path:
    """A folder with ioredis in node_modules, fetched once."""
    folder = cache_folder() / "node" / IOREDIS.replace("@", "-")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with locked(folder.with_suffix(".lock")):
        if not (folder / "node_modules" / "ioredis").exists():
            half = folder.with_suffix(".half")
            shutil.rmtree(half, ignore_errors=True)
            words = ["npm", "install", "--prefix", str(half), "--no-audit", "--no-fund", "--silent", IOREDIS]
            subprocess.run(words, check=True)
            half.rename(folder)
    return folder


@pytest.fixture
def redis(redis_url: str) -> Iterator[RedisDatabase]:
    with opened(redis_url) as database:
        yield database


def node(modules: Path, url: str, script: str) -> Any:
    """Runs a script with `redis` connected; what it returns, by way of JSON."""
    program = f"""
        const Redis = require("ioredis");
        const redis = new Redis(process.argv[1]);
        (async () => {{ {script} }})().then(
            (answer) => {{ console.log(JSON.stringify(answer === undefined ? null : answer)); redis.disconnect(); }},
            (error) => {{ console.error(error); process.exit(1); }});
    """
    done = subprocess.run(
        ["node", "-e", program, url],
        env={**os.environ, "NODE_PATH": str(modules / "node_modules")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


VALUES: dict[str, Any] = {
    "object": {"id": 123, "name": "Jöhn \u2028 \u0001", "nested": {"list": [1, None, True, {}], "empty": []}},
    "text": 'plain \\ " text',
    "one": 1.0,
    "tenth": 0.1,
    "small": 1e-7,
    "large": 1e21,
    "huge": 123456789012345680000.0,
    "negative": -2.5e-300,
    "null": None,
    "false": False,
    "emoji": "😀",
}


def as_doubles(value: Any) -> Any:
    """All numbers as JavaScript has them."""
    return json.loads(json.dumps(value), parse_int=float)


def test_node_reads_what_katax_wrote_byte_for_byte(
    redis: RedisDatabase, redis_url: str, modules: Path
) -> None:
    """Bytes equal to JSON.stringify's of the same value, and the same value after JSON.parse."""
    Cache(redis).mset(VALUES)
    script = """
        const answer = {};
        for (const key of (await redis.keys("*"))) {
            const text = await redis.get(key);
            answer[key] = [JSON.parse(text), JSON.stringify(JSON.parse(text)) === text];
        }
        return answer;
    """
    read = node(modules, redis_url, script)
    assert as_doubles(read) == as_doubles({key: [value, True] for key, value in VALUES.items()})


def test_katax_reads_what_node_wrote(redis: RedisDatabase, redis_url: str, modules: Path) -> None:
    script = f"""
        for (const [key, value] of Object.entries({json.dumps(VALUES)})) {{
            await redis.set(key, JSON.stringify(value), "EX", 100);
        }}
        await redis.set("bare", "not json");
        await redis.incrby("counter", 41);
    """
    node(modules, redis_url, script)
    cache = Cache(redis)
    assert as_doubles({key: cache.get(key) for key in VALUES}) == as_doubles(VALUES)
    assert cache.get("bare") == "not json"
    assert cache.incr("counter") == 42
    assert 0 < cache.ttl("text") <= 100


def test_sessions_and_records_of_both(redis: RedisDatabase, redis_url: str, modules: Path) -> None:
    sessions, users = SessionStore(redis), RecordStore("users", redis)
    id = sessions.create({"userId": 7})
    users.create({"id": "u1", "name": "Ada"})
    script = f"""
        const session = JSON.parse(await redis.get("session:{id}"));
        await redis.set("session:{id}", JSON.stringify({{...session, cart: [1.0]}}), "KEEPTTL");
        const user = JSON.parse(await redis.get("users:u1"));
        await redis.set("users:u2", JSON.stringify({{...user, id: "u2"}}));
        return [session, user];
    """
    assert node(modules, redis_url, script) == [{"userId": 7}, {"id": "u1", "name": "Ada"}]
    assert sessions.get(id) == {"userId": 7, "cart": [1]}
    assert users.list().pager.total == 2
    assert users.update({"id": "u2", "name": "Eve"}) == {"id": "u2", "name": "Eve"}


def test_messages_and_locks_of_both(redis: RedisDatabase, redis_url: str, modules: Path) -> None:
    heard: list[Any] = []
    with PubSub(redis) as pubsub, Lock(redis, "mine"):
        pubsub.subscribe("news", heard.append)
        script = """
            const taken = await redis.set("lock:mine", "1", "NX", "EX", 10);
            await redis.set("lock:theirs", "1", "NX", "EX", 10);
            const subscriber = redis.duplicate();
            const arrived = new Promise((resolve) => subscriber.on("message", (_, text) => resolve(JSON.parse(text))));
            await subscriber.subscribe("answers");
            await redis.publish("news", JSON.stringify({type: "user.login"}));
            const answer = await arrived;
            subscriber.disconnect();
            return [taken, answer];
        """
        pubsub.subscribe("news", lambda _message: pubsub.publish("answers", {"x": 1.0}))
        assert node(modules, redis_url, script) == [None, {"x": 1}]
    assert heard == [{"type": "user.login"}]
    with pytest.raises(LockHeld):
        Lock(redis, "theirs").acquire()
