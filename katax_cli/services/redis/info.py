"""Figures of a cache from INFO, summed over the servers of a cluster."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from katax_cli.engines.redis.engine import info_fields
from katax_cli.engines.redis.metrics import hit_rate
from katax_cli.services.calls.guard import Safety
from katax_cli.services.databases.clients import Commands

_SUMMED = ("connected_clients", "used_memory", "total_commands_processed")


def stats(redis: Commands) -> dict[str, Any]:
    """Counters of the whole server, not of the prefix; of a cluster the sums, and the shortest uptime."""
    infos = server_infos(redis)
    sums = {name: sum(_number(info, name) for info in infos) for name in _SUMMED}
    return {
        "uptime_seconds": min(_number(info, "uptime_in_seconds") for info in infos),
        "connected_clients": sums["connected_clients"],
        "used_memory": sums["used_memory"],
        "used_memory_human": human_bytes(sums["used_memory"]),
        "total_commands_processed": sums["total_commands_processed"],
        "hit_rate": hit_rate(infos),
    }


def server_infos(redis: Commands) -> list[Mapping[str, str]]:
    """INFO of each server that owns keys, by the server's names."""
    return [info_fields(redis.redis("INFO", safety=Safety.READ, shard=shard)) for shard in redis.shards()]


def evicted_keys(infos: Sequence[Mapping[str, str]]) -> list[int]:
    """Keys that each server threw away since its start, because it was at its `maxmemory`."""
    return [int(_number(info, "evicted_keys")) for info in infos]


def human_bytes(size: float) -> str:
    """Bytes as Redis writes them: 1.50M."""
    for unit in ("B", "K", "M", "G"):
        if size < 1024:
            return f"{size:.0f}B" if unit == "B" else f"{size:.2f}{unit}"
        size /= 1024
    return f"{size:.2f}T"


def _number(info: Mapping[str, str], name: str) -> int:
    return int(info.get(name, "0"))
