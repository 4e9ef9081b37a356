"""Deleting a million keys by pattern beside redis-cli, with what another client feels meanwhile; and many keys in
and out beside a redis-py pipeline."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from statistics import median, quantiles
from time import perf_counter
from typing import Any

import redis as driver
from harness import compare, finish, row

KEYS = 1_000_000
MANY = 100_000
RUNS = 3
ROOT = Path(__file__).parents[1]


def main() -> int:
    with full_server() as (url, redis_cli):
        purge(url, redis_cli)
        many_keys(url)
    return finish()


@contextmanager
def full_server() -> Iterator[tuple[str, str]]:
    """A Redis of the Debian release, and the path of its redis-cli."""
    sys.path.insert(0, str(ROOT))
    from tests.servers.fleet import Fleet

    with closing(Fleet()) as fleet:
        server = fleet.private("redis", full=True, settings={"appendonly": "no"})
        assert server.tools is not None
        tool = server.tools / "redis-cli"
        yield server.url, str(tool) if tool.exists() else str(shutil.which("redis-cli"))


def fill(client: driver.Redis) -> None:
    client.flushdb()
    script = (
        "for n = ARGV[1], ARGV[2] do redis.call('SET', 'temp:' .. n, 'xxxxxxxxxxxxxxxxxxxx') end return 1"
    )
    for start in range(0, KEYS, 10_000):
        client.eval(script, 0, start, start + 9_999)
    client.mset({f"kept:{number}": "x" for number in range(10_000)})


def purge(url: str, redis_cli: str) -> None:
    """Both ways in turn on the same keys, each as the command that a person types."""
    client = driver.Redis.from_url(url)
    seconds: dict[str, list[float]] = {"katax": [], "redis-cli": []}
    felt: dict[str, list[float]] = {"katax": [], "redis-cli": []}
    with tempfile.TemporaryDirectory() as folder:
        ways = {"katax": katax_clear(url, folder), "redis-cli": cli_unlink(url, redis_cli)}
        for number in range(RUNS):
            for name in sorted(ways, reverse=bool(number % 2)):
                fill(client)
                with felt_by_another(url) as latencies:
                    started = perf_counter()
                    subprocess.run(ways[name], shell=True, check=True, cwd=folder, stdout=subprocess.DEVNULL)
                    seconds[name].append(perf_counter() - started)
                felt[name].append(p99(latencies))
                assert client.dbsize() == 10_000, f"{name} left {client.dbsize()} keys"
    row(
        f"cache: clear 'temp:*' of {KEYS:,} keys",
        katax_seconds=median(seconds["katax"]),
        peer_name="redis-cli --scan | xargs -n 1000 redis-cli unlink",
        peer_seconds=median(seconds["redis-cli"]),
        target=0.8,
    )
    row(
        "cache: p99 of another client's GET meanwhile",
        katax_seconds=median(felt["katax"]),
        peer_name="redis-cli --scan | xargs -n 1000 redis-cli unlink",
        peer_seconds=median(felt["redis-cli"]),
        target=3.0,
    )


def katax_clear(url: str, folder: str) -> str:
    profiles = Path(folder) / "profiles"
    profiles.mkdir()
    (profiles / "bench.toml").write_text(
        f'role = "dev"\n[connections.cache]\ntype = "redis"\nurl = "{url}"\n'
    )
    return f"{shlex.quote(sys.executable)} -m katax_cli cache clear 'temp:*' -y -q"


def cli_unlink(url: str, redis_cli: str) -> str:
    os.environ["REDISCLI_AUTH"] = driver.Redis.from_url(url).get_connection_kwargs()["password"]
    port = driver.Redis.from_url(url).get_connection_kwargs()["port"]
    tool = f"{shlex.quote(redis_cli)} -p {port}"
    return f"{tool} --scan --pattern 'temp:*' | xargs -n 1000 {tool} unlink"


@contextmanager
def felt_by_another(url: str) -> Iterator[list[float]]:
    """Seconds of each GET of a client that asks a thousand times a second, in a process of its own."""
    asking = subprocess.Popen(
        [sys.executable, "-c", ASKER, url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert asking.stdout is not None
    asking.stdout.readline()
    latencies: list[float] = []
    yield latencies
    out, _ = asking.communicate("")
    latencies += json.loads(out)


ASKER = """
import json, sys, redis
from threading import Thread
from time import perf_counter, sleep
client = redis.Redis.from_url(sys.argv[1])
client.get("kept:1")
print("ready", flush=True)
ended = []
Thread(target=lambda: (sys.stdin.read(), ended.append(1)), daemon=True).start()
seen = []
while not ended:
    started = perf_counter()
    client.get("kept:1")
    seen.append(perf_counter() - started)
    sleep(0.001)
print(json.dumps(seen))
"""


def p99(latencies: list[float]) -> float:
    return quantiles(latencies, n=100)[98]


def many_keys(url: str) -> None:
    from katax_cli.services.cache.cache import Cache

    sys.path.insert(0, str(ROOT))
    from tests.services.redis_database import opened

    values: dict[str, Any] = {
        f"user:{n}": {"id": n, "name": f"user {n}", "active": True} for n in range(MANY)
    }
    client = driver.Redis.from_url(url)

    def peer_set() -> None:
        pipe = client.pipeline(transaction=False)
        for key, value in values.items():
            pipe.set(key, json.dumps(value, separators=(",", ":"), ensure_ascii=False))
        pipe.execute()

    def peer_get() -> None:
        pipe = client.pipeline(transaction=False)
        for key in values:
            pipe.get(key)
        assert len([json.loads(data) for data in pipe.execute()]) == MANY

    with opened(url) as database:
        cache = Cache(database)
        compare(
            f"cache: mset of {MANY:,} keys",
            katax=lambda: cache.mset(values),
            peers={"redis-py pipeline": peer_set},
            runs=5,
        )
        assert cache.mget(values) == list(values.values())
        compare(
            f"cache: mget of {MANY:,} keys",
            katax=lambda: cache.mget(values),
            peers={"redis-py pipeline": peer_get},
            runs=5,
        )


if __name__ == "__main__":
    sys.exit(main())
