"""The role of a Redis server, and its limited resources: both from INFO."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from katax_cli.engines.base import KeyValueEngine
from katax_cli.engines.parts import EnginePart
from katax_cli.engines.redis.engine import info_fields
from katax_cli.snapshot import Headroom, ServerStanding


class RedisHeadroom(EnginePart[KeyValueEngine]):
    """ReportsHeadroom."""

    def standing(self, connection: Any, timeout: float | None = None) -> ServerStanding:
        """The role as INFO gives it; the lag is the time since the primary's last message."""
        info = self._info(connection, timeout)
        if info.get("role") != "slave":
            return ServerStanding("primary", writable=True)
        if info.get("master_link_status") != "up":
            down = int(info.get("master_link_down_since_seconds", -1))
            why = f"it lost its primary {down} s ago" if down >= 0 else "it never reached its primary"
            return ServerStanding("replica", writable=False, why=why)
        heard = float(info.get("master_last_io_seconds_ago", 0))
        return ServerStanding(
            "replica", writable=False, lag_seconds=max(0.0, heard), why="INFO reports the role slave"
        )

    def headroom(self, connection: Any, timeout: float | None = None) -> list[Headroom]:
        """Clients, and memory (without a limit where maxmemory is 0)."""
        info = self._info(connection, timeout)
        return [
            _room("connections", info, "connected_clients", "maxclients", "connections"),
            _room("memory", info, "used_memory", "maxmemory", "bytes"),
        ]

    def _info(self, connection: Any, timeout: float | None) -> Mapping[str, str]:
        return info_fields(cast("bytes", self._engine.command(connection, "INFO", timeout=timeout)))


def _room(name: str, info: Mapping[str, str], used: str, limit: str, unit: str) -> Headroom:
    most = float(info.get(limit, 0))
    return Headroom(name, float(info.get(used, 0)), most or None, unit)


create = RedisHeadroom
