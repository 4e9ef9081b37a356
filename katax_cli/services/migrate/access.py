"""Access to the ledger of a database's migrations: its lock, its connection, and who holds them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, cast

from katax_cli.core.clock import Clock
from katax_cli.engines.migrations import LockSession, Migrates
from katax_cli.engines.registry import part
from katax_cli.errors import KataxError, LockHeld
from katax_cli.services.migrate.files import other_tools

if TYPE_CHECKING:
    from katax_cli.core.sql import Dialect
    from katax_cli.services.databases.mongodb import MongoDatabase
    from katax_cli.services.databases.sql import SqlDatabase
    from katax_cli.services.locks.migration_lock import Holder, RunnerLock
    from katax_cli.services.locks.runner_identity import RunnerIdentity
    from katax_cli.services.migrate.connection import MigrationConnection
    from katax_cli.services.migrate.ledger.ledger import SqlLedger
    from katax_cli.services.migrate.runner import Runner

Note = Callable[[str], None]
_NOT_GONE = "it may still run; end it there, or here with 'katax migrate unlock --force'"
_NOT_ENDED = "its session does not end; end it on the server, or the process there"


def migrates(database: SqlDatabase | MongoDatabase) -> Migrates:
    """The engine's methods for migrations; its module is imported now."""
    return cast("Migrates", part(database.engine, "migrate"))


def _ledger(database: SqlDatabase | MongoDatabase, table: str, engine: Migrates) -> SqlLedger:
    if database.settings.type == "mongodb":
        from katax_cli.services.migrate.ledger.documents import DocumentLedger

        # The same methods; what they are run on is a matter of SQL.
        return cast("SqlLedger", DocumentLedger(cast("MongoDatabase", database), table))
    from katax_cli.services.migrate.ledger.ledger import SqlLedger

    return SqlLedger(cast("SqlDatabase", database), table, engine.facts)


class LedgerAccess:
    """The ledger `table` of `db`, which one runner at a time may change.

    Others wait up to `lock_timeout` seconds, then raise LockHeld. `on_note(text)` hears whom they wait for.
    """

    def __init__(
        self,
        db: SqlDatabase | MongoDatabase,
        table: str,
        *,
        lock_timeout: float,
        on_note: Note,
        clock: Clock,
    ) -> None:
        self.db = db
        self.table = table
        self.lock_timeout = lock_timeout
        self._on_note = on_note
        self._clock = clock
        self.engine = migrates(db)
        self.dialect: Dialect | None = getattr(db.engine, "dialect", None)
        self.ledger = _ledger(db, table, self.engine)

    def holder(self) -> Holder | None:
        """The runner of migrations now; None when there is none."""

        with self.session() as session:
            return self._lock(session).holder()

    def unlock(self, *, force: Holder | None = None) -> Holder | None:
        """Ends the session of a holder whose process is gone; None when the lock is free.

        Raises LockHeld when the holder lives, or when that cannot be known from here, unless it is the one that
        `force` names; and when its session holds the lock in spite of that.
        """
        with self.session() as session:
            lock = self._lock(session)
            holder = lock.holder()
            forced = holder is not None and force is not None and holder.session == force.session
            if holder is None:
                return None
            if not (forced or holder.is_gone):
                raise LockHeld(self.table, holder=f"{holder}; {_NOT_GONE}")
            if not lock.end_holder(holder):
                raise LockHeld(self.table, holder=f"{holder}; {_NOT_ENDED}")
            return holder

    @contextmanager
    def locked(self, *, adopting: bool = False) -> Iterator[Runner]:
        """A runner that holds the lock, with the ledger's table there."""
        # Imported when needed: most runs find nothing to do, and read two lists for that.
        from katax_cli.services.migrate.runner import Runner

        with self.session() as session:
            lock = self._lock(session)
            lock.acquire(self.lock_timeout, deadline=session.deadline)
            identity = lock.identify()
            try:
                known = self.ledger.entries(session)
                self.ledger.settle(session)
                if known is None:
                    if not adopting:
                        self._refuse_foreign()
                    self.ledger.create(session)
                self.ledger.register(session, identity)
                yield Runner(
                    session, self.ledger, lock, self.engine, on_note=self._on_note, clock=self._clock
                )
            finally:
                if not session.is_broken:
                    with suppress(KataxError), session.overtime():
                        self.ledger.unregister(session, identity)
                    with suppress(KataxError), session.overtime():
                        lock.release(identity)

    def session(self) -> MigrationConnection:
        """A connection for the length of a run, to be opened as a context manager."""
        if self.db.settings.type == "mongodb":
            from katax_cli.services.migrate.ledger.documents import MongoMigrationConnection

            # What only SQL's sessions have is asked for by jobs with statements, and MongoDB has none of those.
            return cast("MigrationConnection", MongoMigrationConnection(cast("MongoDatabase", self.db)))
        from katax_cli.services.migrate.connection import MigrationConnection

        return MigrationConnection(cast("SqlDatabase", self.db))

    @property
    def sql(self) -> SqlDatabase:
        """The database as one that runs SQL; asked for where there is a dialect."""
        return cast("SqlDatabase", self.db)

    def _lock(self, session: MigrationConnection) -> RunnerLock:
        from katax_cli.services.locks.migration_lock import RunnerLock

        return RunnerLock(
            self.engine,
            session.ask,
            self.table,
            describe=self._described,
            known=self._known_runner,
            server_sessions=self.engine.facts.server_sessions,
            on_wait=lambda holder: self._on_note(f"waiting for {self.table}: held by {holder}"),
            clock=self._clock,
        )

    def _described(self, session: LockSession) -> LockSession:
        """The session with its file from the ledger, where a server keeps no note for a session."""
        if session.note:
            return session
        with suppress(KataxError):
            running = [entry for entry in self.ledger.entries(self.sql) or () if entry.state == "running"]
            if running:
                return session._replace(note=running[0].runner)
        return session

    def _known_runner(self) -> RunnerIdentity | None:
        with suppress(KataxError):
            return self.ledger.runner(self.sql)
        return None

    def _refuse_foreign(self) -> None:
        if self.dialect is not None:
            other_tools.refuse_ledger(self.sql, self.table)
