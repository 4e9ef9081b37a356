"""The one composition root: profile → engine → pool → deadline → retry → breaker."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property, partial
from threading import RLock
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self, TypeVar, cast

from katax_cli.core.clock import SYSTEM
from katax_cli.core.forks import follow
from katax_cli.core.resilience.deadline import NEVER, Deadline
from katax_cli.core.resilience.retry import ONCE, RetryPolicy
from katax_cli.core.settings import EMBEDDED_FOLDER, ConnectionSettings
from katax_cli.core.text.duration import Duration
from katax_cli.engines import registry
from katax_cli.errors import DeadlineExceeded
from katax_cli.profiles.model.model import Profile
from katax_cli.profiles.sources.home import CIRCUITS
from katax_cli.services.calls.guard import Guard
from katax_cli.services.calls.left_behind import Running, start
from katax_cli.services.calls.observer import query_logging
from katax_cli.services.databases.database import Database, MakeDeadline, classify_with

if TYPE_CHECKING:
    from katax_cli.core.resilience.breaker import CallBreaker
    from katax_cli.services.calls.journal import Journal
    from katax_cli.services.databases.clients import RedisDatabase
    from katax_cli.services.databases.mongodb import MongoDatabase
    from katax_cli.services.databases.sql import SqlDatabase
    from katax_cli.snapshot import BreakerState

_EMBEDDED_START_SECONDS = 10.0
_LEAVE_BEHIND_AFTER = 1.0
"""Seconds after its deadline that a call has to come back by itself before it is left behind."""


class Companion(Protocol):
    """Follows the breakers of a runtime, and ends before its databases do."""

    def changed(self, connection: str, new: BreakerState, old: BreakerState) -> None: ...
    def close(self) -> None: ...


C = TypeVar("C", bound=Companion)


class Runtime:
    """The databases of one profile, opened when they are first used and closed together.

    `one_shot`: a single command, under one `deadline`, without a breaker and with one attempt unless the
    profile configures more. `probing`: for health checks, which ask no breaker, retry nothing, and hold one
    connection to each server at the most. `statement_timeouts`: False when the deadline alone limits a call.
    """

    engines: ClassVar[Mapping[str, str]] = registry.ENGINES

    def __init__(
        self,
        profile: Profile,
        *,
        deadline: Deadline = NEVER,
        one_shot: bool = False,
        probing: bool = False,
        statement_timeouts: bool = True,
    ) -> None:
        self.profile = profile
        self.deadline = deadline
        self._one_shot = one_shot
        self._probing = probing
        self._statement_timeouts = statement_timeouts
        self._databases: dict[str, Database] = {}
        self._companion: Companion | None = None
        self._lock = RLock()
        follow(self)

    def after_fork(self) -> None:
        self._lock = RLock()

    @cached_property
    def journal(self) -> Journal:
        """The profile's journal of writes."""
        from katax_cli.services.calls.journal import Journal

        home = self.profile.home
        return Journal(self.profile.journal.path(home), home=home)

    def database(self, name: str) -> Database:
        """The database of this name, the same object every time. Raises UnknownConnection."""
        return self.open(self.profile.connection(name))

    def open(self, settings: ConnectionSettings) -> Database:
        """The database for these settings; connects nowhere yet."""
        with self._lock:
            known = self._databases.get(settings.name)
            if known is None or known.closed:
                known = self._databases[settings.name] = self._make(settings)
            return known

    def sql(self, settings: ConnectionSettings) -> SqlDatabase:
        """The same, for settings of an SQL engine."""
        return cast("SqlDatabase", self.open(settings))

    def redis(self, settings: ConnectionSettings) -> RedisDatabase:
        """The same, for settings of Redis."""
        return cast("RedisDatabase", self.open(settings))

    def documents(self, settings: ConnectionSettings) -> MongoDatabase:
        """The same, for settings of MongoDB."""
        return cast("MongoDatabase", self.open(settings))

    def tabular(self, settings: ConnectionSettings) -> SqlDatabase | MongoDatabase:
        """The same, for settings of an engine that has tables or collections."""
        return cast("SqlDatabase | MongoDatabase", self.open(settings))

    def each(
        self, settings: Sequence[ConnectionSettings], work: Callable[[Any], Any]
    ) -> Iterator[tuple[ConnectionSettings, Any]]:
        """`work(database)` on each, in parallel; yields results in the order given, exceptions as values.

        A call that does not come back within the deadline is left behind in its daemon thread and yields
        DeadlineExceeded; it delays no other connection.
        """
        running = [(one, start(f"katax-{one.name}", partial(self._work_on, one, work))) for one in settings]
        for one, call in running:
            yield one, self._outcome(one.name, call)

    def _work_on(self, settings: ConnectionSettings, work: Callable[[Any], Any]) -> Any:
        return work(self.open(settings))

    def _outcome(self, name: str, call: Running) -> Any:
        left = self.deadline.within(None)
        if call.ended(None if left is None else left + _LEAVE_BEHIND_AFTER):
            return call.outcome
        return DeadlineExceeded(name, doing="the call", seconds=self.deadline.seconds or 0.0)

    def close(self) -> None:
        """Closes every database at once."""
        if self._companion is not None:
            self._companion.close()
        with self._lock:
            databases = list(self._databases.values())
            self._databases.clear()
        for database in databases:
            database.close()

    def cancel(self) -> None:
        """Ends what runs on the servers for this runtime."""
        for database in list(self._databases.values()):
            database.cancel_running()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if error is not None and not isinstance(error, Exception):
            self.cancel()
        self.close()

    def _make(self, settings: ConnectionSettings) -> Database:
        settings = self._placed(settings)
        if not self._lives_on:
            # A single command opens the connections that it uses, a probe one.
            most = 1 if self._probing else settings.pool.max
            settings = replace(settings, pool=replace(settings.pool, min=0, max=most))
        engine = registry.load(settings, self.engines)
        guard = Guard(
            settings.name,
            classify_with(engine),
            retry=self._retry(settings),
            breaker=self._breaker(settings),
        )
        database = _database_class(settings)(engine, guard, self._make_deadline(settings))
        database.observer.set_log(query_logging(self.profile, one_shot=self._one_shot))
        if self._one_shot and settings.type == "redis":
            # A command has one budget for all that it asks.
            cast("RedisDatabase", database).patience = None
        if self._lives_on:
            database.keep_up()
        if settings.replicas:
            self._add_replicas(cast("SqlDatabase", database), settings)
        return database

    def _add_replicas(self, database: SqlDatabase, settings: ConnectionSettings) -> None:
        from katax_cli.services.databases.replicas import Replicas

        database.replicas = Replicas(settings.replicas, lambda one: cast("SqlDatabase", self._make(one)))

    def _placed(self, settings: ConnectionSettings) -> ConnectionSettings:
        """Settings with the folder of `.katax/` in their paths; an embedded server also gets the time to start."""
        home = self.profile.home
        if settings.embedded and settings.path is None:
            folder = os.path.join(home, EMBEDDED_FOLDER)
            settings = replace(settings, path=folder, connect_timeout=_EMBEDDED_START_SECONDS)
        if settings.path is not None and settings.path.startswith(home + os.sep):
            from katax_cli.profiles.sources.home import ensure_home

            ensure_home(home)
            # Its engine makes the file for its owner alone.
            settings = replace(settings, embedded=True)
        return settings

    def _retry(self, settings: ConnectionSettings) -> RetryPolicy:
        name = settings.name
        configured = self.profile.retry_set or name in self.profile.connection_retry_set
        if self._probing or (self._one_shot and not configured):
            return ONCE
        return settings.retry or self.profile.connection_retry.get(name, self.profile.retry)

    @property
    def _lives_on(self) -> bool:
        return not (self._one_shot or self._probing)

    def _breaker(self, settings: ConnectionSettings) -> CallBreaker | None:
        name = settings.name
        if self._probing:
            return None
        if self._one_shot:
            return self._kept_off(name)
        from katax_cli.core.resilience.breaker import CallBreaker

        policy = settings.breaker or self.profile.connection_breaker.get(name, self.profile.breaker)
        return CallBreaker(policy, name=name, on_state_change=partial(self._breaker_changed, name))

    def _kept_off(self, name: str) -> CallBreaker | None:
        """A single command has a breaker only while an operator's trip refuses calls."""
        if not os.path.exists(os.path.join(self.profile.home, CIRCUITS)):
            return None
        from katax_cli.services.runtime.decisions import HostCopy

        decision = HostCopy(self.profile.home, self.profile.name).refusal(name.partition("/")[0])
        if decision is None:
            return None
        from katax_cli.core.resilience.breaker import CallBreaker

        breaker = CallBreaker(name=name)
        seconds = None if decision.ends_at is None else decision.ends_at - SYSTEM.now()
        breaker.force_open(seconds, decision.sentence)
        return breaker

    def accompanied(self, make: Callable[[Mapping[str, Database]], C]) -> C:
        """Returns the result of the first `make(databases)`, which gets every change of a breaker until `close`.

        A probing runtime has no breakers, and pools of one connection that say nothing: it hands out no databases.
        """
        with self._lock:
            if self._companion is None:
                self._companion = make({} if self._probing else self._databases)
            return cast("C", self._companion)

    def _breaker_changed(self, name: str, new: BreakerState, old: BreakerState) -> None:
        if self._companion is not None:
            self._companion.changed(name, new, old)

    def _make_deadline(self, settings: ConnectionSettings) -> MakeDeadline:
        usual = settings.statement_timeout if self._statement_timeouts else None

        def make(seconds: Duration | None) -> Deadline:
            return self.deadline.shorter(usual if seconds is None else seconds)

        return make


def _database_class(settings: ConnectionSettings) -> Callable[..., Database]:
    """Imported when wanted: a command on Redis does not pay for SQL."""
    if settings.type == "redis":
        from katax_cli.services.databases.clients import RedisDatabase

        return RedisDatabase
    if settings.type == "mongodb":
        from katax_cli.services.databases.mongodb import MongoDatabase

        return MongoDatabase
    from katax_cli.services.databases.sql import SqlDatabase

    return SqlDatabase
