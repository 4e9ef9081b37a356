"""Databases whose driver pools connections itself, and Redis among them; katax guards the calls."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from threading import TIMEOUT_MAX, Condition, Lock, Thread, current_thread
from typing import TYPE_CHECKING, Any, Protocol

from katax_cli.core.clock import SYSTEM
from katax_cli.core.forks import follow
from katax_cli.core.resilience.deadline import NEVER, Deadline
from katax_cli.core.text.duration import Duration, in_seconds
from katax_cli.errors import ConfigError, PoolClosed, Refused
from katax_cli.services.calls.guard import Guard, Safety
from katax_cli.services.calls.left_behind import Running, start
from katax_cli.services.databases.database import (
    ConnectTimeout,
    Database,
    MakeDeadline,
    TimeLimit,
    connect_limit,
    end_tunnel,
)

if TYPE_CHECKING:
    from katax_cli.core.settings import ConnectionSettings
    from katax_cli.engines.base import Engine, KeyValueEngine
    from katax_cli.snapshot import PoolStats


class _Calls:
    """The calls under way, so that closing can wait for them."""

    def __init__(self) -> None:
        self._ended = Condition()
        self._awaited = False
        self._threads: dict[_ClientLease, Thread] = {}
        self._left: tuple[str, ...] = ()

    def begin(self, call: _ClientLease) -> None:
        self._threads[call] = current_thread()

    def end(self, call: _ClientLease) -> None:
        del self._threads[call]
        # Read after the removal, as `wait` sets it before it looks: one of the two sees the other.
        if self._awaited:
            with self._ended:
                self._ended.notify_all()

    def wait(self, seconds: float) -> tuple[str, ...]:
        """Waits up to `seconds` until there are none; names those still under way by their threads."""
        self._awaited = True
        with self._ended:
            self._ended.wait_for(lambda: not self._threads, min(seconds, TIMEOUT_MAX))
        self._left = self._named()
        return self._left

    def begin_anew(self) -> None:
        """Forgets the calls that the last `wait` named."""
        self._left = ()

    def left(self) -> tuple[str, ...]:
        """The result of `wait`, or what it would return now."""
        return self._left or self._named()

    def _named(self) -> tuple[str, ...]:
        return tuple(f"a call of thread {thread.name}" for thread in list(self._threads.values()))


class _ClientLease:
    """The driver's client for the length of a `with` block. A generator would cost as much as all that it does."""

    __slots__ = ("_calls", "_database", "_deadline")

    def __init__(self, database: ClientDatabase, calls: _Calls, deadline: Deadline) -> None:
        self._database = database
        self._calls = calls
        self._deadline = deadline

    def __enter__(self) -> Any:
        self._calls.begin(self)
        try:
            return self._database.client_within(self._deadline)
        except BaseException:
            self._calls.end(self)
            raise

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self._calls.end(self)


class ClientDatabase(Database):
    """A database whose driver's client is shared by all threads and made at the first call."""

    def __init__(self, engine: Engine, guard: Guard, make_deadline: MakeDeadline | None = None) -> None:
        super().__init__(engine, guard, make_deadline)
        if self.settings.pool.configure or self.settings.pool.reset:
            raise ConfigError(
                f"{self.name!r} is a {engine.name} connection, whose driver has a pool of its own; "
                "'configure' and 'reset' work on postgresql, mysql, sqlite"
            )
        self._client: Any = None
        self._closed = False
        self._changing = Lock()
        self._opening: Running | None = None
        self._calls = _Calls()
        self._parents: list[Any] = []
        follow(self)

    def after_fork(self) -> None:
        """Opens a client of its own when it is used; the parent's is kept, so that nothing closes its sockets."""
        self._parents.append(self._client)
        self._client = self._opening = None
        self._changing = Lock()
        self._calls = _Calls()

    @property
    def closed(self) -> bool:
        return self._closed

    def pool_stats(self) -> PoolStats:
        if self._client is None:
            from katax_cli.snapshot import PoolStats

            return PoolStats(max=self.settings.pool.max, total=0, active=0, idle=0, waiting=0)
        return self._stats(self._client)

    def get_client(self, *, timeout: Duration | None = None) -> Any:
        """The driver's own client, connected. Raises Refused when the connection is read-only."""
        if self.settings.read_only:
            raise Refused(f"{self.name!r} is read-only, so its driver's client is not handed out")
        self.connect(timeout=timeout)
        return self._client

    def release(self, client: Any) -> None:
        """Does nothing: the client is shared."""

    def cancel_running(self) -> None:
        """Drops the client's connections, which ends what waits on them."""
        if self._client is not None:
            self.engine.close(self._client)

    def _reopen(self) -> None:
        with self._changing:
            self._closed = False
            self._calls.begin_anew()

    def close(self, *, timeout: Duration = 0.0) -> tuple[str, ...]:
        with self._changing:
            self._closed = True
        self._end_upkeep()
        out = self._calls.wait(in_seconds(timeout))
        client, self._client = self._client, None
        if client is not None:
            self.engine.close(client)
        end_tunnel(self.engine)
        return out

    def left_open(self) -> tuple[str, ...]:
        return self._calls.left()

    def _lease(self, deadline: Deadline) -> _ClientLease:
        return _ClientLease(self, self._calls, deadline)

    def client_within(self, deadline: Deadline) -> Any:
        """The client, which is opened if there is none yet. Raises PoolClosed, ConnectTimeout."""
        if self._closed:
            raise PoolClosed(self.name)
        return self._client or self._opened(deadline)

    def _opened(self, deadline: Deadline) -> Any:
        """The client, opened once for all callers; each waits for it no longer than it has time."""
        with self._changing:
            if self._client is not None:
                return self._client
            if self._opening is None:
                self._opening = start(f"katax-open-{self.name}", self._open)
            opening = self._opening
        if not opening.ended(deadline.within(None)):
            raise ConnectTimeout(f"no answer in {deadline.seconds:.3g} s")
        if isinstance(opening.outcome, BaseException):
            raise opening.outcome
        return opening.outcome

    def _open(self) -> Any:
        try:
            client = self._connect(None)
            with self._changing:
                if not self._closed:
                    self._client = client
                    return client
            self.engine.close(client)
            raise PoolClosed(self.name)
        finally:
            # A server that refuses at once may end this before its starter has noted that it runs.
            with self._changing:
                self._opening = None

    @abstractmethod
    def _stats(self, client: Any) -> PoolStats:
        """The driver's pool."""


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
            return self._on_connection(
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
            return self._on_connection(
                lambda client, seconds: self.engine.pipeline(
                    shard or client, commands, seconds, tolerant=tolerant
                ),
                safety=self._safety(safety, commands),
                timeout=timeout,
                doing=f"{len(commands)} commands",
            )

    def shards(self, *, timeout: TimeLimit = None) -> Sequence[Any]:
        """The possible values of `shard`: one for each server that owns keys."""
        return self._on_connection(
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

    def opened(self) -> int:
        client = self._client
        return 0 if client is None else self.engine.opened(client)

    def _stats(self, client: Any) -> PoolStats:
        return self.engine.pool_stats(client)

    def _redacted(self, statement: Sequence[object]) -> str:
        """The command's name alone: its keys may say as much as its values."""
        name = statement[0] if statement else ""
        words = (name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name)).split(None, 1)
        return f"{words[0].upper() if words else ''}{' ?' if len(words) > 1 or len(statement) > 1 else ''}"

    def _fingerprint(self, statement: Sequence[object]) -> str:
        return self._redacted(statement)


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
