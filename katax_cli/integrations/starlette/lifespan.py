"""The container of an application: made when a process starts to serve, shut down when it ends."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any

from starlette.requests import HTTPConnection

from katax_cli.aio.container import AsyncKatax
from katax_cli.core.text.duration import Duration, in_seconds
from katax_cli.errors import ConfigError
from katax_cli.profiles.model.model import Profile

Inner = Callable[[Any], AbstractAsyncContextManager[Mapping[str, Any] | None]]
"""A lifespan of the application's own."""

_KEY = "katax"


class Lifespan:
    """Gives an application its `AsyncKatax`: `FastAPI(lifespan=Lifespan())`, `Starlette(lifespan=Lifespan("prod"))`.

    Every process that serves makes its own, on its event loop: several workers and reloads share nothing. `profile`
    is as for `AsyncKatax`. `inner` is a lifespan that runs within, with `app.state.katax` at hand. At the end hooks
    run, what is in use is waited for, and everything is closed within `timeout` seconds (the profile's, 30.0 by
    default). Starting raises ConfigError for a configuration that is wrong; it connects nowhere.
    """

    def __init__(
        self,
        profile: str | Profile | None = None,
        *,
        inner: Inner | None = None,
        timeout: Duration | None = None,
    ) -> None:
        self._profile = profile
        self._inner = inner
        self._timeout = None if timeout is None else in_seconds(timeout)

    @asynccontextmanager
    async def __call__(self, app: Any) -> AsyncIterator[Mapping[str, Any]]:
        katax = app.state.katax = AsyncKatax(self._profile)
        try:
            async with AsyncExitStack() as opened:
                state = await opened.enter_async_context(self._inner(app)) if self._inner else None
                yield {**(state or {}), _KEY: katax}
        finally:
            await katax.shutdown(self._timeout)


def current_katax(connection: HTTPConnection) -> AsyncKatax:
    """The application's container, from a request or a WebSocket; a dependency of FastAPI.

    Raises ConfigError in an application without `Lifespan`.
    """
    return katax_of(connection.scope)


def katax_of(scope: Mapping[str, Any]) -> AsyncKatax:
    """The container by the scope of a connection, mounted applications included."""
    katax = scope.get("state", {}).get(_KEY)
    if not isinstance(katax, AsyncKatax):
        raise ConfigError("this application has no katax; give it lifespan=Lifespan() and start it")
    return katax
