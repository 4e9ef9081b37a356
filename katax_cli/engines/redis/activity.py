"""The clients of a Redis server, and how to end them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, cast

from katax_cli.engines.activity import ActivityList, SessionActivity
from katax_cli.engines.base import KeyValueEngine
from katax_cli.engines.parts import EnginePart
from katax_cli.engines.redis.sessions import client_fields

_STATES = {
    "b": "blocked",
    "x": "idle in transaction",
    "P": "subscribed",
    "S": "replica",
    "M": "primary",
    "O": "monitor",
}
"""Flags of a client, the most telling first; all others are idle, for only one command runs at a time: this one."""


class RedisActivity(EnginePart[KeyValueEngine]):
    """ListsActivity and EndsSessions."""

    def activity(self, connection: Any, timeout: float | None = None) -> ActivityList:
        """Of every server that owns keys. A statement is the name of a client's last command, without its words."""
        shards = self._shards(connection)
        sessions: list[SessionActivity] = []
        own: str | int = ""
        for place, shard in shards.items():
            own = _pid(str(self._engine.command(shard, "CLIENT", "ID", timeout=timeout)), place)
            sessions += [one for one in self._clients(shard, place, timeout) if one.pid != own]
        return ActivityList(tuple(sorted(sessions, key=_idleness)), own if len(shards) == 1 else None)

    def cancel(self, connection: Any, target: SessionActivity, timeout: float | None = None) -> bool:
        """Ends the waiting of a blocked client, with an error; other commands end before they could be cancelled."""
        id, shard = self._found(connection, target)
        return bool(self._engine.command(shard, "CLIENT", "UNBLOCK", id, "ERROR", timeout=timeout))

    def terminate(self, connection: Any, target: SessionActivity, timeout: float | None = None) -> bool:
        id, shard = self._found(connection, target)
        return bool(self._engine.command(shard, "CLIENT", "KILL", "ID", id, timeout=timeout))

    def _clients(self, shard: Any, place: str, timeout: float | None) -> Iterator[SessionActivity]:
        listed = cast("bytes", self._engine.command(shard, "CLIENT", "LIST", timeout=timeout))
        for line in listed.decode("utf-8", "replace").splitlines():
            if line:
                yield _session(client_fields(line), place)

    def _shards(self, connection: Any) -> Mapping[str, Any]:
        """The servers by their address, which is empty for a single one."""
        shards = self._engine.shards(connection)
        return {_address(shard): shard for shard in shards} if len(shards) > 1 else {"": shards[0]}

    def _found(self, connection: Any, target: SessionActivity) -> tuple[str, Any]:
        id, _, place = str(target.pid).partition("@")
        return id, self._shards(connection)[place]


def _session(client: Mapping[str, str], place: str) -> SessionActivity:
    """Client and server count whole seconds; those between connecting and the last command are its identity."""
    flags, command = client.get("flags", ""), client.get("cmd", "")
    state = next((name for flag, name in _STATES.items() if flag in flags), "idle")
    host, _, port = client.get("addr", "").rpartition(":")
    idle = int(client.get("idle", 0))
    return SessionActivity(
        _pid(client["id"], place),
        client.get("user"),
        "[local]" if port == "0" else host,
        client.get("db"),
        state,
        None,
        float(idle),
        None,
        command.upper().replace("|", " ") if command not in ("", "NULL") else None,
        _pid(client["id"], place),
        f"{command}@{int(client.get('age', 0)) - idle}" if state == "blocked" else None,
    )


def _pid(id: str, place: str) -> str:
    return f"{id}@{place}" if place else id


def _address(shard: Any) -> str:
    given = shard.connection_pool.connection_kwargs
    return f"{given.get('host')}:{given.get('port')}"


def _idleness(session: SessionActivity) -> tuple[bool, float]:
    return (session.state == "idle", -(session.age_seconds or 0))


create = RedisActivity
