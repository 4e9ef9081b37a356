"""The assignment of connections to callers: the decisions of a pool, without a driver, I/O or waiting.

A *slot* is the right to one of `max` connections; it is taken before a connection is opened and given up
after it is closed, so there are never more than `max`. While callers queue there is neither an idle connection
nor a free slot: what comes back goes straight to the one who waited longest, a connection as it is and a slot
as the order to connect.

CPython delivers signals, runs finalizers and switches threads at calls and loops. Under the lock, state
therefore moves by assignments, subscripts and `del`: a KeyboardInterrupt finds every slot here or in somebody's
`Claim`, and a finalizer that returns a connection (why the lock is reentrant) finds nothing half done.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Generic, TypeVar

from katax_cli.core.settings import PoolSettings
from katax_cli.core.waiting import Gate, shut_gate
from katax_cli.errors import PoolClosed

if TYPE_CHECKING:
    from katax_cli.snapshot import PoolStats

C = TypeVar("C")

CHECK_AFTER_IDLE = 1.0
JITTER = 0.1


class Member(Generic[C]):
    """A connection with what the pool remembers about it. Times are of the monotonic clock.

    Until `fresh_until` it is handed out as it is; from then on the server is asked first. `returns` counts how
    often it came back.
    """

    __slots__ = (
        "connection",
        "expires_at",
        "fresh_for",
        "fresh_until",
        "idle_limit",
        "idle_until",
        "key",
        "leased_at",
        "opened_at",
        "returns",
        "thread",
    )

    def __init__(
        self, connection: C, now: float, settings: PoolSettings, random: Callable[[], float]
    ) -> None:
        self.connection = connection
        self.key = id(connection)
        self.expires_at = now + _jittered(settings.max_lifetime, random)
        self.idle_limit = _jittered(settings.idle_timeout, random)
        self.idle_until = now
        self.fresh_for = min(CHECK_AFTER_IDLE, self.idle_limit)
        self.fresh_until = now
        self.opened_at = now
        self.leased_at = now
        self.thread = threading.current_thread()
        self.returns = 0


def _jittered(seconds: float, random: Callable[[], float]) -> float:
    """Within ±10 %, so that connections opened together do not end together."""
    return seconds * (1.0 - JITTER + 2.0 * JITTER * random())


class Claim(Generic[C]):
    """A caller's share of the pool: none, a slot, or a connection with its slot; queued, it waits at `gate`."""

    __slots__ = ("gate", "member", "slot")

    def __init__(self) -> None:
        self.gate: Gate | None = None
        self.member: Member[C] | None = None
        self.slot = False

    def wait(self, timeout: float) -> bool:
        """True when it was answered, False after `timeout` seconds."""
        return self.gate is None or self.gate.acquire(timeout=timeout)

    def answer(self) -> None:
        assert self.gate is not None
        self.gate.release()


