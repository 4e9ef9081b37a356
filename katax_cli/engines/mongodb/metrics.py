"""The load of a MongoDB server, and the operations that its profiler found slow (system.profile)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pymongo.errors import OperationFailure

from katax_cli.engines.base import SlowQuery
from katax_cli.engines.mongodb import MongoEngine, connect
from katax_cli.engines.parts import EnginePart, slow_queries
from katax_cli.errors import ConfigError

_ENTRIES = 1000
_LATENCIES = ("reads", "writes", "commands")


class MongoMetrics(EnginePart[MongoEngine]):
    """ReportsMetrics and SlowQueries."""

    def metrics(self, connection: Any, timeout: float | None = None) -> Mapping[str, object]:
        """Connections and operations of the server since its start, where the user may ask; this database's size."""
        with self._engine.attempt(connection, timeout):
            size = self._database(connection).command("dbStats")
            try:
                status = connection.admin.command("serverStatus")
            except OperationFailure:
                status = {}
        return {
            "connections": _connections(status.get("connections", {})),
            "queries": _operations(status.get("opLatencies", {})),
            "size_bytes": int(size.get("storageSize", 0) + size.get("indexSize", 0)),
            "tables": size.get("collections"),
        }

    def slow_queries(self, connection: Any, over_ms: float, timeout: float | None = None) -> list[SlowQuery]:
        """Of the operations that the profiler recorded."""
        database = self._database(connection)
        with self._engine.attempt(connection, timeout):
            slow = database["system.profile"].find({"millis": {"$gte": over_ms}})
            entries = list(slow.sort("millis", -1).limit(_ENTRIES))
            if not entries and not _profiles(database):
                raise ConfigError(
                    f"{self._engine.settings.name!r} keeps no slow queries: its profiler is off; "
                    """run 'katax db command {"profile": 1, "slowms": 100}'"""
                )
        return summed(entries)

    def _database(self, client: Any) -> Any:
        return client[connect.database_name(self._engine.settings)]


def _profiles(database: Any) -> bool:
    try:
        return bool(database.command({"profile": -1}).get("was"))
    except OperationFailure:
        return False


def _connections(seen: Mapping[str, Any]) -> dict[str, int | None]:
    total, active, free = seen.get("current"), seen.get("active"), seen.get("available")
    known = total is not None
    return {
        "active": active,
        "idle": total - active if known and active is not None else None,
        "total": total,
        "max": total + free if known and free is not None else None,
    }


def _operations(seen: Mapping[str, Any]) -> dict[str, float | None]:
    kinds = [seen[kind] for kind in _LATENCIES if kind in seen]
    count = sum(kind.get("ops", 0) for kind in kinds)
    micros = sum(kind.get("latency", 0) for kind in kinds)
    return {
        "count": count if kinds else None,
        "avg_ms": round(micros / count / 1000, 3) if count else None,
    }


def summed(entries: Sequence[Mapping[str, Any]]) -> list[SlowQuery]:
    """The profiler's entries by the shape of what was asked."""
    return slow_queries((redacted(entry), float(entry["millis"]), entry["ts"]) for entry in entries)


def redacted(entry: Mapping[str, Any]) -> str:
    """Operation, collection and the names of its options; what they were given stays out."""
    options = [key for key in entry.get("command", {}) if key not in ("lsid", "$db", "$clusterTime")][1:]
    text = f"{entry.get('op', 'command')} {entry.get('ns', '')}".rstrip()
    return f"{text} {{{', '.join(options)}}}" if options else text


create = MongoMetrics
