"""Sessions of web clients: an id in a cookie, the data on Redis, asked for only by those who need it."""

from __future__ import annotations

import re
from copy import deepcopy
from typing import Any, Literal

from starlette.datastructures import MutableHeaders
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from katax_cli.aio.redis_services import AsyncSessionStore
from katax_cli.core.text.duration import Duration, in_seconds
from katax_cli.errors import ConfigError, KataxError, OutcomeUnknown, Unavailable
from katax_cli.integrations.starlette.errors import unavailable
from katax_cli.integrations.starlette.lifespan import katax_of
from katax_cli.services.redis.sessions import DEFAULT_TTL, PREFIX
from katax_cli.services.redis.values import JSON

_SCOPE = "katax.session"
_ID = re.compile(r"[A-Za-z0-9_-]{43}", re.ASCII)
_STARTS = ("http.response.start", "websocket.accept")


class SessionsMiddleware:
    """Keeps sessions on Redis: `app.add_middleware(SessionsMiddleware)`, then `await load_session(request)`.

    The cookie holds an id of 256 random bits and nothing else. A changed session is stored before the first byte of the
    answer: when it cannot be, the client is told 503 instead of what the handler said. Requests that do not load it
    ask no Redis. `redis` is the connection, `ttl` seconds or "1h"; `secure=False` is for development without TLS.
    `timeout` is seconds for each call of Redis; without it each answer is waited for 2 s at most.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        redis: str = "redis",
        cookie: str = "session",
        ttl: Duration = DEFAULT_TTL,
        prefix: str = PREFIX,
        path: str = "/",
        domain: str | None = None,
        same_site: Literal["lax", "strict", "none"] = "lax",
        secure: bool = True,
        timeout: Duration | None = None,
    ) -> None:
        self._app = app
        self._redis = redis
        self._ttl = in_seconds(ttl)
        self._prefix = prefix
        self.cookie = cookie
        self.timeout = None if timeout is None else in_seconds(timeout)
        where = f"; Path={path}{'' if domain is None else f'; Domain={domain}'}"
        self._attributes = f"{where}; HttpOnly; SameSite={same_site}{'; Secure' if secure else ''}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        visit = scope[_SCOPE] = _Visit(self, scope)
        await self._app(scope, receive, _Saving(visit, send))

    def store(self, scope: Scope) -> AsyncSessionStore:
        """The sessions of the application's container."""
        return katax_of(scope).sessions(self._redis, prefix=self._prefix, ttl=self._ttl)

    def set_cookie(self, id: str | None) -> str:
        """The value of Set-Cookie; None removes the cookie."""
        value, age = (id, int(self._ttl)) if id is not None else ("", 0)
        return f"{self.cookie}={value}; Max-Age={age}{self._attributes}"


class WebSession(dict[str, Any]):
    """The data of one client: a dict of what JSON can hold. Emptying it (`clear`) ends the session."""

    def __init__(self, id: str | None, data: dict[str, Any]) -> None:
        super().__init__(data)
        self.id = id
        self.renewed = False

    def renew(self) -> None:
        """Gives the session another id, and ends the old one: to be called at every login."""
        self.renewed = True


async def load_session(connection: HTTPConnection) -> WebSession:
    """The session of a request or WebSocket, empty when there is none; a dependency of FastAPI.

    A second call gives the same object. An id that this server did not make is never taken over. Raises Unavailable
    when Redis is, ConfigError without `SessionsMiddleware`.
    """
    visit: _Visit | None = connection.scope.get(_SCOPE)
    if visit is None:
        raise ConfigError("this application has no sessions; add SessionsMiddleware to it")
    session = connection.scope["session"] = await visit.load(connection)
    return session


class _Visit:
    """The session of one request: what was loaded, and what became of it."""

    def __init__(self, sessions: SessionsMiddleware, scope: Scope) -> None:
        self._sessions = sessions
        self._scope = scope
        self._before: dict[str, Any] = {}
        self._session: WebSession | None = None

    @property
    def loaded(self) -> bool:
        """True when the answer may depend on who asks."""
        return self._session is not None

    async def load(self, connection: HTTPConnection) -> WebSession:
        if self._session is None:
            id = _id_of(connection, self._sessions.cookie)
            data = (
                None
                if id is None
                else await self._sessions.store(self._scope).get(id, timeout=self._sessions.timeout)
            )
            # Another task of the request may have loaded it meanwhile.
            if self._session is None:
                if isinstance(data, dict):
                    self._before = data
                self._session = WebSession(id if isinstance(data, dict) else None, deepcopy(self._before))
        return self._session

    async def save(self) -> str | None:
        """Stores what changed; the Set-Cookie for the answer, None when the client's is right."""
        session, no_cookie = self._session, self._sessions.set_cookie(None)
        if session is None:
            return None
        changes = {key: value for key, value in session.items() if self._changed(key, value)}
        removed = self._before.keys() - session.keys()
        if not (changes or removed or session.renewed):
            return None
        store, id, timeout = self._sessions.store(self._scope), session.id, self._sessions.timeout
        if id is not None and session and not session.renewed:
            alive = await store.update(id, changes, remove=removed, timeout=timeout)
            return None if alive is not None else no_cookie
        # What a logout or a revocation ended meanwhile is not revived, here as above.
        if id is not None and (not await store.destroy(id, timeout=timeout) or not session):
            return no_cookie
        session.id = await store.create(session, timeout=timeout) if session else None
        return None if session.id is None else self._sessions.set_cookie(session.id)

    def _changed(self, key: str, value: Any) -> bool:
        return key not in self._before or JSON.encode(self._before[key]) != JSON.encode(value)


class _Saving:
    """Sends the answer of a handler once the session is stored, and 503 instead when it cannot be."""

    def __init__(self, visit: _Visit, send: Send) -> None:
        self._visit = visit
        self._send = send
        self._refused = False

    async def __call__(self, message: Message) -> None:
        if self._refused:
            return
        if message["type"] in _STARTS:
            try:
                cookie = await self._visit.save()
            except (Unavailable, OutcomeUnknown) as error:
                self._refused = True
                await self._refuse(message, error)
                return
            if self._visit.loaded:
                message = {**message, "headers": [*message.get("headers", ())]}
                headers = MutableHeaders(scope=message)
                headers.add_vary_header("Cookie")
                if cookie is not None:
                    headers.append("Set-Cookie", cookie)
        await self._send(message)

    async def _refuse(self, message: Message, error: KataxError) -> None:
        if message["type"] == "websocket.accept":
            await self._send({"type": "websocket.close", "code": 1013})
            return
        response = unavailable(error)
        start = {"type": "http.response.start", "status": response.status_code}
        await self._send({**start, "headers": response.raw_headers})
        await self._send({"type": "http.response.body", "body": response.body})


def _id_of(connection: HTTPConnection, cookie: str) -> str | None:
    """The id in the cookie; None for text that cannot be one, which Redis is not asked for."""
    value = connection.cookies.get(cookie, "")
    return value if _ID.fullmatch(value) else None
