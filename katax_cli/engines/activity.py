"""The sessions of a server: their work, who waits for whom, and how to end them; made by `create(engine)` of the
engine's module `activity`. See base."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol, runtime_checkable

HIDDEN = "hidden"
"""The state of a session that this user may not look into."""

MOST_SQL = 10_000
"""Characters of a statement that are shown."""

Pid = int | str


class SessionActivity(NamedTuple):
    """One session; None for what the server does not say, or not to this user. Statements are redacted.

    `age_seconds` counts from the start of the statement that runs, of an idle session from its last one.
    `session` is an identity that is never used again, `work` one of the statement that runs: None when none does.
    """

    pid: Pid | None
    user: str | None
    host: str | None
    database: str | None
    state: str
    wait: str | None
    age_seconds: float | None
    transaction_age_seconds: float | None
    statement: str | None
    session: str = ""
    work: str | None = None


def rounded_seconds(seconds: Any) -> float | None:
    """Seconds to three places; clocks that differ make none negative."""
    return None if seconds is None else round(max(0.0, float(seconds)), 3)


class ActivityList(NamedTuple):
    """The sessions of a server but the one that asks, whose pid is `own`; `unseen` says what this user cannot see."""

    sessions: tuple[SessionActivity, ...]
    own: Pid | None
    unseen: tuple[str, ...] = ()


class LockWait(NamedTuple):
    """A session that waits for a lock, and one that it waits for: `holder` is None when the server does not say."""

    waiter: Pid
    holder: Pid | None
    lock: str
    waiting_seconds: float | None


class ListsActivity(Protocol):
    """Lists the sessions of a server."""

    def activity(self, connection: Any, timeout: float | None = None) -> ActivityList: ...


@runtime_checkable
class ListsLockWaits(ListsActivity, Protocol):
    """Knows also which sessions wait for the locks of others."""

    def lock_waits(self, connection: Any, timeout: float | None = None) -> list[LockWait]:
        """Raises ConfigError where this user cannot see them, saying how they could."""
        ...


class EndsSessions(Protocol):
    """Ends the statement of a session, or the session. True: the server took the order, which proves no effect.

    False: the session, or the statement that was to be cancelled, had ended before.
    """

    def cancel(self, connection: Any, target: SessionActivity, timeout: float | None = None) -> bool: ...

    def terminate(self, connection: Any, target: SessionActivity, timeout: float | None = None) -> bool: ...
