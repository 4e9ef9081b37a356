"""Sessions of web clients: stored before the answer, asked for only when needed, hostile cookies, logout races."""

from __future__ import annotations

from asyncio import gather
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from katax_cli.errors import ConfigError
from katax_cli.integrations.starlette import (
    Lifespan,
    SessionsMiddleware,
    current_katax,
    error_handlers,
    load_session,
)
from tests.integrations.web import Started
from tests.servers.fixtures import MakeProxy
from tests.services.runtimes import QUICK, patient, write_profile
from tests.waiting import SECONDS


async def show(request: Request) -> Response:
    session = await load_session(request)
    assert session is await load_session(request) is request.session
    return JSONResponse(dict(session))


async def put(request: Request) -> Response:
    first, second = await gather(load_session(request), load_session(request))
    assert first is second
    first.update(request.query_params)
    return JSONResponse({"stored": True})


async def drop(request: Request) -> Response:
    del (await load_session(request))[request.query_params["key"]]
    return JSONResponse({})


async def nested(request: Request) -> Response:
    (await load_session(request)).setdefault("basket", []).append(1)
    return JSONResponse({})


async def login(request: Request) -> Response:
    session = await load_session(request)
    session.renew()
    session["user_id"] = request.query_params["user"]
    return JSONResponse({})


async def logout(request: Request) -> Response:
    (await load_session(request)).clear()
    return JSONResponse({})


async def revoked_meanwhile(request: Request) -> Response:
    session = await load_session(request)
    await current_katax(request).sessions().revoke("ada")
    session["late"] = True
    return JSONResponse({})


async def impossible(request: Request) -> Response:
    (await load_session(request))["at"] = {"when": object()}
    return JSONResponse({})


async def plain(_request: Request) -> Response:
    return JSONResponse({"asked": "nothing"})


async def talk(socket: WebSocket) -> None:
    session = await load_session(socket)
    session["seen"] = True
    await socket.accept()
    await socket.close()


HANDLERS = [show, put, drop, nested, login, logout, revoked_meanwhile, impossible, plain]


def application(**options: Any) -> Starlette:
    routes = [Route(f"/{handler.__name__}", handler) for handler in HANDLERS]
    app = Starlette(
        routes=[*routes, WebSocketRoute("/talk", talk)],
        lifespan=Lifespan("test"),
        exception_handlers=error_handlers(),
    )
    app.add_middleware(SessionsMiddleware, secure=False, **options)
    return app


def cookie_of(web: Started) -> str:
    return web.cookies["session"]


def test_a_session_from_its_first_value_to_its_end(tmp_path: Path, redis_url: str) -> None:
    write_profile(tmp_path, redis=patient(redis_url))
    with Started(application(ttl="1h")) as web:
        answer = web.get("/show")
        assert (answer.json(), answer.headers["vary"]) == ({}, "Cookie")
        assert "set-cookie" not in answer.headers

        answer = web.get("/put?theme=dark&size=2")
        id = cookie_of(web)
        assert answer.headers["set-cookie"] == f"session={id}; Max-Age=3600; Path=/; HttpOnly; SameSite=lax"
        assert "set-cookie" not in web.get("/nested").headers
        web.get("/nested")
        web.get("/drop?key=size")
        assert web.get("/show").json() == {"theme": "dark", "basket": [1, 1]}

        web.get("/login?user=ada")
        renewed = cookie_of(web)
        assert renewed != id
        assert web.get("/show").json()["user_id"] == "ada"
        web.cookies.set("session", id)
        assert web.get("/show").json() == {}, "the id from before the login is worth nothing"

        web.cookies.set("session", renewed)
        assert web.get("/logout").headers["set-cookie"].startswith("session=; Max-Age=0; Path=/")
        web.cookies.set("session", renewed)
        assert web.get("/show").json() == {}


