"""The role of a MongoDB server, and its limited resources."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pymongo.errors import OperationFailure

from katax_cli.engines.mongodb import MongoEngine
from katax_cli.engines.parts import EnginePart
from katax_cli.snapshot import Headroom, ServerStanding

_PRIMARY = 1


class MongoHeadroom(EnginePart[MongoEngine]):
    """ReportsHeadroom."""

    def standing(self, connection: Any, timeout: float | None = None) -> ServerStanding:
        """As `hello` says; the lag of a secondary where the user may ask for the state of the set."""
        with self._engine.attempt(connection, timeout):
            hello = connection.admin.command("hello")
            if hello.get("isWritablePrimary", hello.get("ismaster")):
                return ServerStanding("primary", writable=True)
            lag = _lag(_allowed(connection, "replSetGetStatus"))
        role = "secondary" if hello.get("secondary") else "member without a role"
        return ServerStanding(role, writable=False, lag_seconds=lag, why="hello reports no writable primary")

    def headroom(self, connection: Any, timeout: float | None = None) -> list[Headroom]:
        """Connections where the user may ask, and how far back the oplog of a set's member reaches."""
        with self._engine.attempt(connection, timeout):
            connections = _allowed(connection, "serverStatus").get("connections", {})
            window = _oplog_window(connection) if connection.admin.command("hello").get("setName") else None
        rooms = []
        if "current" in connections:
            used = connections["current"]
            most = used + connections["available"] if "available" in connections else None
            rooms.append(Headroom("connections", used, most, "connections"))
        if window is not None:
            rooms.append(Headroom("oplog_window", window, None, "seconds"))
        return rooms


def _allowed(client: Any, command: str) -> Mapping[str, Any]:
    """Its answer; nothing where the user may not ask."""
    try:
        answer: Mapping[str, Any] = client.admin.command(command)
    except OperationFailure:
        return {}
    return answer


def _lag(status: Mapping[str, Any]) -> float | None:
    members = status.get("members", ())
    ours = [member["optimeDate"] for member in members if member.get("self") and "optimeDate" in member]
    theirs = [member["optimeDate"] for member in members if member.get("state") == _PRIMARY]
    if not ours or not theirs:
        return None
    return max(0.0, float((theirs[0] - ours[0]).total_seconds()))


def _oplog_window(client: Any) -> float | None:
    """Seconds between the oldest and the newest entry; None where the user may not read it."""
    log = client["local"]["oplog.rs"]
    try:
        first, last = (log.find_one(sort=[("$natural", way)], projection={"ts": 1}) for way in (1, -1))
    except OperationFailure:
        return None
    return float(last["ts"].time - first["ts"].time) if first and last else None


create = MongoHeadroom
