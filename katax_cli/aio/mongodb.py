"""MongoDB for tasks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from katax_cli.aio.database import AsyncDatabase
from katax_cli.core.text.duration import Duration
from katax_cli.services.calls.guard import Safety
from katax_cli.services.databases.mongodb import MongoDatabase


class AsyncMongoDatabase(AsyncDatabase[MongoDatabase]):
    """MongoDB for tasks; its driver waits in named threads."""

    async def command(
        self, spec: Mapping[str, Any], *, timeout: Duration | None = None, safety: Safety | None = None
    ) -> Mapping[str, Any]:
        """Runs one database command and returns the server's answer."""
        return await self._home.call(self._database.command, spec, timeout=timeout, safety=safety)
