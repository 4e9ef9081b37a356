"""JavaScript's own client connects unchanged."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from katax_cli.services.ws.server import Sockets
from katax_cli.services.ws.transport import socketio_server as wire
from tests.servers.rooms import cache_folder, free_port, locked
from tests.services.ws.conftest import MakeServer

pytestmark = pytest.mark.needs_node
PACKAGE = "socket.io-client@4.8.1"
SCRIPT = Path(__file__).with_name("javascript.mjs")


class Script:
    """`javascript.mjs` in a process of its own."""

    def __init__(self, folder: Path, server: Sockets, options: dict[str, Any]) -> None:
        words = [
            "node",
            str(SCRIPT),
            str(folder),
            server.url,
            json.dumps({"path": server.settings.path, **options}),
        ]
        self.process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def says(self, *beginning: str) -> list[Any]:
        """What it says next that begins so."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            said = json.loads(line)
            if said[: len(beginning)] == list(beginning):
                return list(said[len(beginning) :])
        raise AssertionError(f"it ended without saying {beginning}")

    def emit(self, event: str, *data: Any) -> list[Any]:
        """Emits, and returns the acknowledgement."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps([event, *data]) + "\n")
        self.process.stdin.flush()
        return self.says("ack", event)

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()


Start = Callable[..., Script]


@pytest.fixture(scope="session")
def package() -> Path:
    """The folder in which `socket.io-client` is installed, fetched once."""
    folder = cache_folder() / "node" / PACKAGE.replace("@", "-")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with locked(folder.with_suffix(".lock")):
        if not (folder / "package.json").exists():
            work = folder.with_suffix(".part")
            shutil.rmtree(work, ignore_errors=True)
            work.mkdir()
            command = ["npm", "install", "--no-audit", "--no-fund", "--prefix", str(work), PACKAGE]
            subprocess.run(command, check=True, capture_output=True)
            work.rename(folder)
    return folder


@pytest.fixture
def start(package: Path) -> Iterator[Start]:
    """`start(server, transports=["polling"], auth={"token": …})`."""
    with ExitStack() as scripts:

        def make(server: Sockets, **options: Any) -> Script:
            made = Script(package, server, options)
            scripts.callback(made.close)
            return made

        yield make


@pytest.fixture(params=[["websocket"], ["polling"], ["polling", "websocket"]], ids="-".join)
def transports(request: pytest.FixtureRequest) -> list[str]:
    return list(request.param)


def test_it_connects_joins_receives_sends_and_acknowledges(
    transports: list[str], serve: MakeServer, start: Start
) -> None:
    server = serve(auth_token="hush", path="/live")
    server.on("add", lambda data: data["a"] + data["b"])
    script = start(server, transports=transports, auth={"token": "hush"})

    (transport,) = script.says("connect")
    assert transport in transports
    assert script.emit("join", "r") == [{"ok": True, "room": "r"}]
    assert script.emit("add", {"a": 1.5, "b": 2}) == [3.5]
    server.emit_to_room("r", "news", {"x": [1, None, "ä€😀"]})
    assert script.says("event", "news") == [{"x": [1, None, "ä€😀"]}]
    server.emit("binary", b"\x00\xff")
    assert script.says("event", "binary") == [{"bytes": [0, 255]}]


def test_many_events_arrive_in_order(transports: list[str], serve: MakeServer, start: Start) -> None:
    server = serve()
    script = start(server, transports=transports)
    script.says("connect")

    for number in range(300):
        server.emit("n", number)

    assert [script.says("event", "n") for _ in range(300)] == [[number] for number in range(300)]


def test_a_wrong_token_is_told(transports: list[str], serve: MakeServer, start: Start) -> None:
    script = start(serve(auth_token="hush"), transports=transports, auth={"token": "wrong"})

    assert script.says() == ["connect_error", "wrong or missing token; send it as auth.token"]


def test_it_comes_back_after_the_server_did(
    transports: list[str], serve: MakeServer, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire, "AWAY_SECONDS", 60.0)  # a busy machine keeps nobody from the last poll
    server = serve(port=free_port())
    script = start(server, transports=transports, reconnectionDelay=20, reconnectionDelayMax=50)
    script.says("connect")

    server.close(60.0)
    assert script.says("event", "server_closing") == [{"reason": "shutdown"}]
    script.says("disconnect")
    again = serve(port=server.port)

    script.says("connect")
    assert again.clients_count() == 1
