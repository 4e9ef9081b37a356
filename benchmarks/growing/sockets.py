"""Socket.IO: one event to more and more clients, and to the same clients on more and more workers."""

from __future__ import annotations

import asyncio
import resource
import sys
import time
from contextlib import ExitStack
from urllib.request import urlopen

from harness import cpu_seconds
from ws import BROADCASTS, Contender

from growing.fit import Cost, Growth, Place
from growing.programs import megabytes, profile

CLIENTS = 400
"""Of all workers together."""
RUNS = 3
SERVER = f"""
import sys, time
from katax_cli import Katax
from katax_cli.profiles.load import load_profile
with Katax(load_profile("grow", cwd=sys.argv[1])) as katax:
    server = katax.socket("grown", port=0, redis=sys.argv[2] or None)
    print(server.port, flush=True)
    for _ in sys.stdin:
        for n in range({BROADCASTS}):
            server.emit("news", {{"n": n, "at": time.time()}})
"""


def broadcasting(size: int, place: Place) -> Cost:
    """From the first of the events until all clients of one server have all of them; without the clients' work."""
    profile(place, "redis")
    return asyncio.run(_broadcast(place, clients=size, workers=1, redis=""))


def sharing(size: int, place: Place) -> Cost:
    """The same events to the clients of all workers; the processor time of the workers together."""
    profile(place, "redis")
    return asyncio.run(_broadcast(place, clients=CLIENTS, workers=size, redis="cache"))


async def _broadcast(place: Place, *, clients: int, workers: int, redis: str) -> Cost:
    command = [sys.executable, "-c", SERVER, str(place.folder), redis]
    with ExitStack() as stack:
        servers = []
        for number in range(workers):
            share = clients // workers + (number < clients % workers)
            servers.append(Contender(f"worker {number}", command, share))
            stack.callback(servers[-1].close)
        for server in servers:
            await asyncio.to_thread(_ready, server.port)
            await server.connect()
        before = sum(cpu_seconds(server.process.pid) for server in servers)
        seconds = []
        for _ in range(RUNS):
            for server in servers:
                server.expect()
            started = time.perf_counter()
            servers[0].broadcast()
            await asyncio.gather(*(server.received() for server in servers))
            seconds.append(time.perf_counter() - started)
        used = sum(cpu_seconds(server.process.pid) for server in servers) - before
        most = sum(megabytes(server.process.pid) for server in servers)
        return Cost(used / RUNS, most, min(seconds))


def _ready(port: int) -> None:
    """Waits until the server hears the others; until then it answers 503."""
    end = time.monotonic() + 60.0
    while True:
        try:
            with urlopen(f"http://127.0.0.1:{port}/ready", timeout=5.0):
                return
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.1)


def growths() -> list[Growth]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 16_384)), hard))
    return [
        Growth(
            f"ws, {BROADCASTS} events to clients", "redis", (125, 375, 1_000), (10, 100, 500, 1_000, 2_000),
            broadcasting, start=None, tries=1,
        ),
        Growth(
            f"ws, {BROADCASTS} events to {CLIENTS} clients of workers", "redis", (1, 2, 4), (1, 2, 4, 8),
            sharing, start=None, tries=1,
        ),
    ]  # fmt: skip
