"""The embedded servers of this user: what runs, and how to end it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from katax_cli.core.settings import EMBEDDED_FOLDER, ConnectionSettings
from katax_cli.engines import redis
from katax_cli.engines.redis import embedded

CONNECTION = "cache"
_ASK_TIMEOUT = 2.0


@dataclass(frozen=True, slots=True)
class LocalServer:
    """One embedded server; what only a running one knows is None otherwise."""

    connection: str
    folder: str
    running: bool
    pid: int | None = None
    socket: str | None = None
    uptime_seconds: int | None = None
    memory_bytes: int | None = None
    version: str | None = None


def available() -> bool:
    """True if there is a server binary to embed."""
    return embedded.server_binary() is not None


def status(home: Path, *, all: bool = False) -> list[LocalServer]:
    """The server whose data is in the `.katax` folder `home`; with `all`, every running one of this user.

    Starts nothing. A folder without data has no row. Raises UntrustedFile when a socket is not ours.
    """
    folders = {embedded.Home.of(home / EMBEDDED_FOLDER).folder}
    if all:
        folders.update(_running_folders())
    return [_row(embedded.Home(folder)) for folder in sorted(folders) if folder.is_dir()]


def stop(home: Path, *, timeout: float = 10.0) -> LocalServer | None:
    """Ends the server of `home` after it wrote its data; returns what it was, None when none ran.

    Raises Unavailable when it still runs after `timeout` seconds.
    """
    server = embedded.Home.of(home / EMBEDDED_FOLDER)
    if not server.folder.is_dir():
        return None
    before = _row(server)
    return before if embedded.stop(server, timeout) else None


def _row(home: embedded.Home) -> LocalServer:
    folder = str(home.folder)
    if not embedded.is_running(home):
        return LocalServer(CONNECTION, folder, running=False)
    socket = home.socket()
    facts = _info(socket) if embedded.answers(socket) else {}
    return LocalServer(
        CONNECTION,
        folder,
        running=True,
        socket=str(socket),
        pid=_number(facts.get("process_id")),
        uptime_seconds=_number(facts.get("uptime_in_seconds")),
        memory_bytes=_number(facts.get("used_memory")),
        version=facts.get("redis_version"),
    )


def _running_folders() -> Iterable[Path]:
    for sockets in embedded.runtime_folders():
        for socket in sockets.glob("*.sock"):
            if embedded.answers(socket):
                yield Path(_ask(socket, "CONFIG", "GET", "dir")[1].decode())


def _info(socket: Path) -> dict[str, str]:
    return redis.engine.info_fields(_ask(socket, "INFO"))


def _ask(socket: Path, *command: str) -> Any:
    engine = redis.create(ConnectionSettings(CONNECTION, "redis", socket=str(socket)))
    client = engine.connect(_ASK_TIMEOUT)
    try:
        return engine.command(client, *command, timeout=_ASK_TIMEOUT)
    finally:
        engine.close(client)


def _number(text: str | None) -> int | None:
    return None if text is None else int(text)
