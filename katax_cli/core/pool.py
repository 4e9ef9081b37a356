"""One connection pool for every driver: FIFO waiters, no threads of its own, no I/O under its lock.

Whoever calls `acquire` opens the connection that it needs, so the driver's own error reaches it unchanged.
A *slot* is the right to one of `max` connections; it is taken before a connection is opened and given up
after it is closed, so there are never more than `max`. While callers wait there is neither an idle connection
nor a free slot: what comes back goes straight to the one who waited longest, a connection as it is and a slot
as the order to connect.

CPython delivers signals, runs finalizers and switches threads at calls and loops. Under the lock, state
therefore moves by assignments, subscripts and `del`: a KeyboardInterrupt finds every slot in the pool or in its
caller's `Claim`, and a finalizer that returns a connection (why the lock is reentrant) finds nothing half done.
"""

from __future__ import annotations

import logging
import os
import threading
import weakref
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any, Generic, TypeVar

from katax_cli.core.clock import SYSTEM, Clock
from katax_cli.core.histogram import Histogram
from katax_cli.core.lease import Claim, Leased, Loan, Member, never, shut_gate
from katax_cli.core.settings import PoolSettings
from katax_cli.errors import PoolClosed, PoolTimeout
from katax_cli.snapshot import PoolStats

__all__ = ["Leased", "Pool", "never"]

C = TypeVar("C")

_log = logging.getLogger("katax.pool")


