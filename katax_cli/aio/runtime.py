"""The composition root for tasks: the same as for threads, with engines that let the event loop go on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from katax_cli.aio.own_loop import Ends, OwnLoop
from katax_cli.core.resilience.shutdown import Step
from katax_cli.core.settings import ConnectionSettings
from katax_cli.core.text.duration import Duration
from katax_cli.engines.awaited.calls import in_thread, is_for_a_task
from katax_cli.engines.registry import AWAITED
from katax_cli.profiles.model.model import Profile
from katax_cli.services.databases.database import Database
from katax_cli.services.databases.lease import Patience
from katax_cli.services.databases.sql import SqlDatabase
from katax_cli.services.program.closing import step_for
from katax_cli.services.program.container import Katax
from katax_cli.services.program.inventory import ContainerHealth
from katax_cli.services.program.lifecycle import PROBE_SECONDS
from katax_cli.services.runtime.runtime import Runtime

_IMPATIENT = Patience(server_first=0.05, grace=0.1)
"""A task that waits takes no thread from others, so what is late is left sooner: 0.2 s after its deadline."""


class AwaitedRuntime(Runtime):
    """Databases whose calls are made for tasks."""

    engines = AWAITED

    def _make(self, settings: ConnectionSettings) -> Database:
        database = super()._make(settings)
        if isinstance(database, SqlDatabase):
            database.leases.patience = _IMPATIENT
        return database


class AwaitedContainer(Katax):
    """The container behind an `AsyncKatax`."""

    runtime_class = AwaitedRuntime

    def __init__(
        self, profile: str | Profile | None = None, *, config: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(profile, config=config)
        self.home = OwnLoop()
        self._twins: dict[tuple[str, Database], Database] = {}

    def twin(self, name: str, database: Database) -> Database:
        """A database for tasks in the place of one for threads, closed with the container, or after that one was."""
        with self._lock:
            for key in [key for key in self._twins if key[1].closed]:
                self._twins.pop(key).close()
            if (name, database) not in self._twins:
                runtime = self.runtime_class(self.profile)
                self._twins[name, database] = runtime.open(replace(database.settings, name=name))
            return self._twins[name, database]

    def health_check(self, *names: str, timeout: Duration = PROBE_SECONDS) -> ContainerHealth:
        check = partial(super().health_check, *names, timeout=timeout)
        # In a thread: it asks what drivers can only be asked by blocking, and a busy event loop is no server's fault.
        return in_thread("katax-health", check) if is_for_a_task() else check()

    def _end_services(self) -> list[Step]:
        ends = [partial(_ended, subscription) for subscription in self.home.subscriptions.copy()]
        return [*super()._end_services(), *(Step("subscription", end) for end in ends)]

    def _end_databases(self) -> list[Step]:
        return [*super()._end_databases(), *(step_for(twin) for twin in self._twins.values())]


def _ended(subscription: Ends, _seconds: float) -> tuple[str, ...]:
    subscription.end()
    return ()
