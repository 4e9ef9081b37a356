"""Rate limits on routes: exact across requests, keys of clients, headers, and what counts without Redis."""

from pathlib import Path
from typing import Annotated, Any

import pytest
from fastapi import Depends, FastAPI
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from katax_cli.integrations.starlette import Lifespan, RateLimit, error_handlers
from katax_cli.integrations.starlette.limits import client_address
from katax_cli.services.redis.limits import Decision, OnError
from tests.integrations.web import Started
from tests.servers.fixtures import MakeProxy
from tests.services.runtimes import QUICK, patient, write_profile
from tests.waiting import SECONDS


def application(**options: Any) -> FastAPI:
    app = FastAPI(lifespan=Lifespan("test"), exception_handlers=error_handlers())
    limit, other = (
        RateLimit("api", window="1h", **options),
        RateLimit("other", max=1000, window="1h", timeout=SECONDS),
    )

    @app.get("/limited")
    async def limited(decision: Annotated[Decision, Depends(limit)]) -> int:
        return decision.remaining

    @app.get("/both", dependencies=[Depends(limit), Depends(other)])
    async def both() -> str:
        return "both"

    return app


def test_exactly_so_many_pass_and_all_are_told(tmp_path: Path, redis_url: str) -> None:
    write_profile(tmp_path, redis=patient(redis_url))
    with Started(application(max=40, timeout=SECONDS)) as web:
        answers = web.together(*["/limited"] * 100)
        passed = [answer for answer in answers if answer.status_code == 200]
        assert sorted(answer.json() for answer in passed) == list(range(40))
        refused = [answer for answer in answers if answer.status_code == 429]
        assert len(passed) + len(refused) == 100
        for answer in answers:
            assert answer.headers["ratelimit-policy"] == '"api";q=40;w=3600'
            name, left, _free = answer.headers["ratelimit"].split(";")
            assert (name, left.startswith("r=")) == ('"api"', True)
        assert all(1 <= int(answer.headers["retry-after"]) <= 3601 for answer in refused)
        assert web.get("/both").status_code == 429
        other_client = web.get("/both", client="10.0.0.9")
        assert other_client.headers["ratelimit-policy"] == '"api";q=40;w=3600, "other";q=1000;w=3600'


@pytest.mark.parametrize(("on_error", "status"), [("open", 200), ("closed", 429), (None, 503)])
def test_without_redis_it_is_as_was_said(
    tmp_path: Path, redis_url: str, proxy: MakeProxy, on_error: OnError | None, status: int
) -> None:
    wire = proxy(redis_url)
    write_profile(tmp_path, QUICK, redis=patient(wire.url))
    wire.refuse()
    with Started(application(on_error=on_error)) as web:
        answer = web.get("/limited")
        assert answer.status_code == status
        assert ("retry-after" in answer.headers) == (status != 200)


def test_a_route_of_starlette(tmp_path: Path, redis_url: str) -> None:
    write_profile(tmp_path, redis=patient(redis_url))

    async def hello(_request: Request) -> Response:
        return PlainTextResponse("hello")

    limit = RateLimit("hello", max=1, window="1h", key=lambda request: request.headers["x-key"])
    with Started(Starlette(routes=[Route("/", limit.endpoint(hello))], lifespan=Lifespan("test"))) as web:
        first, second = (web.get("/", headers={"x-key": "a"}) for _ in range(2))
        assert (first.text, first.headers["ratelimit"].split(";")[:2]) == ("hello", ['"hello"', "r=0"])
        assert (second.status_code, "retry-after" in second.headers) == (429, True)
        assert web.get("/", headers={"x-key": "b"}).status_code == 200


def test_the_address_of_a_client() -> None:
    def of(*client: object) -> str:
        return client_address(Request({"type": "http", "headers": [], "client": client or None}))

    assert of("192.0.2.7", 5) == of("::ffff:192.0.2.7", 6) == "192.0.2.7"
    assert of("2001:db8::1", 5) == of("2001:db8::ffff:2", 6) == "2001:db8::/64"
    assert of("2001:db8:0:1::1", 5) == "2001:db8:0:1::/64"
    assert (of(), of("testclient", 5)) == ("-", "testclient")