class Slots(Generic[C]):
    """Every method is atomic and returns at once."""

    def __init__(self, name: str, settings: PoolSettings) -> None:
        self.name = name
        self.settings = settings
        self.closed = False
        # Not ours any more, but somebody may hold or return them: a parent's after fork, those closed under
        # their user. Kept alive, so that no destructor touches a parent's socket and no id is used twice.
        self._disowned: dict[int, Member[C]] = {}
        self._start_empty()

    def _start_empty(self) -> None:
        self._lock = threading.RLock()
        self._taken = 0
        # A stack: connections at its bottom are surplus and age out.
        self._idle: list[Member[C]] = []
        self._leased: dict[int, Member[C]] = {}
        self._queue: deque[Claim[C]] = deque()
        self.drained = threading.Event()

    def take_fresh(self, claim: Claim[C], now: float) -> None:
        """Gives the connection that came back last if it needs no check."""
        with self._lock:
            if self._idle and self._idle[-1].fresh_until > now:
                claim.member = member = self._idle[-1]
                del self._idle[-1]
                self._leased[member.key] = member

    def stake(self, claim: Claim[C]) -> None:
        """Gives an idle connection, else a free slot, else a place in the queue. Raises PoolClosed."""
        gate = shut_gate()
        with self._lock:
            if self.closed:
                raise PoolClosed(self.name)
            if self._idle:
                claim.member = member = self._idle[-1]
                del self._idle[-1]
                self._leased[member.key] = member
            elif self._taken < self.settings.max:
                self._taken += 1
                claim.slot = True
            else:
                claim.gate = gate
                self._queue.append(claim)

    def stake_spare(self, claim: Claim[C]) -> bool:
        """Gives a free slot while fewer than `min` are taken."""
        with self._lock:
            if not self.closed and self._taken < self.settings.min:
                self._taken += 1
                claim.slot = True
        return claim.slot

    def stake_stale(self, claim: Claim[C], now: float) -> bool:
        """Gives an idle connection that is past its limits, the one that is idle longest."""
        with self._lock:
            surplus = self._taken > self.settings.min
            for index, member in enumerate(self._idle):
                if now >= (member.idle_until if surplus else member.expires_at):
                    claim.member = member
                    del self._idle[index]
                    break
        return claim.member is not None

    def doubt(self, now: float) -> None:
        """From now on the server is asked about each connection that lies idle before it is handed out."""
        with self._lock:
            for member in self._idle:
                member.fresh_until = now

    def retire(self, before: float) -> list[Member[C]]:
        """Takes out idle connections opened before that time, to be closed; those that are out end on return."""
        with self._lock:
            idle = self._idle
            retired = [member for member in idle if member.opened_at < before]
            self._idle = [member for member in idle if member.opened_at >= before]
            for member in self._leased.values():
                if member.opened_at < before:
                    member.expires_at = before
        return retired

    def leave_queue(self, claim: Claim[C]) -> bool:
        """False when it is out already, because it was answered; nothing is handed to it any more."""
        with self._lock:
            try:
                self._queue.remove(claim)
            except ValueError:
                return False
            return True

    def lend(self, member: Member[C], claim: Claim[C]) -> None:
        """A new connection takes the claim's slot. Raises PoolClosed."""
        with self._lock:
            if self.closed:
                raise PoolClosed(self.name)
            self._leased[member.key] = member
            claim.member = member

    def past_limits(self, member: Member[C], now: float) -> bool:
        surplus = self._taken > self.settings.min
        return now >= (member.idle_until if surplus else member.expires_at)

    def reduce_to_slot(self, claim: Claim[C]) -> Member[C] | None:
        """Takes the claim's connection, which is to be closed, and leaves its slot.

        None, and nothing is left, when the connection was severed meanwhile.
        """
        member = claim.member
        claim.member = None
        try:
            assert member is not None
            del self._leased[member.key]
        except KeyError:
            return None
        claim.slot = True
        return member

    def recall(self, connection: C) -> Member[C] | None:
        """Ends a loan; None when the connection is disowned. Raises ValueError when it is not out."""
        try:
            member = self._leased[id(connection)]
            # Of two who return the same connection only one gets past this line.
            del self._leased[member.key]
        except KeyError:
            if id(connection) in self._disowned:
                return None
            raise ValueError(
                f"a connection that is not out was returned to the pool of {self.name!r}; release it once"
            ) from None
        return member

    def put_back(self, member: Member[C], now: float) -> bool:
        """Hands it to the longest waiter, else keeps it idle. True when another one is past its limits.

        Does nothing, `returns` too, when the pool is closed or the connection's life is over.
        """
        with self._lock:
            expires_at = member.expires_at
            if self.closed or now >= expires_at:
                return False
            member.returns += 1
            if self._queue:
                claim = self._queue[0]
                self._leased[member.key] = member
                claim.member = member
                del self._queue[0]
                claim.answer()
                return False
            idle_until = now + member.idle_limit
            fresh_until = now + member.fresh_for
            member.idle_until = idle_until if idle_until < expires_at else expires_at
            member.fresh_until = fresh_until if fresh_until < expires_at else expires_at
            self._idle.append(member)
            return now >= self._idle[0].idle_until

    def free_slot(self) -> None:
        """Hands a slot to the longest waiter, else frees it."""
        with self._lock:
            if self._queue:
                claim = self._queue[0]
                claim.slot = True
                del self._queue[0]
                claim.answer()
                return
            self._taken -= 1
            if self.closed and not self._taken:
                self.drained.set()

    def take_idle(self) -> list[Member[C]]:
        """Takes out all idle connections, to be closed; their slots stay taken."""
        with self._lock:
            idle, self._idle = self._idle, []
        return idle

    def shut(self) -> list[Member[C]]:
        """Ends the queue with nothing for anybody; returns the idle connections, to be closed."""
        with self._lock:
            self.closed = True
            idle = self.take_idle()
            queue, self._queue = self._queue, deque()
            if not self._taken:
                self.drained.set()
        for claim in queue:
            claim.answer()
        return idle

    def reopen(self) -> None:
        """Leases again; connections that are still out count as before."""
        with self._lock:
            self.closed = False
            self.drained = threading.Event()

    def sever(self) -> list[Member[C]]:
        """Disowns what is out and returns it, to be closed under its users."""
        with self._lock:
            severed, self._leased = self._leased, {}
            self._disowned.update(severed)
        return list(severed.values())

    def leased(self) -> list[Member[C]]:
        return list(self._leased.values())

    def stats(self) -> PoolStats:
        from katax_cli.snapshot import PoolStats

        with self._lock:
            total, idle, waiting = self._taken, len(self._idle), len(self._queue)
        return PoolStats(self.settings.max, total=total, active=total - idle, idle=idle, waiting=waiting)

    def after_fork(self) -> None:
        """In the child: the lock may be held for ever, and the connections are the parent's."""
        self._disowned.update(self._leased)
        self._disowned.update({member.key: member for member in self._idle})
        self._start_empty()
