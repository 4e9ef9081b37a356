"""The identity of a Redis server, and the room in its memory."""

from __future__ import annotations

from typing import Any, cast

from katax_cli.engines.base import KeyValueEngine
from katax_cli.engines.dumps import address_id
from katax_cli.engines.parts import EnginePart
from katax_cli.engines.redis.engine import info_fields
from katax_cli.engines.restores import Space


class RedisRestore(EnginePart[KeyValueEngine]):
    """A server has no identity that outlives a restart: its address stands for it."""

    def server_id(self, connection: Any) -> str:
        return address_id(self._engine.settings)

    def space(self, connection: Any, database: str) -> Space:
        memory = info_fields(cast("bytes", self._engine.command(connection, "INFO", "memory")))
        used = int(memory.get("used_memory", 0))
        most = int(memory.get("maxmemory", 0)) or int(memory.get("total_system_memory", 0))
        return Space(most - used if most else None, used)


create = RedisRestore
