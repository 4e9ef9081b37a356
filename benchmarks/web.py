"""FastAPI on one uvicorn worker with one `select` a request, by 64 connections that a process of its own keeps busy.

Every contender is a server of its own with a pool of ten connections; they are loaded in turn, and every answer is
compared with its question. katax brings a deadline, retries, a breaker and observation; the peers have none of these.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from importlib import import_module
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from harness import cpu_seconds, finish, present, rotated, row, server

CLIENTS = 64
REQUESTS = 3200
RUNS = 7
CONNECTIONS = 10
COMPARED = (
    ("katax.aio", "psycopg_pool, async", 1 / 0.9),
    ("katax.aio", "asyncpg", None),
    ("katax", "psycopg_pool", 1 / 0.95),
)
"""katax, its peer, and the most allowed of their times; None: for information."""
SECONDS = 60.0
Setup = Callable[[Any, str], Any]


def main() -> int:
    if not present("fastapi"):
        print("fastapi is absent; see benchmarks/requirements.txt")
        return 0
    with server("postgresql") as url, TemporaryDirectory() as folder, ExitStack() as stack:
        servers = {name: stack.enter_context(served(name, url, folder)) for name in SERVERS if _is_here(name)}
        walls: dict[str, list[float]] = {name: [] for name in servers}
        cpus: dict[str, list[float]] = {name: [] for name in servers}
        for number in range(RUNS + 1):
            for name in rotated(list(servers), number):
                wall, cpu = loaded(*servers[name])
                if number:  # the first run warms up
                    walls[name].append(wall)
                    cpus[name].append(cpu)
        for katax, peer, target in COMPARED:
            row(
                f"FastAPI, {katax}: {REQUESTS} × select by {CLIENTS} connections",
                katax_seconds=median(walls[katax]),
                peer_name=peer,
                peer_seconds=median(walls[peer]) if peer in walls else None,
                target=target,
                katax_cpu=median(cpus[katax]),
                peer_cpu=median(cpus[peer]) if peer in cpus else None,
            )
    return finish()


def _is_here(name: str) -> bool:
    return name != "asyncpg" or present("asyncpg")


@contextmanager
def served(name: str, url: str, folder: str) -> Iterator[tuple[int, int]]:
    """The port and the process of a contender's server, which ends with the context."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    program = subprocess.Popen(
        [sys.executable, os.path.abspath(__file__), "serve", name, url, str(port)], cwd=folder
    )
    try:
        _await_port(port)
        yield port, program.pid
    finally:
        program.terminate()
        program.wait(SECONDS)


def _await_port(port: int) -> None:
    give_up = time.monotonic() + SECONDS
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            if time.monotonic() > give_up:
                raise
            time.sleep(0.05)
        else:
            return


