"""katax's Socket.IO server beside a bare python-socketio on uvicorn, and socket.io of Node: one event to everybody.

Every server runs in a process of its own; in turn each gets all its clients and broadcasts to them. The time of a
run is from the first emit to the last arrival, and no client may miss an event. Node's package is looked for where
KATAX_BENCH_NODE says (a folder in which `npm install socket.io` was run); its server hands all broadcasts over
before it sends, so that its latencies are about as long as its run.
"""

from __future__ import annotations

import asyncio
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median, quantiles

from harness import finish, row

CLIENTS = 1_000
BROADCASTS = 100
RUNS = 3
TARGET = 1 / 0.95
"""At least 0.95 of the peer's rate."""
SECONDS = 120.0
UPGRADE = (
    "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\n"
    "Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
NODE = """
const { Server } = require(process.argv[1] + "/node_modules/socket.io");
const http = require("http").createServer();
const io = new Server(http, { transports: ["websocket"] });
http.listen(0, "127.0.0.1", 4096, () => console.log(http.address().port));
require("readline").createInterface({ input: process.stdin }).on("line", () => {
  for (let n = 0; n < BROADCASTS; n++) io.emit("news", { n, at: (performance.timeOrigin + performance.now()) / 1000 });
});
""".replace("BROADCASTS", str(BROADCASTS))


TEXT, CLOSE, PING, PONG = 0x81, 0x88, 0x89, 0x8A


class Client(asyncio.Protocol):
    """A Socket.IO client that notes how long each event was on its way; fast, so that the server is measured."""

    def __init__(self, contender: Contender) -> None:
        self.contender = contender
        self.events = 0
        self.rest = b""
        self.upgraded = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.write(UPGRADE.encode())

    def connection_lost(self, error: Exception | None) -> None:
        self.contender.lost(self, f"the connection ended ({error or 'no error'})")

    def data_received(self, data: bytes) -> None:
        self.rest += data
        if not self.upgraded:
            head, found, rest = self.rest.partition(b"\r\n\r\n")
            if not found:
                return
            assert b" 101 " in head, head
            self.upgraded, self.rest = True, rest
        self._frames()

    def _frames(self) -> None:
        rest, at = self.rest, 0
        while len(rest) - at >= 2:
            size, start = rest[at + 1], at + 2
            if size == 126:
                size, start = int.from_bytes(rest[start : start + 2], "big"), start + 2
            if len(rest) < start + size:
                break
            self._take(rest[at], rest[start : start + size])
            at = start + size
        self.rest = rest[at:]

    def _take(self, kind: int, text: bytes) -> None:
        if kind == PING:
            self._send(PONG, text)
        elif kind == CLOSE:
            self.contender.lost(self, f"closed with {int.from_bytes(text[:2], 'big')} {text[2:].decode()}")
        elif text.startswith(b"42"):
            self.events += 1
            self.contender.arrived(float(text.rpartition(b":")[2].rstrip(b"}]")))
        elif text.startswith(b"40"):
            self.contender.joined(self)
        elif text[:1] in (b"0", b"2"):
            self._send(TEXT, b"40" if text[:1] == b"0" else b"3")

    def _send(self, kind: int, text: bytes) -> None:
        self.transport.write(bytes([kind, 0x80 | len(text), 0, 0, 0, 0]) + text)


class Lost(Exception):
    """Not everything arrived, or arrived twice."""


class Contender:
    """One server and its clients."""

    def __init__(self, name: str, command: list[str], clients: int = CLIENTS) -> None:
        self.name = name
        self.wanted = clients
        self.times: list[float] = []
        self.p99: list[float] = []
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.port = next(
            int(line) for line in self.process.stdout if line.strip().isdigit()
        )  # else it is its log
        self._clients: list[Client] = []
        self._latencies: list[float] = []
        self._done: asyncio.Future[None] | None = None

    async def connect(self) -> None:
        loop = asyncio.get_running_loop()
        self._done = loop.create_future()
        for first in range(0, self.wanted, 50):
            number = min(50, self.wanted - first)
            made = [
                loop.create_connection(lambda: Client(self), "127.0.0.1", self.port) for _ in range(number)
            ]
            await asyncio.gather(*made)
        await self._wait(lambda: f"{len(self._clients)} of {self.wanted} clients joined")

    async def run(self) -> None:
        """One run. Raises Lost when an event is missing or came twice."""
        self.expect()
        started = time.perf_counter()
        self.broadcast()
        await self.received()
        self.times.append(time.perf_counter() - started)
        self.p99.append(quantiles(self._latencies, n=100)[-1])

    def expect(self) -> None:
        """The events of one run are about to come."""
        self._latencies.clear()
        self._done = asyncio.get_running_loop().create_future()
        for each in self._clients:
            each.events = 0

    def broadcast(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("go\n")
        self.process.stdin.flush()

    async def received(self) -> None:
        """Until every client has every event. Raises Lost when one is missing or came twice."""
        await self._wait(lambda: f"{len(self._latencies)} of {self.wanted * BROADCASTS} events arrived")
        uneven = sum(each.events != BROADCASTS for each in self._clients)
        if uneven:
            raise Lost(
                f"{self.name}: {uneven} of {self.wanted} clients got another number than {BROADCASTS} events"
            )

    async def disconnect(self) -> None:
        clients, self._clients, self._done = self._clients, [], None
        for each in clients:
            each.transport.abort()
        # The server has its time to see them go.
        await asyncio.sleep(1.0)

    def joined(self, client: Client) -> None:
        self._clients.append(client)
        if len(self._clients) == self.wanted:
            self._settle()

    def arrived(self, sent_at: float) -> None:
        self._latencies.append(time.time() - sent_at)
        if len(self._latencies) == self.wanted * BROADCASTS:
            self._settle()

    def lost(self, client: Client, why: str) -> None:
        if self._done is not None and not self._done.done():
            self._done.set_exception(Lost(f"after {client.events} events {why}"))

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()

    def _settle(self) -> None:
        if self._done is not None and not self._done.done():
            self._done.set_result(None)

    async def _wait(self, count: Callable[[], str]) -> None:
        assert self._done is not None
        try:
            await asyncio.wait_for(self._done, SECONDS)
        except (TimeoutError, Lost) as error:
            raise Lost(f"{self.name}: {count()} ({error or f'within {SECONDS:g} s'})") from error


async def measure(commands: dict[str, list[str]]) -> dict[str, Contender]:
    contenders = {name: Contender(name, command) for name, command in commands.items()}
    try:
        for number in range(RUNS + 1):
            order = list(contenders.values())
            for each in order if number % 2 else reversed(order):
                # One at a time, so that nobody is measured while others' clients are pinged.
                await each.connect()
                await each.run()
                await each.disconnect()
        for each in contenders.values():
            # The first was to warm up.
            del each.times[0], each.p99[0]
        return contenders
    finally:
        for each in contenders.values():
            each.close()


def main() -> int:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 16_384)), hard))
    commands = {name: [sys.executable, __file__, name] for name in SERVERS}
    folder = os.environ.get("KATAX_BENCH_NODE", "")
    if (Path(folder) / "node_modules" / "socket.io").is_dir():
        commands["socket.io (Node)"] = ["node", "-e", NODE, folder]
    found = asyncio.run(measure(commands))
    mine = found["katax"]
    peers = ["bare python-socketio", "socket.io (Node)"]
    for work, values in (
        (f"{BROADCASTS} events to {CLIENTS:,} clients", "times"),
        ("p99 latency of them", "p99"),
    ):
        for name in peers:
            theirs = median(getattr(found[name], values)) if name in found else None
            # The target is the rate beside the bare server; the rest is for information.
            target = TARGET if (values, name) == ("times", peers[0]) else None
            katax = median(getattr(mine, values))
            row(f"ws: {work}", katax_seconds=katax, peer_name=name, peer_seconds=theirs, target=target)
    return finish()


