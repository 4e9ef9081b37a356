"""One runner at a time: a lock of the server's session, taken by polling, that names its holder."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache
from getpass import getuser
from typing import Any, NamedTuple, Protocol

from katax_cli.core.clock import SYSTEM, Clock
from katax_cli.core.resilience import backoff
from katax_cli.core.resilience.deadline import NEVER, Deadline
from katax_cli.engines.migrations import LockSession, SessionLocks
from katax_cli.errors import LockHeld, LockLost
from katax_cli.services.locks.runner_identity import RunnerIdentity, this_runner

_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 1.0
_ENDING_SECONDS = 5.0
"""How long a session that was told to end may still hold its lock: servers end it when it looks."""
_NOTE = re.compile(r"katax (?P<pid>\d+)@(?P<host>\S*) (?P<since>[0-9a-z]+) (?P<user>\S*) ?(?P<file>.*)")
_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"


class Holder(NamedTuple):
    """The holder of the migration lock; None for what is not known. `since` is RFC 3339."""

    session: str
    host: str | None = None
    pid: int | None = None
    user: str | None = None
    file: str | None = None
    since: str | None = None
    identity: RunnerIdentity | None = None

    def __str__(self) -> str:
        who = f"pid {self.pid} on {self.host}" if self.pid else f"session {self.session} from {self.host}"
        parts = [who, f"user {self.user}" if self.user else "", f"at {self.file}" if self.file else ""]
        parts.append(f"since {self.since}" if self.since else "")
        return ", ".join(part for part in parts if part)

    @property
    def is_gone(self) -> bool:
        """True only when it is certain that the process has ended."""
        return self.identity is not None and self.identity.is_gone


@cache
def _host() -> str:
    """Short, because PostgreSQL keeps 63 bytes of a note."""
    return socket.gethostname()[:20]


def note(file: str, since: float) -> str:
    """A runner's note about itself, for those who wait."""
    number, text = int(since), ""
    while number:
        number, digit = divmod(number, 36)
        text = _DIGITS[digit] + text
    return f"katax {os.getpid()}@{_host()} {text} {_user()} {file}".strip()


@cache
def _user() -> str:
    try:
        return getuser()[:12]
    except (KeyError, OSError):
        return str(os.getuid())


def holder_of(owner: LockSession) -> Holder:
    """The holder from the note, or from the server's session where there is none."""
    match = _NOTE.match(owner.note)
    if match is None:
        return Holder(owner.session, owner.client, user=owner.user)
    since = datetime.fromtimestamp(int(match["since"], 36), UTC).isoformat()
    return Holder(
        owner.session, match["host"], int(match["pid"]), match["user"], match["file"] or None, since
    )


class LedgerLock(Protocol):
    """The methods that a runner needs of a lock."""

    def note(self, file: str) -> str: ...

    def acquire(self, timeout: float, *, deadline: Deadline = NEVER) -> None: ...
    def announce(self, file: str) -> str: ...
    def release(self, runner: RunnerIdentity) -> None: ...


class RunnerLock:
    """The lock of one ledger table, held by one connection; `ask` runs an ability of the engine on it.

    It is asked for again and again and never waited for on the server: a waiter has no open transaction, so
    an index that the holder builds concurrently never waits for the waiter.
    """

    def __init__(
        self,
        locks: SessionLocks,
        ask: Callable[..., Any],
        name: str,
        *,
        describe: Callable[[LockSession], LockSession] = lambda found: found,
        known: Callable[[], RunnerIdentity | None] = lambda: None,
        server_sessions: bool = False,
        on_wait: Callable[[Holder], None] = lambda _: None,
        clock: Clock = SYSTEM,
    ) -> None:
        self._locks = locks
        self._ask = ask
        self._name = name
        self._describe = describe
        self._known = known
        self._server_sessions = server_sessions
        self._on_wait = on_wait
        self._clock = clock
        self._since = clock.now()

    def acquire(self, timeout: float, *, deadline: Deadline = NEVER) -> None:
        """Takes the lock within `timeout` seconds. Raises LockHeld, naming the holder; DeadlineExceeded."""
        ends = self._clock.monotonic() + timeout
        attempt = 0
        told: Holder | None = None
        while not self._take():
            holder = self.holder() or told
            if holder is not None and holder != told:
                self._on_wait(holder)
                told = holder
            attempt += 1
            if self._clock.monotonic() >= ends:
                raise LockHeld(self._name, holder=str(told or "a session that the server does not name"))
            self._clock.sleep(min(self._pause(attempt), deadline.remaining()))
            deadline.check(self._name, f"waiting for {told or 'the lock'}")

    def _take(self) -> bool:
        self._since = self._clock.now()
        return bool(self._ask(self._locks.lock, self._name, note("", self._since)))

    def _pause(self, attempt: int) -> float:
        longest = backoff.ceiling(attempt, initial=_FIRST_PAUSE, multiplier=1.5, max=_LONGEST_PAUSE)
        return backoff.equal_jitter(longest, self._clock.random)

    def holder(self) -> Holder | None:
        """The holder; None when the lock is free."""
        owner = self._ask(self._locks.holder, self._name)
        if owner is None:
            return None
        holder = holder_of(self._describe(owner))
        identity = self._identity(owner)
        return (
            holder
            if identity is None
            else holder._replace(host=identity.host, pid=identity.pid, identity=identity)
        )

    def identify(self) -> RunnerIdentity:
        """This runner, for the ledger; a lock of that name says which session it is as long as it lives."""
        owner = self._ask(self._locks.holder, self._name)
        runner = this_runner(owner.session if owner is not None else "")
        if self._server_sessions:
            self._ask(self._locks.lock, runner.id, self.note(""))
        return runner

    def _identity(self, owner: LockSession) -> RunnerIdentity | None:
        """The ledger's identity of the holder, unless it is about another session with the same number."""
        known = self._known()
        if known is None or known.session != owner.session:
            return None
        if not self._server_sessions:
            return known
        own = self._ask(self._locks.holder, known.id)
        return known if own is not None and own.session == owner.session else None

    def note(self, file: str) -> str:
        """The note of this runner while it is at a file."""
        return note(file, self._since)

    def announce(self, file: str) -> str:
        """Says what is run next, and returns that note. Raises LockLost when the lock is not ours any more."""
        text = self.note(file)
        if not self._ask(self._locks.renew, self._name, text):
            raise LockLost(
                self._name, f"it was released before {file or 'the next statement'}; nothing more was run"
            )
        return text

    def release(self, runner: RunnerIdentity) -> None:
        if self._server_sessions:
            self._ask(self._locks.unlock, runner.id)
        self._ask(self._locks.unlock, self._name)

    def end_holder(self, holder: Holder) -> bool:
        """Ends the session of a holder; True once the lock is no longer its own, whoever ended it."""
        told = bool(self._ask(self._locks.end_session, holder.session))
        ends = self._clock.monotonic() + _ENDING_SECONDS
        while (present := self.holder()) is not None and present.session == holder.session:
            if not told or self._clock.monotonic() >= ends:
                return False
            self._clock.sleep(_FIRST_PAUSE)
        return True
