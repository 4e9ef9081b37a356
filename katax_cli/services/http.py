"""The small HTTP server of daemons: a table of paths, each answered by a function of no arguments."""

from __future__ import annotations

import logging
import socketserver
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socket import AF_INET, AF_INET6
from typing import Any, NamedTuple

from katax_cli.errors import ConfigError

_log = logging.getLogger("katax.http")
TEXT = "text/plain; charset=utf-8"
JSON = "application/json"
_FINISH_SECONDS = 1.0
_PATIENCE = 5.0
"""Seconds that a client may take to ask."""


class Response(NamedTuple):
    """The answer of a path."""

    status: int
    kind: str
    text: str


Routes = Mapping[str, Callable[[], Response]]


class HttpServer:
    """Answers GET and HEAD in daemon threads, from its making to `close`; `port` 0 takes any.

    Raises ConfigError when it cannot listen there.
    """

    def __init__(self, routes: Routes, *, name: str, port: int, host: str = "127.0.0.1") -> None:
        try:
            self._server = _DaemonServer((host, port), _handler(routes))
        except OSError as error:
            raise ConfigError(
                f"port {port} cannot be listened on: {error.strerror}; choose another"
            ) from error
        self.port = int(self._server.server_address[1])
        self.url = f"http://{f'[{host}]' if ':' in host else host}:{self.port}"
        serve = self._server.serve_forever
        threading.Thread(target=serve, args=(0.05,), name=name, daemon=True).start()

    def close(self) -> None:
        """Answers open connections for a second at the most, and accepts no more."""
        self._server.shutdown()
        self._server.finish()
        self._server.server_close()


class _DaemonServer(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        self.address_family = AF_INET6 if ":" in address[0] else AF_INET
        super().__init__(address, handler)
        self._under_way = 0
        self._changed = threading.Condition()

    def finish(self) -> None:
        """Takes what waits in the queue, which closing the socket would reset, and waits for all answers."""
        self.socket.settimeout(0)
        with suppress(BlockingIOError):
            while True:
                self.process_request(*self.get_request())
        with self._changed:
            self._changed.wait_for(lambda: not self._under_way, _FINISH_SECONDS)

    def process_request(self, request: Any, client_address: Any) -> None:
        request.settimeout(None)  # what a socket that does not block accepts does not block either
        with self._changed:
            self._under_way += 1
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            with self._changed:
                self._under_way -= 1
                self._changed.notify_all()

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up is none of our errors; anything else is a defect, and is logged."""
        error = sys.exc_info()[1]
        if not isinstance(error, ConnectionError | TimeoutError):
            _log.error("a request failed", exc_info=error)

    def server_bind(self) -> None:
        """Without HTTPServer's look for the name of this host, which may take long."""
        socketserver.TCPServer.server_bind(self)


def _handler(routes: Routes) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = _PATIENCE

        def do_GET(self) -> None:
            self.wfile.write(self._head())

        def do_HEAD(self) -> None:
            self._head()

        def _head(self) -> bytes:
            route = routes.get(self.path.partition("?")[0])
            answer = route() if route else Response(404, TEXT, f"see {', '.join(routes)}\n")
            body = answer.text.encode()
            self.send_response(answer.status)
            self.send_header("Content-Type", answer.kind)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Cache-Control", "no-store")
            self.end_headers()
            return body

        def log_message(self, format: str, *args: object) -> None: ...

    return Handler