def test_an_ended_session_is_not_revived(tmp_path: Path, redis_url: str) -> None:
    write_profile(tmp_path, redis=patient(redis_url))
    with Started(application()) as web:
        web.get("/login?user=ada")
        id = cookie_of(web)
        assert web.get("/revoked_meanwhile").headers["set-cookie"].startswith("session=; Max-Age=0")
        web.cookies.set("session", id)
        assert web.get("/show").json() == {}


def test_requests_side_by_side_do_not_lose_each_others_fields(tmp_path: Path, redis_url: str) -> None:
    write_profile(tmp_path, redis=patient(redis_url))
    with Started(application(timeout=SECONDS)) as web:
        web.get("/put?first=1")
        web.together(*(f"/put?k{number}=1" for number in range(20)))
        assert len(web.get("/show").json()) == 21


def test_hostile_cookies_are_nobody(tmp_path: Path, redis_url: str) -> None:
    write_profile(tmp_path, redis=patient(redis_url))
    ids = [
        "user:ada",
        "x",
        "a" * 43,
        "a" * 44,
        "é" * 43,
        "../" * 14 + "a",
        "a" * 42 + "\n",
        "٣" * 43,
        "*" * 43,
    ]
    with Started(application()) as web:
        web.get("/login?user=ada")
        known = cookie_of(web)
        web.cookies.clear()
        hostile = [
            *(f"session={id}".encode() for id in ids),
            b"session",
            b"=;=;",
            b"session=" + known.encode()[:-1],
        ]
        hostile += [
            b"\xff\xfe session=\x00",
            b"session=" + b"a" * 60_000,
            b"session=" + known.upper().encode(),
        ]
        for cookie in hostile:
            answer = web.get("/show", headers={b"cookie": cookie})
            assert (answer.status_code, answer.json()) == (200, {}), cookie[:50]
            answer = web.get("/put?a=1", headers={b"cookie": cookie})
            given = answer.headers["set-cookie"].partition(";")[0].removeprefix("session=")
            assert given.encode() not in cookie, "an id of the client's own is not taken over"
            web.cookies.clear()
        assert web.get("/show", headers={"cookie": f"session={known}"}).json() == {"user_id": "ada"}


def test_an_answer_is_given_only_when_its_session_is_stored(
    tmp_path: Path, redis_url: str, proxy: MakeProxy
) -> None:
    wire = proxy(redis_url)
    write_profile(tmp_path, QUICK, redis=patient(wire.url))
    with Started(application()) as web:
        # The first change of a session brings the script to the server; the answer to that is no change.
        for theme in ("blue", "dark"):
            web.get(f"/put?theme={theme}")
        wire.cut_after(b'theme":"light', forward=True)
        answer = web.get("/put?theme=light")
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        assert "stored" not in answer.text
        assert web.get("/show").json() == {"theme": "light"}, "done, though nobody could know"

        wire.refuse()
        wire.cut()
        assert web.get("/plain").json() == {"asked": "nothing"}
        answer = web.get("/show")
        assert (answer.status_code, answer.json()) == (
            503,
            {"detail": "a service behind this one is not available"},
        )


def test_what_json_cannot_hold_is_an_error_of_the_program(tmp_path: Path, redis_url: str) -> None:
    write_profile(tmp_path, redis=patient(redis_url))
    with Started(application()) as web, pytest.raises((TypeError, ValueError)):
        web.get("/impossible")


def test_a_websocket_has_the_session_too(tmp_path: Path, redis_url: str) -> None:
    write_profile(tmp_path, redis=patient(redis_url))
    with Started(application()) as web:
        accepted = web.handshake("/talk")
        assert accepted["type"] == "websocket.accept"
        headers = dict(accepted["headers"])
        assert headers[b"set-cookie"].startswith(b"session=")


def test_without_the_middleware_it_is_said(tmp_path: Path) -> None:
    app = Starlette(routes=[Route("/show", show)])
    with Started(app) as web, pytest.raises(ConfigError) as error:
        web.get("/show")
    assert str(error.value) == "this application has no sessions; add SessionsMiddleware to it"
