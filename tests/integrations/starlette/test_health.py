"""Liveness never asks a database; readiness asks once for all who want to know."""

from __future__ import annotations

from pathlib import Path

from starlette.applications import Starlette

from katax_cli.integrations.starlette import Lifespan, health_routes
from tests.integrations.web import Started
from tests.servers.fixtures import MakeProxy
from tests.services.runtimes import CALM, QUICK, patient, write_profile


def application(*connections: str) -> Starlette:
    return Starlette(routes=health_routes(connections or None, fresh=0.0), lifespan=Lifespan("test"))


def test_liveness_asks_nothing_and_readiness_all(
    tmp_path: Path, postgresql_url: str, redis_url: str, proxy: MakeProxy
) -> None:
    wire = proxy(postgresql_url)
    write_profile(tmp_path, QUICK + CALM, main=patient(wire.url), redis=patient(redis_url))
    with Started(application()) as web:
        for _ in range(3):
            assert web.get("/live").text == "live\n"
        assert wire.connections == 0

        answers = web.together(*["/ready"] * 50)
        assert {answer.status_code for answer in answers} == {200}
        assert set(answers[0].json()["connections"]) == {"main", "redis"}
        assert wire.connections == 1

        wire.refuse()
        wire.cut()
        answer = web.get("/ready")
        assert (answer.status_code, answer.json()["ready"]) == (503, False)
        assert answer.json()["connections"]["main"] == "unhealthy"
        assert web.get("/live").status_code == 200

        wire.come_back()
        assert web.get("/ready").status_code == 200


def test_only_what_is_named_is_asked_and_the_end_is_told(
    tmp_path: Path, redis_url: str, proxy: MakeProxy, closed_port: int
) -> None:
    closed = f"postgresql://u:p@127.0.0.1:{closed_port}/d"
    write_profile(tmp_path, QUICK + CALM, main=closed, redis=patient(redis_url))
    app = application("redis")
    with Started(app) as web:
        assert web.get("/ready").json()["ready"] is True
        app.state.katax.wraps.shutdown()
        assert web.get("/ready").json() == {"ready": False, "connections": {}}
