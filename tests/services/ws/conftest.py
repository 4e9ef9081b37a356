"""Servers and clients of Socket.IO for the tests: real ones, on free ports."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from katax_cli.core.resilience.deadline import Deadline
from katax_cli.core.settings import Secret
from katax_cli.profiles.model.model import WsSettings
from katax_cli.services.ws.client import Event, SocketClient, Where
from katax_cli.services.ws.server import Sockets
from katax_cli.services.ws.tokens import known_admin_token
from katax_cli.services.ws.values import NAMESPACE
from tests.waiting import SECONDS

HANDSHAKE = "/socket.io/?EIO=4&transport="
MakeServer = Callable[..., Sockets]
MakeClient = Callable[..., SocketClient]


def soon() -> Deadline:
    """After so long a test has failed."""
    return Deadline(SECONDS)


def next_event(client: SocketClient, name: str) -> Event:
    """The next event of this name."""
    return next(event for event in client.events(soon()) if event.name == name)


def ask(admin: SocketClient, what: str, argument: Any = None) -> Any:
    return admin.call(what, argument, deadline=soon())


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[MakeServer]:
    """`serve(auth_token="…", redis=database, …)`: a server that listens."""
    with ExitStack() as servers:

        def make(name: str = "test", *, redis: Any = None, may_join: Any = None, **settings: Any) -> Sockets:
            for key in ("auth_token", "admin_token"):
                if key in settings:
                    settings[key] = Secret.of(settings[key])
            made = Sockets(
                WsSettings(name, **{"port": 0, **settings}),
                home=str(tmp_path / ".katax"),
                redis=redis,
                may_join=may_join,
            )
            servers.callback(made.close)
            return made

        yield make


@contextmanager
def joining(home: str) -> Iterator[MakeClient]:
    """Makes clients; those of the admin namespace find their token in `home`."""
    with ExitStack() as clients:

        def make(
            server: Sockets | str, *, token: str | None = None, admin: bool = False, **more: Any
        ) -> SocketClient:
            url = server if isinstance(server, str) else server.url
            path = "/socket.io" if isinstance(server, str) else server.settings.path
            secret = None if token is None else Secret.of(token)
            if admin and token is None:
                assert isinstance(server, Sockets)
                secret = known_admin_token(server.settings, home)
            where = Where(url, path, NAMESPACE if admin else "/", secret)
            return clients.enter_context(SocketClient(where, **more))

        yield make


@pytest.fixture
def join(tmp_path: Path) -> Iterator[MakeClient]:
    """`join(server, token="…")`: an ordinary client; `admin=True`: one of the admin namespace."""
    with joining(str(tmp_path / ".katax")) as make:
        yield make


class Raw:
    """A WebSocket that says what it is told, whatever it is."""

    def __init__(self, socket: ClientConnection, *, joined: bool) -> None:
        self.socket = socket
        self.hello = json.loads(str(socket.recv(timeout=SECONDS))[1:])
        if joined:
            socket.send("40")
            assert str(socket.recv(timeout=SECONDS)).startswith("40")

    @property
    def is_closed(self) -> bool:
        try:
            while True:
                self.socket.recv(timeout=0.05)
        except ConnectionClosed:
            return True
        except TimeoutError:
            return False


@pytest.fixture
def raw() -> Iterator[Any]:
    with ExitStack() as sockets:

        def make(server: Sockets, *, joined: bool = True, **options: Any) -> Raw:
            url = server.url.replace("http", "ws") + HANDSHAKE + "websocket"
            opened = sockets.enter_context(
                connect(
                    url,
                    proxy=None,
                    compression=None,
                    open_timeout=SECONDS,
                    ping_interval=None,
                    close_timeout=0.1,
                    **options,
                )
            )
            return Raw(opened, joined=joined)

        yield make
