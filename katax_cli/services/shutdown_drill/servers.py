"""The servers of a profile as witnesses: what they see of a program before, during and after."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from fnmatch import fnmatchcase

from katax_cli.core.clock import SYSTEM
from katax_cli.core.engine_names import SERVER_ENGINES
from katax_cli.engines.registry import part
from katax_cli.engines.sessions import (
    OF_LOCKS,
    OF_TRANSACTIONS,
    ListsSessions,
    Orphan,
    ServerLook,
    ServerSession,
    TracesWork,
)
from katax_cli.errors import KataxError, WrongEngine
from katax_cli.services.databases.database import Database
from katax_cli.services.shutdown_drill.values import UNKNOWN, Leftovers, OpenTransaction

LOOK_SECONDS = 5.0
AGAIN_SECONDS = 0.15
"""Seconds between two queries: InnoDB repeats its last answer when asked more often than every 0.1 s."""
_OF_SESSIONS = {OF_TRANSACTIONS: "no_transactions_left", OF_LOCKS: "no_locks_left"}
_OF_ALL = frozenset({"no_sessions_left", *_OF_SESSIONS.values()})
_TEMPORARY_WORDS = frozenset({"tmp", "temp", "temporary", "lock", "mutex", "lease", "inflight"})
_BETWEEN = str.maketrans(dict.fromkeys(":.-_/{}", " "))


class SessionFilter:
    """Selects the program's sessions: by the ports of its process tree, or by the name they carry."""

    def __init__(self, mark: str, pattern: str | None, ports: Callable[[], Collection[int]]) -> None:
        self._mark = mark
        self._pattern = pattern
        self._ports = ports

    def has(self, session: ServerSession, *, local: bool) -> bool:
        """`local`: the server is reached by a socket of this machine, where a session has no port to know it by;
        one that was not there before then counts as the program's."""
        if session.name == self._mark or (
            self._pattern is not None and fnmatchcase(session.name, self._pattern)
        ):
            return True
        return local if session.port is None else session.port in self._ports()


