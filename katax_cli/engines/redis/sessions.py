"""The clients of a Redis server, and its keys by name."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

from katax_cli.engines.base import KeyValueEngine
from katax_cli.engines.parts import EnginePart
from katax_cli.engines.sessions import Orphan, ServerLook, ServerSession
from katax_cli.errors import ConfigError

MOST_KEYS = 200_000
"""A keyspace that is larger is not walked: it would take longer than what is to be seen."""
_PAGE = 1000


class RedisSessions(EnginePart[KeyValueEngine]):
    """ListsSessions."""

    def look(self, connection: Any, timeout: float | None = None) -> ServerLook:
        """Of every server that owns keys: its clients, and all keys of this database, whatever they are for.

        Raises ConfigError for more than MOST_KEYS of them.
        """
        sessions: list[ServerSession] = []
        orphans: set[Orphan] = set()
        for number, shard in enumerate(self._engine.shards(connection)):
            sessions += self._sessions(shard, number, timeout)
            orphans |= {Orphan("key", key) for key in self._keys(shard, timeout)}
        return ServerLook(tuple(sessions), frozenset(orphans))

    def _sessions(self, shard: Any, number: int, timeout: float | None) -> list[ServerSession]:
        listed = cast("bytes", self._engine.command(shard, "CLIENT", "LIST", timeout=timeout))
        own = int(self._engine.command(shard, "CLIENT", "ID", timeout=timeout))
        clients = [client_fields(line) for line in listed.decode("utf-8", "replace").splitlines() if line]
        return [_session(client, number) for client in clients if client["id"] != str(own)]

    def _keys(self, shard: Any, timeout: float | None) -> Iterator[str]:
        size = int(self._engine.command(shard, "DBSIZE", timeout=timeout))
        if size > MOST_KEYS:
            raise ConfigError(
                f"{self._engine.settings.name!r} has {size} keys, more than the {MOST_KEYS} that a drill "
                "scans; use a smaller database"
            )
        cursor: bytes | int = 0
        while True:
            cursor, keys = self._engine.command(shard, "SCAN", cursor, "COUNT", _PAGE, timeout=timeout)
            yield from (bytes(key).decode("utf-8", "replace") for key in keys)
            if int(cursor) == 0:
                return


def client_fields(line: str) -> dict[str, str]:
    """`id=3 addr=127.0.0.1:52555 name=app db=0 multi=-1 flags=N cmd=get …`."""
    return dict(pair.partition("=")[::2] for pair in line.split(" "))


def _session(client: dict[str, str], number: int) -> ServerSession:
    """`multi` is -1 outside MULTI; flag `b` is a blocked client. A local socket's port is 0."""
    port = client.get("addr", "").rpartition(":")[2]
    return ServerSession(
        f"{client['id']}@{number}",
        client.get("name", ""),
        int(port) if port.isdecimal() and port != "0" else None,
        client.get("cmd", "").upper(),
        "b" in client.get("flags", ""),
        client.get("multi", "-1") != "-1",
    )


create = RedisSessions
