"""A FastAPI application served by uvicorn: its whole life, several workers, SIGTERM under load, a killed database."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from starlette.requests import Request

from katax_cli import Katax
from katax_cli.errors import ConfigError
from katax_cli.integrations.starlette import Lifespan, current_katax
from katax_cli.profiles.load import load_profile
from tests.integrations.web import Started, WebServer, uvicorn
from tests.servers.fixtures import Throwaway
from tests.services.runtimes import CALM, patient, write_profile
from tests.waiting import SECONDS, until

APP = "fastapi_app:app"


def place(server: WebServer, number: int) -> int | None:
    """The status of the answer to an order; None when there was none."""
    with suppress(httpx.TransportError):
        return server.web.post("/orders", json={"id": number, "item": f"item {number}"}).status_code
    return None


def order_and_leave(port: int, number: int) -> None:
    """Sends an order and hangs up before it is answered."""
    body = json.dumps({"id": number, "item": "tea"}).encode()
    head = f"POST /orders HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", port)) as wire:
        wire.sendall(head.encode() + body)


def test_the_example_serves(tmp_path: Path, postgresql_url: str, redis_url: str, closed_port: int) -> None:
    main = patient({"url": postgresql_url, "pool": {"max": 2}})
    write_profile(tmp_path, CALM, main=main, redis=patient(redis_url))
    with uvicorn(APP, tmp_path, closed_port) as server:
        web, order = server.web, {"id": 7, "item": "tea"}
        for number in range(100, 150):
            order_and_leave(closed_port, number)
        assert web.post("/orders", json=order).status_code == 201
        assert server.look("/orders/7").json() == order
        assert server.look("/orders/8").status_code == 404
        until(lambda: web.get("/ready").json() == {"ready": True, "connections": {"main": "healthy"}})

        assert web.get("/me").status_code == 401
        answer = web.post("/login", json={"name": "ada"})
        assert answer.json() == {"hello": "ada"}
        assert answer.headers["ratelimit-policy"] == '"login";q=5;w=60'
        assert answer.headers["ratelimit"].startswith('"login";r=4;t=')
        assert web.get("/me").json() == {"name": "ada"}
        web.post("/logout")
        assert web.get("/me").status_code == 401

        answers = [web.post("/login", json={"name": "ada"}) for _ in range(5)]
        assert [answer.status_code for answer in answers] == [200, 200, 200, 200, 429]
        assert 1 <= int(answers[-1].headers["retry-after"]) <= 61
        assert server.terminate() in (0, -signal.SIGTERM)
        assert "Application shutdown complete" in server.log.read_text()


def test_sigterm_under_load_loses_nothing_that_was_confirmed(
    tmp_path: Path, postgresql_url: str, redis_url: str, closed_port: int
) -> None:
    write_profile(tmp_path, main=patient(postgresql_url), redis=patient(redis_url))
    confirmed: set[int] = set()
    ended = threading.Event()
    with uvicorn(APP, tmp_path, closed_port, "--workers", "2") as server, ThreadPoolExecutor(8) as pool:

        def load(client: int) -> None:
            number = client * 1_000_000
            while not ended.is_set():
                number += 1
                if place(server, number) == 201:
                    confirmed.add(number)

        clients = [pool.submit(load, client) for client in range(1, 9)]
        try:
            # A worker that had not begun yet would end without a word.
            until(lambda: server.log.read_text().count("Application startup complete") == 2)
            begun = len(confirmed)
            until(lambda: len(confirmed) > begun + 50)
            server.process.send_signal(signal.SIGTERM)
            until(lambda: server.log.read_text().count("INFO:     Shutting down") == 2)
        finally:
            # uvicorn goes on serving a connection that it accepted at this very moment for as long as it is used.
            ended.set()
        for client in clients:
            client.result(SECONDS)
        assert server.process.wait(SECONDS) in (0, -signal.SIGTERM)
    with Katax(load_profile("test", cwd=str(tmp_path))) as katax:
        rows = katax.database("main", type="postgresql").query("select id from orders")
        assert confirmed <= {row["id"] for row in rows}
    assert server.log.read_text().count("Application shutdown complete") == 2


def test_a_killed_database_is_503_and_comes_back(
    tmp_path: Path, throwaway: Throwaway, redis_url: str, closed_port: int
) -> None:
    postgresql = throwaway("postgresql")
    write_profile(tmp_path, "[retry]\ntotal = 2.0\n", main=postgresql.url, redis=redis_url)
    with uvicorn(APP, tmp_path, closed_port) as server, ThreadPoolExecutor(20) as pool:
        requests = [pool.submit(place, server, number) for number in range(100)]
        until(lambda: any(request.done() for request in requests))
        postgresql.kill()
        statuses = {number: request.result(SECONDS) for number, request in enumerate(requests)}
        assert set(statuses.values()) <= {201, 503, 500}
        assert server.answers("/live")
        until(lambda: server.web.get("/ready").status_code == 503)
        refused = server.web.post("/orders", json={"id": 1000, "item": "tea"})
        assert refused.status_code == 503
        assert int(refused.headers["retry-after"]) >= 1
        assert postgresql.url not in refused.text

        postgresql.start()
        until(lambda: server.answers("/ready"))
        until(lambda: place(server, 1001) == 201)
        for number, status in statuses.items():
            shown = server.look(f"/orders/{number}").status_code
            assert shown == 200 if status == 201 else shown in (200, 404)


def test_a_container_for_each_start_and_a_lifespan_within(sqlite_url: str, tmp_path: Path) -> None:
    write_profile(tmp_path, main=sqlite_url)
    told: list[object] = []

    @asynccontextmanager
    async def inner(app: FastAPI) -> AsyncIterator[Mapping[str, object]]:
        app.state.katax.on_shutdown(lambda: told.append("hook"))
        yield {"own": len(told)}
        told.append("inner")

    app = FastAPI(lifespan=Lifespan("test", inner=inner, timeout="10s"))

    @app.get("/")
    async def ask(request: Request) -> dict[str, object]:
        katax = current_katax(request)
        told.append(katax)
        return {"own": request.state.own, "rows": await katax.database("main").query("select 1 as n")}

    without = FastAPI(routes=app.routes)
    for start in range(2):
        with Started(app) as web:
            assert web.get("/").json() == {"own": 3 * start, "rows": [{"n": 1}]}
    assert told[1:3] == told[4:6] == ["inner", "hook"]
    assert told[0] is not told[3]

    with Started(without) as web, pytest.raises(ConfigError) as error:
        web.get("/")
    assert str(error.value) == "this application has no katax; give it lifespan=Lifespan() and start it"


def test_a_wrong_profile_stops_the_start(tmp_path: Path) -> None:
    write_profile(tmp_path, main="sqlite:///main.db")
    with pytest.raises(ConfigError), Started(FastAPI(lifespan=Lifespan("tset"))):
        pass
    assert os.listdir(tmp_path) == ["profiles"]