class Server:
    """One connection of the profile, asked again and again. What it cannot say is remembered as `unknown`.

    Raises WrongEngine for an engine that does not list its sessions.
    """

    def __init__(self, database: Database, *, temporary: tuple[str, ...] = ()) -> None:
        self.name = database.name
        self.unknown: str | None = None
        self.seen: set[str] = set()
        self._database = database
        self._temporary = temporary
        settings = database.settings
        if settings.type not in SERVER_ENGINES:
            lacks = "sessions to be asked for"
            raise WrongEngine(settings.type, lacks, wanted_by="shutdown-test", works_on=SERVER_ENGINES)
        self._reporter: ListsSessions = part(database.engine, "sessions")
        self._local = settings.socket is not None or settings.embedded
        self._works: set[str] = set()
        self._unseen: str | None = None
        self._before = self._ask()
        self._unlisted = self.unknown
        self._old = {session.id for session in self._before.sessions}

    def sessions(self, whose: SessionFilter) -> tuple[ServerSession, ...]:
        """Those of the program, now."""
        return self._ours(self._ask(), whose)

    def left(self, whose: SessionFilter) -> Leftovers:
        """The rest of the program on the server now; its sessions stay its own, also when others reuse their port."""
        look = self._ask()
        if trouble := self.unknown or self._unlisted:
            return Leftovers(unknown=trouble)
        orphans = frozenset(each for each in look.orphans - self._before.orphans if self._is_temporary(each))
        counted = look.dropped is not None and self._before.dropped is not None
        dropped = (look.dropped or 0) - (self._before.dropped or 0) if counted else None
        ours = self._ours(look, whose)
        untold = look.untold | (_OF_ALL if self._newly_hidden(look) else frozenset())
        # Without a session there are none of its transactions and none of its locks.
        untold |= {_OF_SESSIONS[part] for part in look.untold & _OF_SESSIONS.keys() if ours}
        return Leftovers(ours, orphans, dropped, untold=untold)

    def mark_works(self, whose: SessionFilter) -> None:
        """Remembers the transactions in which the program writes now; `fates` says what became of them."""
        look = self._ask()
        ours = self._ours(look, whose)
        self._works = {session.work for session in ours if session.work is not None}
        if self.unknown is not None:
            self._unseen = f"it did not list transactions at the signal: {self.unknown}"
        elif hidden := self._newly_hidden(look):
            self._unseen = f"it did not show this user {hidden} new sessions at the signal"
        elif ours and OF_TRANSACTIONS in look.untold:
            self._unseen = "it does not show this user the transactions of sessions"

    def fates(self) -> list[OpenTransaction]:
        """The outcomes of those transactions; `unknown`, with the reason, where the server cannot say."""
        unseen = [] if self._unseen is None else [OpenTransaction(self.name, "", UNKNOWN, self._unseen)]
        return [*unseen, *self._fates()]

    def _fates(self) -> list[OpenTransaction]:
        asked, reporter = sorted(self._works), self._reporter
        if not asked or not isinstance(reporter, TracesWork):
            return []
        SYSTEM.sleep(AGAIN_SECONDS)
        try:
            fates = self._database.examine(
                lambda connection, seconds: reporter.fates(connection, asked, seconds),
                timeout=LOOK_SECONDS,
                doing="asking for transactions",
            )
        except KataxError as error:
            return [OpenTransaction(self.name, work, UNKNOWN, str(error)) for work in asked]
        return [
            OpenTransaction(self.name, work, fates[work])
            if work in fates
            else OpenTransaction(self.name, work, UNKNOWN, reporter.why_unknown)
            for work in asked
        ]

    def _newly_hidden(self, look: ServerLook) -> int:
        """The number of sessions that came since the start and are not shown to this user."""
        return max(0, look.hidden - self._before.hidden)

    def _ours(self, look: ServerLook, whose: SessionFilter) -> tuple[ServerSession, ...]:
        sessions = tuple(
            session
            for session in look.sessions
            if session.id not in self._old
            and (session.id in self.seen or whose.has(session, local=self._local))
        )
        self.seen.update(each.id for each in sessions)
        return sessions

    def _is_temporary(self, orphan: Orphan) -> bool:
        if orphan.kind != "key":
            return True
        words = orphan.name.lower().translate(_BETWEEN).split()
        given = any(fnmatchcase(orphan.name, pattern) for pattern in self._temporary)
        return given or not _TEMPORARY_WORDS.isdisjoint(words)

    def _ask(self) -> ServerLook:
        """The server's sessions; empty, with the reason in `unknown`, when it does not answer this time."""
        try:
            look = self._database.examine(
                self._reporter.look, timeout=LOOK_SECONDS, doing="asking for sessions"
            )
        except KataxError as error:
            self.unknown = str(error)
            return ServerLook(())
        self.unknown = None
        return look


def settled(servers: Iterable[Server], whose: SessionFilter, *, seconds: float) -> dict[str, Leftovers]:
    """The rest once servers have noticed that the program ended: as soon as it is empty, else after `seconds`.

    So what others do for a moment, as to prepare a transaction and commit it, is not taken for the program's. The last
    look begins after `seconds`: a server that is slow to answer tells what was, and not what stays.
    """
    until = SYSTEM.monotonic() + seconds
    left = {server.name: server.left(whose) for server in servers}
    for server in servers:
        is_last = False
        while _has_something(left[server.name]) and not is_last:
            SYSTEM.sleep(AGAIN_SECONDS)
            is_last = SYSTEM.monotonic() >= until
            left[server.name] = server.left(whose)
    return left


def _has_something(left: Leftovers) -> bool:
    return bool(left.sessions or left.orphans or "no_sessions_left" in left.untold)