class Pool(Generic[C]):
    """At most `settings.max` connections, each lent to one caller at a time.

    `check` raises when a connection is dead; it is asked after a second of idleness. `reset` makes a used
    connection like new or raises, then it is closed. `connect`, `close`, `check` and `reset` run on the
    thread that acquires, releases or maintains. `acquire_times` has one observation for each success. A child
    made by fork starts empty and leaves its parent's connections alone.
    """

    def __init__(
        self,
        name: str,
        connect: Callable[[float | None], C],
        *,
        close: Callable[[C], None],
        check: Callable[[C], None],
        is_broken: Callable[[C], bool] = never,
        reset: Callable[[C], None] | None = None,
        settings: PoolSettings = PoolSettings(),  # noqa: B008 - frozen, and the real default
        clock: Clock = SYSTEM,
    ) -> None:
        self.name = name
        self.settings = settings
        self.is_broken = is_broken
        self.closed = False
        self.acquire_times = Histogram()
        self._connect = connect
        self._close = close
        self._check = check
        self._reset = reset
        self._clock = clock
        self._monotonic = clock.monotonic
        self._counts = dict.fromkeys(
            ("opened", "closed", "queued", "timed_out", "discarded", "connect_errors"), 0
        )
        # Not ours any more, but somebody may hold or return them: a parent's after fork, those closed under
        # their user. Kept alive, so that no destructor touches a parent's socket and no id is used twice.
        self._disowned: dict[int, Member[C]] = {}
        self._start_empty()
        _pools.add(self)

    def _start_empty(self) -> None:
        self._lock = threading.RLock()
        self._drained = threading.Event()
        self._slots_taken = 0
        # A stack: connections at its bottom are surplus and age out.
        self._idle: list[Member[C]] = []
        self._leased: dict[int, Member[C]] = {}
        self._queue: deque[Claim[C]] = deque()

    def acquire(self, timeout: float | None = None) -> C:
        """A connection that is the caller's until `release`.

        Waits at most `timeout` seconds and never longer than `settings.timeout`, first come first served.
        Raises PoolTimeout, PoolClosed, and what the driver raises when it cannot connect.
        """
        member: Member[C] | None = None
        thread = threading.current_thread()
        now = self._monotonic()
        try:
            with self._lock:
                if self._idle and self._idle[-1].fresh_until > now:
                    member = self._idle[-1]
                    del self._idle[-1]
                    self._leased[member.key] = member
                    member.thread = thread
                    member.leased_at = now
            if member is None:
                return self._acquire_slowly(now, self._limit(timeout))
            self.acquire_times.observe(0.0)
            return member.connection
        except BaseException:
            if member is not None:
                self.release(member.connection)
            raise

    def connection(self, timeout: float | None = None) -> AbstractContextManager[C]:
        """`acquire` and `release` as a context; when its body raises, `is_broken` decides whether to keep it."""
        return Loan(self, timeout)

    def release(self, connection: C, *, broken: bool = False) -> None:
        """Takes a connection back; a `broken` one is closed. Raises ValueError when it is not out."""
        try:
            member = self._leased[id(connection)]
            # Of two who return the same connection only one gets past this line.
            del self._leased[member.key]
        except KeyError:
            if id(connection) in self._disowned:
                return
            raise ValueError(
                f"a connection that is not out was returned to the pool of {self.name!r}"
            ) from None
        returns = member.returns
        try:
            if broken:
                self._counts["discarded"] += 1
            elif self._reset is None or self._succeeds(self._reset, connection, "reset"):
                self._put_back(member)
        finally:
            if member.returns == returns:
                self._discard(member)

    def maintain(self, now: float | None = None) -> None:
        """Closes idle connections past their limits and opens up to `settings.min`; for daemons, every second or so.

        Raises what the driver raises when it cannot connect.
        """
        now = self._monotonic() if now is None else now
        while self._evict(now):
            pass
        while self._open_spare():
            pass

    def close(self, timeout: float = 0.0) -> tuple[Leased, ...]:
        """Ends all waiting with PoolClosed, closes idle connections now and the others when they come back.

        Waits up to `timeout` seconds for them, then closes them under their users; with 0.0 it leaves them
        alone. Returns those still out. May be repeated.
        """
        with self._lock:
            self.closed = True
            idle, self._idle = self._idle, []
            queue, self._queue = self._queue, deque()
        for claim in queue:
            claim.open_gate()
        for member in idle:
            self._discard(member)
        if timeout > 0.0 and self._slots_taken:
            self._drained.wait(timeout)
        out = self.leased()
        if timeout > 0.0:
            self._sever()
        return out

    def stats(self) -> PoolStats:
        """The pool now; connections being opened or closed count as active."""
        with self._lock:
            total, idle, waiting = self._slots_taken, len(self._idle), len(self._queue)
        return PoolStats(self.settings.max, total=total, active=total - idle, idle=idle, waiting=waiting)

    def counters(self) -> Mapping[str, int]:
        """What happened so far: acquired, queued, timed_out, opened, closed, discarded, connect_errors."""
        return {"acquired": self.acquire_times.count, **self._counts}

    def leased(self) -> tuple[Leased, ...]:
        """The connections that are out, longest first."""
        epoch = self._clock.now() - self._monotonic()
        out = [Leased(member.thread.name, epoch + member.leased_at) for member in list(self._leased.values())]
        return tuple(sorted(out, key=lambda leased: leased.since))

    def _limit(self, timeout: float | None) -> float:
        limit = min(self.settings.timeout, threading.TIMEOUT_MAX)
        return limit if timeout is None else max(0.0, min(timeout, limit))

    def _acquire_slowly(self, started: float, seconds: float) -> C:
        claim: Claim[C] = Claim()
        try:
            self._stake(claim)
            if claim.gate is not None:
                self._wait(claim, started, seconds)
            elif claim.member is not None:
                self._vet(claim)
            if claim.member is None:
                self._open(claim, started, seconds)
            return self._lend(claim, started)
        except BaseException:
            self._abandon(claim)
            raise

    def _stake(self, claim: Claim[C]) -> None:
        """Takes an idle connection, else a free slot, else a place in the queue."""
        gate = shut_gate()
        with self._lock:
            if self.closed:
                raise PoolClosed(self.name)
            if self._idle:
                claim.member = member = self._idle[-1]
                del self._idle[-1]
                self._leased[member.key] = member
            elif self._slots_taken < self.settings.max:
                self._slots_taken += 1
                claim.slot = True
            else:
                self._counts["queued"] += 1
                claim.gate = gate
                self._queue.append(claim)

    def _wait(self, claim: Claim[C], started: float, seconds: float) -> None:
        """Waits for what is handed over; out of the queue, a claim can be handed nothing any more."""
        if not claim.wait_at_gate(seconds):
            with self._lock:
                if self._leave_queue(claim):
                    raise self._timed_out(started)
        if claim.empty:
            raise PoolClosed(self.name)

    def _leave_queue(self, claim: Claim[C]) -> bool:
        """False when it was not in the queue. The lock is held."""
        try:
            self._queue.remove(claim)
        except ValueError:
            return False
        return True

    def _timed_out(self, started: float) -> PoolTimeout:
        """The lock is held."""
        self._counts["timed_out"] += 1
        return PoolTimeout(
            self.name,
            waited=self._monotonic() - started,
            active=self._slots_taken - len(self._idle),
            max=self.settings.max,
            waiting=len(self._queue),
        )

    def _vet(self, claim: Claim[C]) -> None:
        """Keeps the claim's connection if it is young and alive, else closes it and keeps its slot."""
        member = claim.member
        assert member is not None
        now = self._monotonic()
        if not self._past_limits(member, now) and (now < member.fresh_until or self._alive(member)):
            return
        claim.member = None
        try:
            del self._leased[member.key]
        except KeyError:
            raise PoolClosed(self.name) from None
        claim.slot = True
        self._close_quietly(member.connection)

    def _past_limits(self, member: Member[C], now: float) -> bool:
        surplus = self._slots_taken > self.settings.min
        return now >= (member.idle_until if surplus else member.expires_at)

    def _alive(self, member: Member[C]) -> bool:
        return self._succeeds(self._check, member.connection, "check")

    def _open(self, claim: Claim[C], started: float, seconds: float) -> None:
        """Uses the claim's slot to connect within what remains of the time."""
        remaining = started + seconds - self._monotonic()
        if remaining <= 0.0:
            with self._lock:
                raise self._timed_out(started)
        try:
            connection = self._connect(remaining)
        except Exception:
            self._counts["connect_errors"] += 1
            raise
        try:
            self._admit(connection, claim)
        finally:
            if claim.member is None:
                self._close_quietly(connection)

    def _admit(self, connection: C, claim: Claim[C]) -> None:
        member = Member(connection, self._monotonic(), self.settings, self._clock.random)
        with self._lock:
            self._counts["opened"] += 1
            if self.closed:
                raise PoolClosed(self.name)
            self._leased[member.key] = member
            claim.member = member

    def _lend(self, claim: Claim[C], started: float) -> C:
        member = claim.member
        assert member is not None
        member.thread = threading.current_thread()
        member.leased_at = now = self._monotonic()
        self.acquire_times.observe(now - started)
        return member.connection

    def _abandon(self, claim: Claim[C]) -> None:
        """Gives up what the claim has; the state of its connection is not known, so that is closed."""
        with self._lock:
            self._leave_queue(claim)
        if claim.member is not None:
            # Else it was severed, and its slot is free already.
            if self._leased.pop(claim.member.key, None):
                self._discard(claim.member)
        elif claim.slot:
            self._free_slot()

    def _put_back(self, member: Member[C]) -> None:
        """Hands it to who waited longest, else lets it rest; leaves it where it is when its time is over."""
        now = self._monotonic()
        with self._lock:
            if self.closed or now >= member.expires_at:
                return
            if self._queue:
                claim = self._queue[0]
                member.returns += 1
                self._leased[member.key] = member
                claim.member = member
                del self._queue[0]
                claim.open_gate()
                return
            expires_at = member.expires_at
            idle_until = now + member.idle_limit
            fresh_until = now + member.fresh_for
            member.idle_until = idle_until if idle_until < expires_at else expires_at
            member.fresh_until = fresh_until if fresh_until < expires_at else expires_at
            member.returns += 1
            self._idle.append(member)
            oldest = self._idle[0]
        if now >= oldest.idle_until:
            self._evict(now)

    def _evict(self, now: float) -> bool:
        """Closes the idle connection that is longest past its limits; False when there is none."""
        claim: Claim[C] = Claim()
        try:
            with self._lock:
                # `_past_limits` spelled out: a call might run a finalizer that changes the list.
                surplus = self._slots_taken > self.settings.min
                for index, member in enumerate(self._idle):
                    if now >= (member.idle_until if surplus else member.expires_at):
                        claim.member = member
                        del self._idle[index]
                        break
        finally:
            if claim.member is not None:
                self._discard(claim.member)
        return claim.member is not None

    def _open_spare(self) -> bool:
        claim: Claim[C] = Claim()
        try:
            with self._lock:
                if self.closed or self._slots_taken >= self.settings.min:
                    return False
                self._slots_taken += 1
                claim.slot = True
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
            self._free_slot()

    def _free_slot(self) -> None:
        """Passes a slot on to who waited longest, else gives it up."""
        with self._lock:
            if self._queue:
                claim = self._queue[0]
                claim.slot = True
                del self._queue[0]
                claim.open_gate()
                return
            self._slots_taken -= 1
            if self.closed and not self._slots_taken:
                self._drained.set()

    def _sever(self) -> None:
        """Closes what is out under its user, who returns it to nobody."""
        with self._lock:
            severed, self._leased = self._leased, {}
            self._disowned.update(severed)
        for member in severed.values():
            self._discard(member)

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
        try:
            self._close(connection)
        except Exception:  # noqa: BLE001 - nothing can be done, and its slot must become free
            _log.debug("%s: a connection could not be closed", self.name, exc_info=True)

    def _after_fork(self) -> None:
        """In the child: the lock may be held for ever, and the connections are the parent's."""
        self._disowned.update(self._leased)
        self._disowned.update({member.key: member for member in self._idle})
        self._start_empty()


_pools: weakref.WeakSet[Pool[Any]] = weakref.WeakSet()


def _forget_parents() -> None:
    for pool in list(_pools):
        pool._after_fork()


os.register_at_fork(after_in_child=_forget_parents)
