"""The composition root for tasks: the same as for threads, with engines that let the event loop go on."""

from __future__ import annotations

from katax_cli.aio.guard import AwaitedGuard
from katax_cli.core.settings import ConnectionSettings
from katax_cli.engines.registry import AWAITED
from katax_cli.services.databases.database import Database
from katax_cli.services.databases.lease import Patience
from katax_cli.services.databases.sql import SqlDatabase
from katax_cli.services.program.container import Katax
from katax_cli.services.runtime.runtime import Runtime

_IMPATIENT = Patience(server_first=0.05, grace=0.1)
"""A task that waits takes no thread from others, so what is late is left sooner: 0.2 s after its deadline."""


class AwaitedRuntime(Runtime):
    """Databases whose calls are made for tasks."""

    engines = AWAITED
    guard_class = AwaitedGuard

    def _make(self, settings: ConnectionSettings) -> Database:
        database = super()._make(settings)
        if isinstance(database, SqlDatabase):
            database.leases.patience = _IMPATIENT
        return database


class AwaitedContainer(Katax):
    """The container behind an `AsyncKatax`."""

    runtime_class = AwaitedRuntime
