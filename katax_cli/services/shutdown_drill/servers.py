"""The servers of a profile as witnesses: what they see of a program before, during and after."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from fnmatch import fnmatchcase

from katax_cli.core.clock import SYSTEM
from katax_cli.core.engine_names import SERVER_ENGINES
from katax_cli.engines.registry import part
from katax_cli.engines.sessions import ListsSessions, Orphan, ServerLook, ServerSession, TracesWork
from katax_cli.errors import KataxError, WrongEngine
from katax_cli.services.databases.database import Database
from katax_cli.services.shutdown_drill.values import UNKNOWN, Left, OpenTransaction

LOOK_SECONDS = 5.0
AGAIN_SECONDS = 0.15
"""Seconds between two queries: InnoDB repeats its last answer when asked more often than every 0.1 s."""
_TEMPORARY_WORDS = frozenset({"tmp", "temp", "temporary", "lock", "mutex", "lease", "inflight"})
_BETWEEN = str.maketrans(dict.fromkeys(":.-_/{}", " "))


class Whose:
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
        self._before = self._ask()
        self._old = {session.id for session in self._before.sessions}

    def sessions(self, whose: Whose) -> tuple[ServerSession, ...]:
        """Those of the program, now."""
        return self._ours(self._ask(), whose)

    def left(self, whose: Whose) -> Left:
        """The rest of the program on the server now; its sessions stay its own, also when others reuse their port."""
        look = self._ask()
        if self.unknown is not None:
            return Left(unknown=self.unknown)
        orphans = frozenset(each for each in look.orphans - self._before.orphans if self._is_temporary(each))
        counted = look.dropped is not None and self._before.dropped is not None
        dropped = (look.dropped or 0) - (self._before.dropped or 0) if counted else None
        return Left(self._ours(look, whose), orphans, dropped, untold=look.untold)

    def fates(self, works: Iterable[str]) -> list[OpenTransaction]:
        """The outcomes of transactions; `unknown`, with the reason, where the server cannot say."""
        asked, reporter = sorted(works), self._reporter
        if not asked or not isinstance(reporter, TracesWork):
            return []
        try:
            found = self._database.examine(
                lambda connection, seconds: reporter.fates(connection, asked, seconds),
                timeout=LOOK_SECONDS,
                doing="asking for transactions",
            )
        except KataxError as error:
            return [OpenTransaction(self.name, work, UNKNOWN, str(error)) for work in asked]
        forgotten = "the server has forgotten it"
        return [
            OpenTransaction(self.name, work, found[work])
            if work in found
            else OpenTransaction(self.name, work, UNKNOWN, forgotten)
            for work in asked
        ]

    def _ours(self, look: ServerLook, whose: Whose) -> tuple[ServerSession, ...]:
        found = tuple(
            each
            for each in look.sessions
            if each.id not in self._old and (each.id in self.seen or whose.has(each, local=self._local))
        )
        self.seen.update(each.id for each in found)
        return found

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


def settled(servers: Iterable[Server], whose: Whose, *, seconds: float) -> dict[str, Left]:
    """The rest once servers have noticed that the program ended: as soon as it is empty, else after `seconds`.

    So what others do for a moment, as to prepare a transaction and commit it, is not taken for the program's.
    """
    until = SYSTEM.monotonic() + seconds
    left = {server.name: server.left(whose) for server in servers}
    for server in servers:
        while _has_something(left[server.name]) and SYSTEM.monotonic() < until:
            SYSTEM.sleep(AGAIN_SECONDS)
            left[server.name] = server.left(whose)
    return left


def _has_something(left: Left) -> bool:
    return bool(left.sessions or left.orphans)
