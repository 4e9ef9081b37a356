"""Is this process alive, and can it serve: two routes for orchestrators and load balancers."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from weakref import WeakKeyDictionary

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from katax_cli.aio.container import AsyncKatax
from katax_cli.aio.health import perform_health_check
from katax_cli.core.clock import SYSTEM
from katax_cli.core.text.duration import Duration, in_seconds
from katax_cli.integrations.starlette.lifespan import current_katax
from katax_cli.snapshot import HealthStatus


def health_routes(
    connections: Sequence[str] | None = None,
    *,
    live: str = "/live",
    ready: str = "/ready",
    fresh: Duration = 1.0,
) -> list[BaseRoute]:
    """Two routes: `live` answers while the event loop does and asks nothing; `ready` asks the databases.

    `ready` is 503 when one of the `connections` (all of the profile by default) is unhealthy, and from the moment at
    which the shutdown begins: `{"ready": false, "connections": {"main": "unhealthy"}}`. Each is probed past its
    breaker, in one attempt of at most 5 s; however many ask, a round is made once in `fresh` seconds.
    """
    readiness = _Readiness(connections, in_seconds(fresh))
    return [Route(live, _live, name="katax-live"), Route(ready, readiness.answer, name="katax-ready")]


async def _live(_request: Request) -> Response:
    return PlainTextResponse("live\n")


class _Readiness:
    """The last round of probes of each container, shared by all who ask meanwhile."""

    def __init__(self, connections: Sequence[str] | None, fresh: float) -> None:
        self._connections = connections
        self._fresh = fresh
        self._rounds: WeakKeyDictionary[AsyncKatax, tuple[float, asyncio.Task[dict[str, HealthStatus]]]] = (
            WeakKeyDictionary()
        )

    async def answer(self, request: Request) -> Response:
        katax = current_katax(request)
        ending = katax.wraps.ending.begun
        # Shielded: who asked first may leave before the others have their answer.
        statuses = {} if ending else await asyncio.shield(self._round(katax))
        ready = not ending and "unhealthy" not in statuses.values()
        return JSONResponse({"ready": ready, "connections": statuses}, 200 if ready else 503)

    def _round(self, katax: AsyncKatax) -> asyncio.Task[dict[str, HealthStatus]]:
        now = SYSTEM.monotonic()
        begun, task = self._rounds.get(katax, (0.0, None))
        if task is None or (task.done() and (now - begun >= self._fresh or task.cancelled())):
            task = asyncio.create_task(self._probe(katax), name="katax-ready")
            self._rounds[katax] = (now, task)
        return task

    async def _probe(self, katax: AsyncKatax) -> dict[str, HealthStatus]:
        names = list(katax.profile.connections) if self._connections is None else self._connections
        results = await asyncio.gather(*(perform_health_check(katax.database(name)) for name in names))
        return {name: result.status for name, result in zip(names, results, strict=True)}
