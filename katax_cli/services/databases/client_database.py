"""Databases whose driver pools connections itself: its client is shared by all threads, and katax guards the calls."""

from __future__ import annotations

from threading import TIMEOUT_MAX, Condition, Lock, Thread, current_thread
from typing import TYPE_CHECKING, Any

from katax_cli.core.forks import follow
from katax_cli.core.resilience.deadline import Deadline
from katax_cli.core.text.duration import Duration, in_seconds
from katax_cli.errors import ConfigError, PoolClosed, Refused
from katax_cli.services.calls.guard import Guard
from katax_cli.services.calls.left_behind import Running, start
from katax_cli.services.databases.database import ConnectTimeout, Database, MakeDeadline, end_tunnel

if TYPE_CHECKING:
    from katax_cli.engines.base import PoolingEngine
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

    engine: PoolingEngine

    def __init__(
        self, engine: PoolingEngine, guard: Guard, make_deadline: MakeDeadline | None = None
    ) -> None:
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
        return self.engine.pool_stats(self._client)

    def opened(self) -> int:
        client = self._client
        return 0 if client is None else self.engine.opened(client)

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
