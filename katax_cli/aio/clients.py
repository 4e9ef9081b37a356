"""Databases whose driver pools connections itself, for tasks: Redis and MongoDB."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from katax_cli.aio.database import AsyncDatabase
from katax_cli.core.text.duration import Duration
from katax_cli.services.calls.guard import Safety
from katax_cli.services.databases.clients import RedisDatabase, Word
from katax_cli.services.databases.mongodb import MongoDatabase


class AsyncRedisDatabase(AsyncDatabase[RedisDatabase]):
    """Redis for tasks: standalone, Sentinel, Cluster or embedded."""

    async def redis(self, *args: Word, timeout: Duration | None = None, safety: Safety | None = None) -> Any:
        """Runs one command and returns its reply: bytes, int, list or None.

        Without `safety`, a command that is known to only read is repeated when it was lost, and any other is a write.
        """
        return await self._home.call(self._database.redis, *args, timeout=timeout, safety=safety)

    async def pipeline(
        self,
        commands: Sequence[Sequence[Word]],
        *,
        timeout: Duration | None = None,
        safety: Safety | None = None,
        tolerant: bool = False,
    ) -> list[Any]:
        """Runs commands of one key each in one round trip (to each node of a cluster); replies in order.

        Not a transaction. Raises the first refusal once all were answered; when `tolerant`, a Failure stands for each.
        """
        return await self._home.call(
            self._database.pipeline, commands, timeout=timeout, safety=safety, tolerant=tolerant
        )


class AsyncMongoDatabase(AsyncDatabase[MongoDatabase]):
    """MongoDB for tasks; its driver waits in named threads."""

    async def command(
        self, spec: Mapping[str, Any], *, timeout: Duration | None = None, safety: Safety | None = None
    ) -> Mapping[str, Any]:
        """Runs one database command and returns the server's answer."""
        return await self._home.call(self._database.command, spec, timeout=timeout, safety=safety)
