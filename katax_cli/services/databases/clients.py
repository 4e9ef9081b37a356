"""Redis as a database, and the round trips that services make on it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from katax_cli.core.clock import SYSTEM
from katax_cli.core.resilience.deadline import NEVER, Deadline
from katax_cli.services.calls.guard import Safety
from katax_cli.services.databases.client_database import ClientDatabase
from katax_cli.services.databases.database import TimeLimit, connect_limit

if TYPE_CHECKING:
    from katax_cli.core.settings import ConnectionSettings
    from katax_cli.engines.base import KeyValueEngine

ANSWER_SECONDS = 2.0
"""How long a service waits for each answer of Redis unless its caller says."""
Word = bytes | str | int | float


class Commands(Protocol):
    """Runs Redis commands: the database itself, or the round trips of one call of a service."""

    @property
    def name(self) -> str: ...

    @property
    def settings(self) -> ConnectionSettings: ...

    def redis(self, *args: Word, safety: Safety | None = None, shard: Any = None) -> Any: ...

    def pipeline(
        self,
        commands: Sequence[Sequence[Word]],
        *,
        safety: Safety | None = None,
        shard: Any = None,
        tolerant: bool = False,
    ) -> list[Any]: ...

    def shards(self) -> Sequence[Any]: ...


class RedisDatabase(ClientDatabase):
    """Redis: standalone, Sentinel, Cluster or embedded.

    `patience` is how long services wait for each answer; None: as long as any other call takes at most.
    """

    engine: KeyValueEngine
    patience: float | None = ANSWER_SECONDS
    _doubted_at = 0.0

    def redis(
        self,
        *args: Word,
        timeout: TimeLimit = None,
        safety: Safety | None = None,
        shard: Any = None,
    ) -> Any:
        """Runs one command and returns its reply: bytes, int, list or None; on one of `shards` if it says so.

        Without `safety`, a command that is known to only read is repeated when it was lost, and any other is a
        write.
        """
        with self.observer.watch(args):
            return self.ask(
                lambda client, seconds: self.engine.command(shard or client, *args, timeout=seconds),
                safety=self._safety(safety, [args]),
                timeout=timeout,
                doing=str(args[0]).upper() if args else "command",
            )

    def pipeline(
        self,
        commands: Sequence[Sequence[Word]],
        *,
        timeout: TimeLimit = None,
        safety: Safety | None = None,
        shard: Any = None,
        tolerant: bool = False,
    ) -> list[Any]:
        """Runs commands of one key each in one round trip (to each node of a cluster); replies in order.

        Not a transaction. Raises the first refusal once all were answered; when `tolerant`, a Failure stands
        for each.
        """
        with self.observer.watch(("PIPELINE", *commands)):
            return self.ask(
                lambda client, seconds: self.engine.pipeline(
                    shard or client, commands, seconds, tolerant=tolerant
                ),
                safety=self._safety(safety, commands),
                timeout=timeout,
                doing=f"{len(commands)} commands",
            )

    def shards(self, *, timeout: TimeLimit = None) -> Sequence[Any]:
        """The possible values of `shard`: one for each server that owns keys."""
        return self.ask(
            lambda client, _seconds: self.engine.shards(client),
            safety=Safety.READ,
            timeout=timeout,
            doing="connecting",
        )

    def within(self, timeout: TimeLimit) -> RoundTrips:
        """The round trips of one call of a service, `timeout` seconds together; see RoundTrips."""
        return RoundTrips(self, timeout)

    @property
    def answer_seconds(self) -> float | None:
        """Seconds to wait for an answer now: more while the first connection is still to be opened."""
        if self.patience is None:
            return None
        seconds = min(self.patience, self.settings.statement_timeout)
        return seconds if self._client is not None else max(seconds, connect_limit(self.settings))

    def _safety(self, said: Safety | None, commands: Sequence[Sequence[Word]]) -> Safety:
        if self.settings.read_only:
            return Safety.READ
        return said or (Safety.READ if all(map(self.engine.only_reads, commands)) else Safety.WRITE)

    def maintain(self, *, fill: bool) -> None:
        client = self._client
        if client is not None:
            with self.guard.translating(deadline=NEVER, safety=Safety.PROBE, doing="filling the pool"):
                self.engine.maintain(client, fill=fill)

    def doubt(self) -> None:
        self._doubted_at = SYSTEM.monotonic()

    def renew(self) -> None:
        client = self._client
        if client is not None:
            self.engine.discard(client, self._doubted_at)

    def _redacted(self, statement: Sequence[object]) -> str:
        """The command's name alone: its keys may say as much as its values."""
        name = statement[0] if statement else ""
        words = (name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name)).split(None, 1)
        return f"{words[0].upper() if words else ''}{' ?' if len(words) > 1 or len(statement) > 1 else ''}"


class RoundTrips:
    """The round trips of one call of a service to Redis.

    All of it takes `timeout` seconds at most; without one, each answer is waited for as long as the patience of
    the database lasts, and the whole takes as long as it takes.
    """

    __slots__ = ("_deadline", "database")

    def __init__(self, database: RedisDatabase, timeout: TimeLimit = None) -> None:
        self.database = database
        if timeout is None or isinstance(timeout, Deadline):
            self._deadline = timeout
        else:
            self._deadline = Deadline(timeout)

    @property
    def name(self) -> str:
        return self.database.name

    @property
    def settings(self) -> ConnectionSettings:
        return self.database.settings

    def redis(self, *args: Word, safety: Safety | None = None, shard: Any = None) -> Any:
        """See RedisDatabase.redis."""
        return self.database.redis(*args, timeout=self.limit, safety=safety, shard=shard)

    def pipeline(
        self,
        commands: Sequence[Sequence[Word]],
        *,
        safety: Safety | None = None,
        shard: Any = None,
        tolerant: bool = False,
    ) -> list[Any]:
        """See RedisDatabase.pipeline."""
        return self.database.pipeline(
            commands, timeout=self.limit, safety=safety, shard=shard, tolerant=tolerant
        )

    def shards(self) -> Sequence[Any]:
        """See RedisDatabase.shards."""
        return self.database.shards(timeout=self.limit)

    @property
    def limit(self) -> TimeLimit:
        """The time limit of the next round trip."""
        return self._deadline or self.database.answer_seconds
