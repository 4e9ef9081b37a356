"""The sessions on a MongoDB server, and the transactions they left open (currentOp).

https://www.mongodb.com/docs/manual/reference/command/currentOp/
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from katax_cli.engines.documents import DocumentEngine
from katax_cli.engines.parts import EnginePart
from katax_cli.engines.sessions import ServerLook, ServerSession
from katax_cli.errors import ConfigError

_WRITING = ("w", "W")


class MongoSessions(EnginePart[DocumentEngine]):
    """ListsSessions."""

    def look(self, connection: Any, timeout: float | None = None) -> ServerLook:
        """Of the server that answers: all connections, and transactions that wait for their next statement.

        Needs the privilege inprog. Raises ConfigError where the answer does not even hold the question, which
        is not MongoDB's own server.
        """
        spec = {"currentOp": 1, "$all": True}
        answer = self._engine.command(connection, spec, timeout, database="admin")
        operations = [each for each in answer.get("inprog") or () if isinstance(each, Mapping)]
        if not any("currentOp" in (operation.get("command") or ()) for operation in operations):
            raise ConfigError(
                f"{self._engine.settings.name!r} does not list its operations; only MongoDB's own server does"
            )
        return ServerLook(tuple(_session(operation) for operation in operations if operation.get("client")))


def _session(operation: Mapping[str, Any]) -> ServerSession:
    """A transaction between two statements has no connection; it is known by its session."""
    port = str(operation["client"]).rpartition(":")[2]
    locks = operation.get("locks") or {}
    return ServerSession(
        str(operation.get("connectionId") or (operation.get("lsid") or {}).get("id")),
        str(operation.get("appName") or ""),
        int(port) if port.isdecimal() else None,
        str(operation.get("op") or "").upper(),
        bool(operation.get("active")),
        "transaction" in operation,
        tuple(f"{name} lock" for name, mode in locks.items() if mode in _WRITING),
    )


create = MongoSessions
