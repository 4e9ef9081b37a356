"""The load of a Redis server, and the commands that it found slow (SLOWLOG)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, cast

from katax_cli.engines.base import KeyValueEngine, SlowQuery
from katax_cli.engines.parts import EnginePart, slow_queries
from katax_cli.engines.redis.engine import info_fields

_ENTRIES = 1000


class RedisMetrics(EnginePart[KeyValueEngine]):
    """ReportsMetrics and SlowQueries."""

    def metrics(self, connection: Any, timeout: float | None = None) -> Mapping[str, object]:
        """Since the server's start, but for memory and connections, which are those of now."""
        info = info_fields(cast("bytes", self._engine.command(connection, "INFO", "all", timeout=timeout)))
        return {
            "memory_bytes": _number(info, "used_memory"),
            "connections": _number(info, "connected_clients"),
            "ops": {"get": _calls(info, "get"), "set": _calls(info, "set")},
            "hit_rate": hit_rate([info]),
        }

    def slow_queries(self, connection: Any, over_ms: float, timeout: float | None = None) -> list[SlowQuery]:
        """Of the entries that SLOWLOG still has: the server's slowlog-log-slower-than decides what gets there."""
        entries = self._engine.command(connection, "SLOWLOG", "GET", _ENTRIES, timeout=timeout)
        found = slow_queries(
            (_redacted(command), micros / 1000, datetime.fromtimestamp(at).astimezone())
            for _id, at, micros, command, *_client in entries
            if micros / 1000 >= over_ms
        )
        return sorted(found, key=lambda query: query.max_ms, reverse=True)


def _redacted(command: Sequence[bytes]) -> str:
    """The command's name alone: keys may say as much as values."""
    name = bytes(command[0]).decode("utf-8", "replace").upper() if command else ""
    return f"{name} ?" if len(command) > 1 else name


def _calls(info: Mapping[str, str], command: str) -> int:
    """`cmdstat_get:calls=21,usec=175,…`; a command that never ran has no line."""
    fields = dict(pair.partition("=")[::2] for pair in info.get(f"cmdstat_{command}", "").split(","))
    return int(fields.get("calls", 0))


def hit_rate(infos: Sequence[Mapping[str, str]]) -> float | None:
    """Hits of all lookups since the servers started; None before the first."""
    hits = sum(_number(info, "keyspace_hits") or 0 for info in infos)
    lookups = hits + sum(_number(info, "keyspace_misses") or 0 for info in infos)
    return round(hits / lookups, 4) if lookups else None


def _number(info: Mapping[str, str], field: str) -> int | None:
    return int(info[field]) if field in info else None


create = RedisMetrics