def serve_katax() -> None:
    from katax_cli import Sockets
    from katax_cli.profiles.model.model import WsSettings

    with tempfile.TemporaryDirectory() as home:
        server = Sockets(WsSettings("bench", port=0), home=home)
        print(server.port, flush=True)
        for _ in sys.stdin:
            for n in range(BROADCASTS):
                server.emit("news", {"n": n, "at": time.time()})


def serve_bare() -> None:
    asyncio.run(_serve_bare())


async def _serve_bare() -> None:
    import socket

    import socketio
    import uvicorn

    io = socketio.AsyncServer(async_mode="asgi")
    listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
    config = uvicorn.Config(socketio.ASGIApp(io), log_level="error", lifespan="off", access_log=False)
    serving = asyncio.create_task(uvicorn.Server(config).serve(sockets=[listener]))
    print(listener.getsockname()[1], flush=True)
    while await asyncio.to_thread(sys.stdin.readline):
        for n in range(BROADCASTS):
            await io.emit("news", {"n": n, "at": time.time()})
    serving.cancel()


SERVERS: dict[str, Callable[[], None]] = {"katax": serve_katax, "bare python-socketio": serve_bare}

if __name__ == "__main__":
    if len(sys.argv) > 1:
        SERVERS[sys.argv[1]]()
        sys.exit(0)
    sys.exit(main())
