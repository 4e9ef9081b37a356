"""Databases whose driver pools connections itself, and Redis among them; katax guards the calls."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import TYPE_CHECKING, Any

from katax_cli.core.deadline import Deadline
from katax_cli.errors import PoolClosed, Refused
from katax_cli.services.database import Database, MakeDeadline, open_bounded
from katax_cli.services.guard import Guard, Safety

if TYPE_CHECKING:
    from katax_cli.engines.base import Engine, KeyValueEngine
    from katax_cli.snapshot import PoolStats


class ClientDatabase(Database):
    """A database whose driver's client is shared by all threads and made at the first call."""

    def __init__(self, engine: Engine, guard: Guard, make_deadline: MakeDeadline | None = None) -> None:
        super().__init__(engine, guard, make_deadline)
        self._client: Any = None
        self._closed = False
        self._opening = Lock()

    def pool_stats(self) -> PoolStats:
        if self._client is None:
            from katax_cli.snapshot import PoolStats

            return PoolStats(max=self.settings.pool.max, total=0, active=0, idle=0, waiting=0)
        return self._stats(self._client)

    def get_client(self, *, timeout: float | None = None) -> Any:
        """The driver's own client, connected. Raises Refused when the connection is read-only."""
        if self.settings.read_only:
            raise Refused(f"{self.name!r} is read-only, so its driver's client is not handed out")
        self.connect(timeout=timeout)
        return self._client

    def release(self, client: Any) -> None:
        """Nothing to do: the client is shared."""

    def cancel_running(self) -> None:
        """Drops the client's connections, which ends what waits on them."""
        if self._client is not None:
            self.engine.close(self._client)

    def close(self, *, timeout: float = 0.0) -> tuple[str, ...]:
        self._closed = True
        client, self._client = self._client, None
        if client is not None:
            self.engine.close(client)
        return ()

    @contextmanager
    def _lease(self, deadline: Deadline) -> Iterator[Any]:
        if self._closed:
            raise PoolClosed(self.name)
        if self._client is None:
            with self._opening:
                if self._client is None:
                    self._client = open_bounded(self.engine, deadline.within(None))
        yield self._client

    @abstractmethod
    def _stats(self, client: Any) -> PoolStats:
        """The driver's pool."""


class RedisDatabase(ClientDatabase):
    """Redis: standalone, Sentinel, Cluster or embedded."""

    engine: KeyValueEngine

    def redis(
        self, *args: bytes | str | int | float, timeout: float | None = None, safety: Safety = Safety.WRITE
    ) -> Any:
        """Runs one command and returns its reply: bytes, int, list or None."""
        return self._on_connection(
            lambda client, seconds: self.engine.command(client, *args, timeout=seconds),
            safety=Safety.READ if self.settings.read_only else safety,
            timeout=timeout,
            doing=str(args[0]).upper() if args else "command",
        )

    def _stats(self, client: Any) -> PoolStats:
        return self.engine.pool_stats(client)
