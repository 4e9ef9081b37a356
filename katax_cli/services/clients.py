"""Databases whose driver pools connections itself, and Redis among them; katax guards the calls."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from threading import TIMEOUT_MAX, Condition, Lock, current_thread
from typing import TYPE_CHECKING, Any

from katax_cli.core.deadline import Deadline
from katax_cli.errors import PoolClosed, Refused
from katax_cli.services.database import Database, MakeDeadline, open_bounded
from katax_cli.services.guard import Guard, Safety

if TYPE_CHECKING:
    from katax_cli.engines.base import Engine, KeyValueEngine
    from katax_cli.snapshot import PoolStats


class _Calls:
    """The calls under way, so that closing can wait for them."""

    def __init__(self) -> None:
        self._changed = Condition()
        self._threads: list[str] = []

    @contextmanager
    def one(self) -> Iterator[None]:
        thread = current_thread().name
        with self._changed:
            self._threads.append(thread)
        try:
            yield
        finally:
            with self._changed:
                self._threads.remove(thread)
                self._changed.notify_all()

    def wait(self, seconds: float) -> tuple[str, ...]:
        """Waits up to `seconds` until there are none; returns the threads of those still under way."""
        with self._changed:
            self._changed.wait_for(lambda: not self._threads, min(seconds, TIMEOUT_MAX))
            return tuple(self._threads)


class ClientDatabase(Database):
    """A database whose driver's client is shared by all threads and made at the first call."""

    def __init__(self, engine: Engine, guard: Guard, make_deadline: MakeDeadline | None = None) -> None:
        super().__init__(engine, guard, make_deadline)
        self._client: Any = None
        self._closed = False
        self._opening = Lock()
        self._calls = _Calls()

    @property
    def closed(self) -> bool:
        return self._closed

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
        out = self._calls.wait(timeout)
        client, self._client = self._client, None
        if client is not None:
            self.engine.close(client)
        return tuple(f"a call of thread {thread}" for thread in out)

    @contextmanager
    def _lease(self, deadline: Deadline) -> Iterator[Any]:
        with self._calls.one():
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
        self,
        *args: bytes | str | int | float,
        timeout: float | None = None,
        safety: Safety = Safety.WRITE,
        shard: Any = None,
    ) -> Any:
        """Runs one command and returns its reply: bytes, int, list or None; on one of `shards` if it says so."""
        return self._on_connection(
            lambda client, seconds: self.engine.command(shard or client, *args, timeout=seconds),
            safety=Safety.READ if self.settings.read_only else safety,
            timeout=timeout,
            doing=str(args[0]).upper() if args else "command",
            statement=args,
        )

    def pipeline(
        self,
        commands: Sequence[Sequence[bytes | str | int | float]],
        *,
        timeout: float | None = None,
        safety: Safety = Safety.WRITE,
        shard: Any = None,
        tolerant: bool = False,
    ) -> list[Any]:
        """Runs commands of one key each in one round trip (to each node of a cluster); replies in order.

        Not a transaction. Raises the first refusal once all were answered; when `tolerant`, a Failure stands
        for each.
        """
        return self._on_connection(
            lambda client, seconds: self.engine.pipeline(
                shard or client, commands, seconds, tolerant=tolerant
            ),
            safety=Safety.READ if self.settings.read_only else safety,
            timeout=timeout,
            doing=f"{len(commands)} commands",
            statement=("PIPELINE", *commands),
        )

    def shards(self) -> Sequence[Any]:
        """What `shard` may be: one for each server that owns keys."""
        return self._on_connection(
            lambda client, _seconds: self.engine.shards(client),
            safety=Safety.READ,
            timeout=None,
            doing="connecting",
        )

    def _stats(self, client: Any) -> PoolStats:
        return self.engine.pool_stats(client)

    def _redacted(self, statement: Sequence[object]) -> str:
        """The command's name alone: its keys may say as much as its values."""
        name = statement[0] if statement else ""
        words = (name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name)).split(None, 1)
        return f"{words[0].upper() if words else ''}{' ?' if len(words) > 1 or len(statement) > 1 else ''}"

    def _fingerprint(self, statement: Sequence[object]) -> str:
        return self._redacted(statement)


_LOSE_DATA = frozenset(
    {"FLUSHALL", "FLUSHDB", "SWAPDB", "SHUTDOWN", "DEBUG", "REPLICAOF", "SLAVEOF", "FAILOVER"}
)


def loses_data(words: Sequence[str]) -> bool:
    """True for a command that loses more than the keys that it names."""
    return bool(words) and words[0].strip().upper() in _LOSE_DATA