def loaded(port: int, pid: int) -> tuple[float, float]:
    """Seconds on the wall, and of processor time of the server, for all requests from a process of its own."""
    used = cpu_seconds(pid)
    command = [sys.executable, os.path.abspath(__file__), "load", str(port)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return float(done.stdout), cpu_seconds(pid) - used


class Client(asyncio.Protocol):
    """One connection that asks again as soon as it has its answer."""

    def __init__(self, questions: Iterator[int], ended: asyncio.Future[None]) -> None:
        self._questions = questions
        self._ended = ended
        self._rest = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._ask()

    def data_received(self, data: bytes) -> None:
        self._rest += data
        head, gap, body = self._rest.partition(b"\r\n\r\n")
        if not gap or not body.endswith(b"}"):
            return
        if b" 200 " not in head[:16] or json.loads(body) != {"n": self._question}:
            self._ended.set_exception(ValueError(f"asked for {self._question}, got {self._rest!r}"))
            return
        self._rest = b""
        self._ask()

    def connection_lost(self, error: Exception | None) -> None:
        if not self._ended.done():
            self._ended.set_exception(error or EOFError("the server closed the connection"))

    def _ask(self) -> None:
        question = next(self._questions, None)
        if question is None:
            self._ended.set_result(None)
            self._transport.close()
            return
        self._question = question
        self._transport.write(f"GET /n/{question} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())


async def load_all(port: int) -> None:
    loop, began = asyncio.get_running_loop(), time.perf_counter()
    questions = iter(range(REQUESTS))
    ends: list[asyncio.Future[None]] = [loop.create_future() for _ in range(CLIENTS)]
    for ended in ends:
        await loop.create_connection(lambda ended=ended: Client(questions, ended), "127.0.0.1", port)  # type: ignore[misc]
    await asyncio.gather(*ends)
    print(time.perf_counter() - began)


def serve(name: str, url: str, port: int) -> None:
    import uvicorn

    fastapi: Any = import_module("fastapi")

    @asynccontextmanager
    async def lifespan(_app: Any) -> AsyncIterator[None]:
        async with SERVERS[name](app, url):
            yield

    app = fastapi.FastAPI(lifespan=lifespan)
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="error", access_log=False)


def _config(url: str) -> dict[str, Any]:
    connection = {"url": url, "pool": {"max": CONNECTIONS}}
    return {"role": "dev", "logging": {"queries": "off"}, "connections": {"main": connection}}


@asynccontextmanager
async def katax_aio(app: Any, url: str) -> AsyncIterator[None]:
    from katax_cli.aio import AsyncKatax

    async with AsyncKatax(config=_config(url)) as katax:
        db = katax.database("main", type="postgresql")

        async def read(n: int) -> Any:
            return (await db.query("select $1::int as n", [n]))[0]

        app.add_api_route("/n/{n}", read)

        yield


@asynccontextmanager
async def katax_threads(app: Any, url: str) -> AsyncIterator[None]:
    from katax_cli import Katax

    with Katax(config=_config(url)) as katax:
        db = katax.database("main", type="postgresql")

        def read(n: int) -> Any:
            return db.query("select $1::int as n", [n])[0]

        app.add_api_route("/n/{n}", read)

        yield


def _settings() -> dict[str, Any]:
    from psycopg.rows import dict_row

    return {
        "min_size": CONNECTIONS, "max_size": CONNECTIONS, "open": False,
        "kwargs": {"autocommit": True, "row_factory": dict_row},
    }  # fmt: skip


@asynccontextmanager
async def psycopg_async(app: Any, url: str) -> AsyncIterator[None]:
    from psycopg_pool import AsyncConnectionPool

    async with AsyncConnectionPool(url, **_settings()) as pool:

        async def read(n: int) -> Any:
            async with pool.connection() as connection:
                return await (await connection.execute("select %s::int as n", [n])).fetchone()

        app.add_api_route("/n/{n}", read)

        yield


@asynccontextmanager
async def psycopg_threads(app: Any, url: str) -> AsyncIterator[None]:
    from psycopg_pool import ConnectionPool

    with ConnectionPool(url, **_settings()) as pool:

        def read(n: int) -> Any:
            with pool.connection() as connection:
                return connection.execute("select %s::int as n", [n]).fetchone()

        app.add_api_route("/n/{n}", read)

        yield


@asynccontextmanager
async def through_asyncpg(app: Any, url: str) -> AsyncIterator[None]:
    asyncpg: Any = import_module("asyncpg")
    async with asyncpg.create_pool(url, min_size=CONNECTIONS, max_size=CONNECTIONS) as pool:

        async def read(n: int) -> Any:
            return dict(await pool.fetchrow("select $1::int as n", n))

        app.add_api_route("/n/{n}", read)

        yield


SERVERS: dict[str, Setup] = {
    "katax.aio": katax_aio,
    "psycopg_pool, async": psycopg_async,
    "asyncpg": through_asyncpg,
    "katax": katax_threads,
    "psycopg_pool": psycopg_threads,
}

if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        serve(sys.argv[2], sys.argv[3], int(sys.argv[4]))
    elif sys.argv[1:2] == ["load"]:
        asyncio.run(load_all(int(sys.argv[2])))
    else:
        sys.exit(main())
