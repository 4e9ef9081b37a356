"""uvicorn under a server: the port, the paths, and connections that end when they must."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from typing import Any, Protocol

import uvicorn

from katax_cli.core.measure.openmetrics import CONTENT_TYPE
from katax_cli.errors import ConfigError
from katax_cli.profiles.model.model import WsSettings
from katax_cli.services.ws.metrics import Measured, exposition
from katax_cli.services.ws.transport.connections import MAX_HEADER_BYTES, HttpConnection, WebSocketConnection
from katax_cli.services.ws.transport.repeated_lines import bounded_log
from katax_cli.services.ws.values import MAX_MESSAGE_BYTES, MAX_SESSIONS, AsgiScope

BACKLOG = 2048
SWEEP_EVERY = 5.0


class _Uvicorn(uvicorn.Server):
    """Leaves signals to the program."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class Listens(Measured, Protocol):
    """The parts of a server that are reached through its port."""

    settings: WsSettings
    closing: bool

    def sweep(self) -> list[str]: ...


class Listener:
    """Answers Socket.IO at the server's path, and `/live`, `/ready`, `/metrics`."""

    def __init__(self, server: Listens) -> None:
        self._server = server
        self._path = "/" + server.settings.path.strip("/") + "/"
        self._socket = self._bind()
        self.port = int(self._socket.getsockname()[1])
        config = uvicorn.Config(
            self._app,
            interface="asgi3",
            proxy_headers=False,
            log_config=None,
            log_level="error",
            access_log=False,
            lifespan="off",
            http=HttpConnection,
            ws=WebSocketConnection,
            h11_max_incomplete_event_size=MAX_HEADER_BYTES,
            # A little more than a message: what is larger is refused before it is kept.
            ws_max_size=MAX_MESSAGE_BYTES + 1024,
            ws_ping_interval=None,
            backlog=BACKLOG,
            server_header=False,
        )
        self._uvicorn = _Uvicorn(config)
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Returns once it accepts connections."""
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._uvicorn.serve(sockets=[self._socket]))]
        while not self._uvicorn.started:
            if self._tasks[0].done():
                self._tasks[0].result()
            await asyncio.sleep(0.005)
        self._tasks.append(loop.create_task(self._sweep()))

    async def stop(self) -> None:
        """Ends the connections: Engine.IO closes those that poll, WebSockets get 1012 (restart).

        Returns once all have ended.
        """
        serving, *others = self._tasks
        for task in others:
            task.cancel()
        self._uvicorn.should_exit = True
        engine = self._server.io.eio
        polling = [sid for sid, one in engine.sockets.items() if not one.upgraded]
        await asyncio.gather(*(self._end_polling(sid) for sid in polling))
        await serving

    async def _end_polling(self, sid: str) -> None:
        engine = self._server.io.eio
        queue = engine.sockets[sid].queue
        await engine.disconnect(sid)
        # A request may still wait for a client that said goodbye by another.
        queue.put_nowait(None)

    def close(self) -> None:
        """Gives the port back without having served."""
        self._socket.close()

    def cut(self, *scopes: AsgiScope | None) -> None:
        """Resets connections without waiting for what could not be written."""
        marked = {id(scope) for scope in scopes if scope is not None}
        for connection in list(self._uvicorn.server_state.connections):
            transport = getattr(connection, "transport", None)
            if id(getattr(connection, "scope", None)) in marked and transport is not None:
                transport.abort()

    def _bind(self) -> socket.socket:
        settings = self._server.settings
        family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
        made = socket.socket(family)
        try:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            made.bind((settings.host, settings.port))
            made.listen(BACKLOG)
        except OSError as error:
            made.close()
            raise _unusable_port(settings, error) from error
        return made

    async def _sweep(self) -> None:
        with bounded_log() as lines:
            while True:
                await asyncio.sleep(SWEEP_EVERY)
                for sid in self._server.sweep():
                    await self._server.io.drop(sid, "it sent no request in time")
                lines.report()

    async def _app(self, scope: AsgiScope, receive: Any, send: Any) -> None:
        path = scope.get("path", "")
        refusal = self._refusal(scope)
        if f"{path.rstrip('/')}/" == self._path and refusal is None:
            await self._server.io.eio.handle_request(scope, receive, send)
        elif scope["type"] == "websocket":
            reason = refusal or "not found"
            await send({"type": "websocket.close", "code": 1008, "reason": reason})
        elif refusal is not None and path not in ("/live", "/ready", "/metrics"):
            await _respond(send, 503, "text/plain", f"{refusal}; reconnect\n")
        else:
            await _respond(send, *self._page(path))

    def _refusal(self, scope: AsgiScope) -> str | None:
        """The reason to refuse new clients; connected ones go on, if they poll on a new connection for each request."""
        if b"sid=" in scope.get("query_string", b""):
            return None
        if self._server.closing:
            return "this server is ending"
        if len(self._server.io.eio.sockets) >= MAX_SESSIONS:
            return f"this server has {MAX_SESSIONS:,} clients"
        return None

    def _page(self, path: str) -> tuple[int, str, str]:
        if path == "/live":
            return 200, "text/plain", "live\n"
        if path == "/ready":
            ready = self._server.ready
            return (200, "text/plain", "ready\n") if ready else (503, "text/plain", "not ready\n")
        if path == "/metrics":
            return 200, CONTENT_TYPE, exposition(self._server)
        return 404, "text/plain", f"no Socket.IO here; its path is {self._path}\n"


async def _respond(send: Any, status: int, kind: str, text: str) -> None:
    body = text.encode()
    headers = [(b"content-type", kind.encode()), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _unusable_port(settings: WsSettings, error: OSError) -> ConfigError:
    """An error for an address that cannot be listened on, with a remedy."""
    return ConfigError(
        f"ws {settings.name!r} cannot listen on {settings.host}:{settings.port}: {error.strerror}; "
        "choose another with --port, or end what listens there"
    )
