"""One connection pool for every driver: FIFO waiters, no threads of its own, no I/O under a lock.

Whoever calls `acquire` opens the connection that it needs, so the driver's own error reaches it unchanged; when
that fails, or a connection breaks, the next in the queue is woken to connect itself. `slots` decides, this
module talks to the driver and waits.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar
from weakref import finalize

from katax_cli.core.clock import SYSTEM, Clock
from katax_cli.core.forks import follow
from katax_cli.core.measure.histogram import Histogram
from katax_cli.core.pooling.slots import Claim, Member, Slots
from katax_cli.core.settings import PoolSettings
from katax_cli.errors import PoolClosed, PoolTimeout

if TYPE_CHECKING:
    from katax_cli.snapshot import PoolStats

C = TypeVar("C")

COUNTERS = ("opened", "closed", "queued", "timed_out", "discarded", "connect_errors")
_log = logging.getLogger("katax.pool")


class Leased(NamedTuple):
    """A connection that is out: the thread that acquired it and when, in seconds since the epoch."""

    thread: str
    since: float

    def __str__(self) -> str:
        return f"a connection held by thread {self.thread}"


def never(_connection: object) -> bool:
    """For drivers that cannot tell a broken connection without asking the server."""
    return False


class Pool(Generic[C]):
    """At most `settings.max` connections, each held by one caller at a time.

    `check(connection, seconds)` raises when a connection is dead or does not say so in time; it is asked after a
    second of idleness, and before when `hung_up(connection)`, a look without a round trip, says that the server may
    have ended it. `reset` makes a used connection like new or raises, then it is closed. `connect`, `close`,
    `check` and `reset` run on the thread that acquires, releases or maintains. `acquire_times` has one observation
    for each success. A child made by fork starts empty and leaves its parent's connections alone. What is idle when
    the pool becomes garbage, or the program ends, is closed.
    """

    def __init__(
        self,
        name: str,
        connect: Callable[[float | None], C],
        *,
        close: Callable[[C], None],
        check: Callable[[C, float], None],
        is_broken: Callable[[C], bool] = never,
        reset: Callable[[C], None] | None = None,
        settings: PoolSettings = PoolSettings(),  # noqa: B008 - frozen, and the real default
        clock: Clock = SYSTEM,
    ) -> None:
        self.name = name
        self.settings = settings
        self.is_broken = is_broken
        self.acquire_times = Histogram()
        self._connect = connect
        self._close = close
        self._check = check
        self._doubted_at = 0.0
        self._reset = reset
        self._clock = clock
        self._monotonic = clock.monotonic
        self._slots: Slots[C] = Slots(name, settings)
        self._counts = dict.fromkeys(COUNTERS, 0)
        self._cut_off: tuple[Leased, ...] = ()
        finalize(self, _close_idle, name, self._slots, close)
        follow(self)

    @property
    def closed(self) -> bool:
        return self._slots.closed

    def acquire(self, timeout: float | None = None) -> C:
        """A connection that is the caller's until `release`.

        Waits at most `timeout` seconds and never longer than `settings.timeout`, first come first served.
        Raises PoolTimeout, PoolClosed, and what the driver raises when it cannot connect.
        """
        claim: Claim[C] = Claim()
        started = now = self._monotonic()
        try:
            self._slots.take_fresh(claim, now)
            member = claim.member
            if member is None:
                self._take_slowly(claim, started, self._limit(timeout))
                now = self._monotonic()
            elif self.is_broken(member.connection):
                self._replace(claim, started, self._limit(timeout))
                now = self._monotonic()
            member = claim.member
            assert member is not None
            member.thread = threading.current_thread()
            member.leased_at = now
            self.acquire_times.observe(now - started)
            return member.connection
        except BaseException:
            self._abandon(claim)
            raise

    def release(self, connection: C, *, broken: bool = False) -> None:
        """Takes a connection back; a `broken` one is closed. Raises ValueError when it is not out."""
        member = self._slots.recall(connection)
        if member is None:
            return
        returns = member.returns
        try:
            if broken:
                self._counts["discarded"] += 1
            elif self._reset is None or self._succeeds(self._reset, connection, "reset"):
                now = self._monotonic()
                if self._slots.put_back(member, now):
                    self._evict(now)
        finally:
            if member.returns == returns:
                self._discard(member)

    def connection(self, timeout: float | None = None) -> AbstractContextManager[C]:
        """`acquire` and `release` as a context; when its body raises, `is_broken` decides whether to keep it."""
        return _Loan(self, timeout)

    def maintain(self, now: float | None = None, *, fill: bool = True) -> None:
        """Closes idle connections past their limits and opens up to `settings.min`; for daemons, each second or so.

        Opens none without `fill`. Raises what the driver raises when it cannot connect.
        """
        now = self._monotonic() if now is None else now
        while self._evict(now):
            pass
        while fill and self._open_spare():
            pass

    def doubt(self) -> None:
        """The server was lost: idle connections are checked before they are handed out, however fresh."""
        self._doubted_at = now = self._monotonic()
        self._slots.doubt(now)

    def renew(self) -> None:
        """Discards the connections that were opened before the last doubt, those in use when they come back."""
        for member in self._slots.retire(self._doubted_at):
            self._counts["discarded"] += 1
            self._discard(member)

    def close(
        self, timeout: float = 0.0, *, before_cut: Callable[[], float] | None = None
    ) -> tuple[Leased, ...]:
        """Ends all waiting with PoolClosed, closes idle connections now and the others when they come back.

        Waits up to `timeout` seconds for them, then closes them under their users: after `before_cut`, which may
        end what runs on them and says how many seconds more they get. With 0.0 it leaves them alone. Returns
        those still out. May be repeated.
        """
        for member in self._slots.shut():
            self._discard(member)
        if timeout > 0.0:
            self._slots.drained.wait(min(timeout, threading.TIMEOUT_MAX))
        out = self.leased()
        if timeout > 0.0:
            if out and before_cut is not None:
                self._slots.drained.wait(before_cut())
            self._cut_off = out
            for member in self._slots.sever():
                self._discard(member)
        return out

    def left_open(self) -> tuple[Leased, ...]:
        """The result of a `close` that is under way, or has ended."""
        return self._cut_off or self.leased()

    def open(self) -> None:
        """Leases connections again after `close`; does nothing when it is open."""
        if self._slots.closed:
            self._cut_off = ()
            self._slots.reopen()

    def stats(self) -> PoolStats:
        """The pool now; connections being opened or closed count as active."""
        return self._slots.stats()

    def counters(self) -> Mapping[str, int]:
        """Counts since the start: acquired, queued, timed_out, opened, closed, discarded, connect_errors."""
        return {"acquired": self.acquire_times.count, **self._counts}

    def leased(self) -> tuple[Leased, ...]:
        """The connections that are out, longest first."""
        epoch = self._clock.now() - self._monotonic()
        out = [Leased(member.thread.name, epoch + member.leased_at) for member in self._slots.leased()]
        return tuple(sorted(out, key=lambda leased: leased.since))

    def _limit(self, timeout: float | None) -> float:
        limit = min(self.settings.timeout, threading.TIMEOUT_MAX)
        return limit if timeout is None else max(0.0, min(timeout, limit))

    def _take_slowly(self, claim: Claim[C], started: float, seconds: float) -> None:
        self._slots.stake(claim)
        if claim.gate is not None:
            self._wait(claim, started, seconds)
        elif claim.member is not None:
            self._vet(claim, claim.member, started + seconds)
        if claim.member is None:
            self._open(claim, started, seconds)

    def _wait(self, claim: Claim[C], started: float, seconds: float) -> None:
        self._counts["queued"] += 1
        # What was handed over in the last moment is taken.
        if not claim.wait(seconds) and self._slots.leave_queue(claim):
            raise self._timed_out(started)
        if claim.member is None and not claim.slot:
            raise PoolClosed(self.name)

    def _timed_out(self, started: float) -> PoolTimeout:
        self._counts["timed_out"] += 1
        waited, now = self._monotonic() - started, self.stats()
        return PoolTimeout(self.name, waited=waited, active=now.active, max=now.max, waiting=now.waiting)

    def _vet(self, claim: Claim[C], member: Member[C], until: float) -> None:
        """Keeps the claim's connection if it is young and alive, else closes it and keeps its slot."""
        now = self._monotonic()
        if not self._slots.past_limits(member, now) and self._alive(member, max(0.0, until - now)):
            return
        self._give_up(claim, member)

    def _replace(self, claim: Claim[C], started: float, seconds: float) -> None:
        """The server ended the claim's connection while it lay idle: a new one takes its slot."""
        assert claim.member is not None
        self._counts["discarded"] += 1
        self._give_up(claim, claim.member)
        self._open(claim, started, seconds)

    def _give_up(self, claim: Claim[C], member: Member[C]) -> None:
        if self._slots.reduce_to_slot(claim) is None:
            raise PoolClosed(self.name)
        self._close_quietly(member.connection)

    def _open(self, claim: Claim[C], started: float, seconds: float) -> None:
        """Uses the claim's slot to connect within what remains of the time."""
        remaining = started + seconds - self._monotonic()
        if remaining <= 0.0:
            raise self._timed_out(started)
        try:
            connection = self._connect(remaining)
        except Exception:
            self._counts["connect_errors"] += 1
            raise
        self._counts["opened"] += 1
        try:
            member = Member(connection, self._monotonic(), self.settings, self._clock.random)
            self._slots.lend(member, claim)
        finally:
            if claim.member is None:
                self._close_quietly(connection)

    def _abandon(self, claim: Claim[C]) -> None:
        """Gives up what the claim has; the state of its connection is not known, so that is closed."""
        if claim.gate is not None:
            self._slots.leave_queue(claim)
        if claim.member is not None:
            member = self._slots.reduce_to_slot(claim)
            if member is None:
                return
            self._close_quietly(member.connection)
        if claim.slot:
            self._slots.free_slot()

    def _evict(self, now: float) -> bool:
        """Closes one idle connection that is past its limits; False when there is none."""
        claim: Claim[C] = Claim()
        try:
            return self._slots.stake_stale(claim, now)
        finally:
            if claim.member is not None:
                self._discard(claim.member)

    def _open_spare(self) -> bool:
        """Opens one connection if fewer than `min` are open; False when there are enough."""
        claim: Claim[C] = Claim()
        try:
            if not self._slots.stake_spare(claim):
                return False
            self._open(claim, self._monotonic(), self._limit(None))
        except BaseException:
            self._abandon(claim)
            raise
        assert claim.member is not None
        self.release(claim.member.connection)
        return True

    def _discard(self, member: Member[C]) -> None:
        try:
            self._close_quietly(member.connection)
        finally:
            self._slots.free_slot()

    def _alive(self, member: Member[C], seconds: float) -> bool:
        return self._succeeds(lambda connection: self._check(connection, seconds), member.connection, "check")

    def _succeeds(self, action: Callable[[C], None], connection: C, what: str) -> bool:
        """Whatever a driver raises here says the same: this connection is not to be used again."""
        try:
            action(connection)
        except Exception:  # noqa: BLE001 - drivers have no common base
            self._counts["discarded"] += 1
            _log.debug("%s: a connection failed its %s and is closed", self.name, what, exc_info=True)
            return False
        return True

    def _close_quietly(self, connection: C) -> None:
        self._counts["closed"] += 1
        _close_quietly(self.name, connection, self._close)

    def after_fork(self) -> None:
        self._slots.after_fork()


def _close_idle(name: str, slots: Slots[C], close: Callable[[C], None]) -> None:
    # The pool stays open: exit handlers and daemon threads of the program may still use it.
    for member in slots.take_idle():
        _close_quietly(name, member.connection, close)
        slots.free_slot()


def _close_quietly(name: str, connection: C, close: Callable[[C], None]) -> None:
    try:
        close(connection)
    except Exception:  # noqa: BLE001 - nothing can be done, and its slot must become free
        _log.debug("%s: a connection could not be closed", name, exc_info=True)


class _Loan(Generic[C]):
    """`with pool.connection()`; a generator would cost as much as the pool itself."""

    __slots__ = ("_connection", "_pool", "_timeout")

    def __init__(self, pool: Pool[C], timeout: float | None) -> None:
        self._pool = pool
        self._timeout = timeout

    def __enter__(self) -> C:
        self._connection = self._pool.acquire(self._timeout)
        return self._connection

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        connection = self._connection
        self._pool.release(connection, broken=kind is not None and self._pool.is_broken(connection))
