"""The daemon thread beside one database: keeps its pool within its limits and finds out when a lost server is back."""

from __future__ import annotations

import weakref
from logging import getLogger
from threading import Event, Lock, Thread, current_thread
from typing import TYPE_CHECKING, Protocol

from katax_cli.core.clock import SYSTEM, Clock
from katax_cli.core.forks import follow
from katax_cli.core.resilience.breaker_policy import BreakerPolicy, ProbePace
from katax_cli.core.waiting import SharedEvent
from katax_cli.errors import AuthenticationFailed, KataxError, PoolTimeout

if TYPE_CHECKING:
    from katax_cli.core.resilience.breaker import CallBreaker
    from katax_cli.snapshot import BreakerState

EVERY = 1.0
"""Seconds between two checks of a pool."""
_LONGEST_PAUSE = 30.0
_WORTH_A_LOGIN = 0.05
"""Calls that wait longer than this have the server looked for."""
_JOIN_SECONDS = 0.2
_log = getLogger("katax.pool")


class MaintainedDatabase(Protocol):
    """The methods that an upkeep needs of its database."""

    name: str

    @property
    def breaker(self) -> CallBreaker | None: ...

    def maintain(self, *, fill: bool) -> None:
        """Closes idle connections past their limits; with `fill` opens the fewest that the pool shall hold."""
        ...

    def probe(self) -> None:
        """One login and one ping on a connection of its own. Raises errors of katax."""
        ...

    def renew(self) -> None:
        """Discards connections that were opened before the server was lost."""
        ...

    def opened(self) -> int:
        """Connections opened so far."""
        ...


class Upkeep:
    """Runs from `start` until `stop`, or until its database is garbage; a child made by fork starts its own.

    A server that refuses the login is not asked again by itself, neither by a probe nor to fill the pool: only
    after a caller opened a connection.
    """

    def __init__(self, database: MaintainedDatabase, *, clock: Clock = SYSTEM) -> None:
        self._database = weakref.ref(database)
        self._name = f"katax-upkeep-{database.name}"
        self._clock = clock
        self._pace = ProbePace(BreakerPolicy(), clock.random)
        self._start_empty()
        if database.breaker is not None:
            database.breaker.on_state_change(lambda new, _old: self._breaker_changed(new))
        follow(self)

    def _start_empty(self) -> None:
        self._lock = Lock()
        self._thread: Thread | None = None
        self._changed = Event()
        self._stopped = False
        self._back = SharedEvent()
        self._back.set()
        self._look_at = 0.0
        self._waiting = 0
        self._fill_at = 0.0
        self._pause = EVERY
        self._refused_at: int | None = None

    def after_fork(self) -> None:
        self._start_empty()

    def start(self) -> None:
        """Starts the thread unless it runs; costs nothing then."""
        if self._thread is not None or self._stopped:
            return
        with self._lock:
            if self._thread is None and not self._stopped:
                thread = Thread(target=self._run, name=self._name, daemon=True)
                thread.start()
                self._thread = thread

    def stop(self) -> None:
        """Ends the thread; one that waits for a server ends when that wait does."""
        with self._lock:
            self._stopped = True
            thread = self._thread
        self._changed.set()
        if thread is not None and thread is not current_thread():
            thread.join(_JOIN_SECONDS)

    def resume(self) -> None:
        """Lets it start again after `stop`."""
        with self._lock:
            self._stopped = False
            if self._thread is not None and not self._thread.is_alive():
                self._thread = None

    def lost(self) -> None:
        """A connection was lost, or none could be opened: the server is looked for while calls wait for it."""
        if self._back.is_set():
            self._pace.rest()
            now = self._clock.monotonic()
            self._look_at = now + self._pace.pause(now)
            self._back.clear()
            self._changed.set()

    def back(self) -> None:
        """A connection was opened: what waits for the server goes on."""
        self._back.set()

    def wait(self, seconds: float) -> bool:
        """Waits until the server is back, at most `seconds`; True when it is."""
        if self._back.is_set() or seconds < _WORTH_A_LOGIN:
            return self._back.wait(seconds)
        with self._lock:
            self._waiting += 1
        self._changed.set()
        try:
            return self._back.wait(seconds)
        finally:
            with self._lock:
                self._waiting -= 1

    def _breaker_changed(self, new: BreakerState) -> None:
        if new == "closed":
            self._back.set()
        self._changed.set()

    def _run(self) -> None:
        self._attend(attended=True)
        try:
            while not self._stopped:
                self._changed.clear()
                wait = self.round()
                if wait is None:
                    return
                self._changed.wait(wait)
        finally:
            self._attend(attended=False)

    def _attend(self, *, attended: bool) -> None:
        database = self._database()
        if database is not None and database.breaker is not None:
            database.breaker.attended = attended

    def round(self) -> float | None:
        """Checks pool and server once; returns the seconds until the next check, None when the database is gone."""
        database = self._database()
        if database is None:
            return None
        breaker = database.breaker
        try:
            if breaker is not None:
                self._probe(database, breaker)
            if breaker is None or breaker.is_closed():
                self._look(database)
            self._maintain(database)
        except Exception:  # noqa: BLE001 - the worker's boundary: the next round may go better
            _log.exception("%s: the upkeep of the pool failed", database.name)
        return self._until_next(breaker)

    def _until_next(self, breaker: CallBreaker | None) -> float:
        due = None if breaker is None else breaker.probe_in()
        if due is None and self._is_awaited():
            due = self._look_at - self._clock.monotonic()
        return EVERY if due is None else max(0.0, min(EVERY, due))

    def _is_awaited(self) -> bool:
        return self._waiting > 0 and not self._back.is_set()

    def _look(self, database: MaintainedDatabase) -> None:
        """Probes a lost server whose breaker is closed: calls that wait for it need not wait to the end."""
        now = self._clock.monotonic()
        if not self._is_awaited() or now < self._look_at:
            return
        try:
            database.probe()
        except KataxError as error:
            if isinstance(error, AuthenticationFailed):
                self._refused_at = database.opened()
                self._back.set()
            self._look_at = now + self._pace.pause(now)
        else:
            self._back.set()

    def _probe(self, database: MaintainedDatabase, breaker: CallBreaker) -> None:
        ticket = breaker.take_probe()
        if ticket is None:
            return
        answered: bool | None = None
        refused = False
        try:
            database.probe()
            answered = True
        except AuthenticationFailed:
            answered = refused = True
        except KataxError as error:
            answered = breaker.verdict(error)
            _log.debug("%s: a probe failed: %s", database.name, error)
        finally:
            if answered:
                database.renew()
            breaker.probed(ticket, answered, last=refused)
        if refused:
            self._refused_at = database.opened()

    def _maintain(self, database: MaintainedDatabase) -> None:
        now = self._clock.monotonic()
        fill = now >= self._fill_at and self._may_connect(database)
        try:
            database.maintain(fill=fill)
        except PoolTimeout:
            return
        except KataxError as error:
            _log.debug("%s: the pool was not filled: %s", database.name, error)
            if isinstance(error, AuthenticationFailed):
                self._refused_at = database.opened()
            self._fill_at = now + self._pause
            self._pause = min(_LONGEST_PAUSE, 2.0 * self._pause)
        else:
            self._pause = EVERY

    def _may_connect(self, database: MaintainedDatabase) -> bool:
        if self._refused_at is not None and database.opened() == self._refused_at:
            return False
        self._refused_at = None
        return database.breaker is None or database.breaker.is_closed()
