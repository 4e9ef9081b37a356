"""Databases that a restore fills: made under a name of their own or with a marker in them, and proven before they get
the name that was asked for.

PostgreSQL: a database of another name, renamed at the end, at once with the one whose place it takes. MySQL and
MongoDB rename none: there a marker stands in the database until it is whole.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from threading import Event
from typing import cast

from katax_cli.core.settings import ConnectionSettings
from katax_cli.core.sql import quote_identifier
from katax_cli.core.text.duration import FOREVER
from katax_cli.engines.registry import part
from katax_cli.engines.restores import DumpHead, RenamesDatabases, grant_hint
from katax_cli.errors import BackupError, ConfigError, KataxError, QueryError, Refused, RolledBack
from katax_cli.services.backup.restore.destination import LONGEST_NAME, MARKER, kept_name
from katax_cli.services.backup.restore.load import RestoreOrder
from katax_cli.services.calls.guard import Safety
from katax_cli.services.calls.left_behind import start
from katax_cli.services.databases.mongodb import MongoDatabase
from katax_cli.services.databases.sql import SqlDatabase
from katax_cli.services.tables import reset
from katax_cli.services.tables.lifetime import is_listed
from katax_cli.services.tables.scratch import (
    AnyDatabase,
    administrator,
    drop_unbound,
    elsewhere,
    is_abandoned,
    new_name,
    remove_abandoned,
    sql_of,
)

_END_SESSIONS_EVERY = 0.2
_RENAME_ATTEMPTS = 12
_IN_USE = "55006"
"""The SQLSTATE of a database with sessions."""


class _ServerDatabase:
    """A database of a server. Without a target it is a throwaway one, which is never published."""

    def __init__(self, order: RestoreOrder, target: str | None) -> None:
        self._database: AnyDatabase = order.database
        self._open = order.open_database
        self._purpose = order.purpose
        self._tell = order.tell
        self._throwaway = new_name(self._purpose)
        self._is_made = False
        self.target = self._throwaway if target is None else target
        self.settings = self._named(self._throwaway)

    def _named(self, name: str) -> ConnectionSettings:
        here = self._database.settings
        there = elsewhere(here, name)
        said = {option.lower() for option in here.options}
        if (
            here.type != "mongodb"
            or not (here.user and here.database)
            or said & {"authsource", "authmechanism"}
        ):
            return there
        # A user of MongoDB lives in the database that the connection names, unless it says where.
        return replace(there, options={"authSource": here.database, **here.options})

    def _refuse_objects(self, hint: str) -> None:
        with self._open(self._named(self.target)) as there:
            count = len([one for one in reset.objects(there) if one.name != MARKER])
        if count:
            what = f"{count} object{'s' * (count != 1)}"
            raise Refused(
                f"{self.target!r} on {self._database.name!r} is not empty, it has {what}; "
                f"restore into another name{hint}"
            )

    def _exists(self) -> bool:
        if isinstance(self._database, MongoDatabase):
            listed = self._database.command({"listDatabases": 1, "nameOnly": True})
            return any(one["name"] == self.target for one in listed["databases"])
        with administrator(self._database, self._open) as server:
            return is_listed(cast("SqlDatabase", server), self.target)

    def _remove_abandoned(self) -> None:
        for name in remove_abandoned(self._database, self._open, self._purpose):
            self._tell(f"removed {name!r}, which a killed {self._purpose} left")

    def _create(self, name: str, statement: str = "CREATE DATABASE {name}") -> None:
        """From here on there may be something to drop, unless the server says no."""
        self._is_made = True
        with administrator(self._database, self._open) as server:
            quoted = quote_identifier(name, cast("SqlDatabase", server).dialect)
            try:
                cast("SqlDatabase", server).execute(statement.replace("{name}", quoted, 1), timeout=FOREVER)
            except (ConfigError, QueryError) as error:
                self._is_made = False
                hint = grant_hint(str(error), part(self._database.engine, "backup.restore"))
                raise BackupError(f"{name!r} cannot be made: {error}{hint}") from error
            except BaseException:
                # Interrupted: the server must not make it after it was dropped.
                server.cancel_running()
                raise

    def _drop(self, name: str) -> None:
        try:
            with administrator(self._database, self._open) as server:
                if isinstance(server, MongoDatabase):
                    with self._open(self._named(name)) as there:
                        cast("MongoDatabase", there).command({"dropDatabase": 1})
                    return
                drop_unbound(server, name, self._open, sql_of(server).drop, FOREVER)
        except KataxError as error:
            raise BackupError(f"{name!r} on {self._database.name!r} was not dropped: {error}") from error


class RenamedDatabase(_ServerDatabase):
    """A database that is made and filled under a throwaway name."""

    _database: SqlDatabase
    _swap = False

    def refuse(self, *, swap: bool) -> bool:
        _refuse_own(self._database, self.target)
        self._swap = swap
        exists = self._exists()
        if exists and not swap:
            self._refuse_objects(", or take its place with --swap")
        elif exists:
            self._refuse_prepared()
        return exists

    def _refuse_prepared(self) -> None:
        with administrator(self._database, self._open) as server:
            renames: RenamesDatabases = part(server.engine, "backup.restore")
            prepared = server.ask(
                lambda connection, _: renames.prepared(connection, self.target),
                safety=Safety.READ,
                doing="asking for prepared transactions",
            )
        if prepared:
            raise Refused(
                f"{self.target!r} keeps its name as long as it has prepared transactions, {prepared[0]!r} first; "
                "commit them or roll them back"
            )

    def make(self, head: DumpHead | None) -> None:
        self._remove_abandoned()
        self._create(self._throwaway, *(() if head is None else (head.create,)))

    def publish(self, note_kept: Callable[[str], object]) -> str | None:
        # While it was filled others may have come, and what they made.
        kept = kept_name(self.target) if self.refuse(swap=self._swap) else None
        names = {} if kept is None else {self.target: kept}
        noted = kept is not None and not self._is_empty(self.target)
        if noted and kept is not None:
            note_kept(kept)
        with administrator(self._database, self._open) as server:
            self._rename(server, {**names, self._throwaway: self.target})
        self._is_made = False
        if kept is None:
            return None
        if not noted and self._is_empty(kept):
            self._drop(kept)
            return None
        if not noted:  # filled in the last moment
            note_kept(kept)
        return kept

    def _is_empty(self, name: str) -> bool:
        with self._open(self._named(name)) as database:
            return not reset.objects(database)

    def discard(self) -> None:
        if self._is_made:
            self._drop(self._throwaway)

    def _rename(self, server: AnyDatabase, names: Mapping[str, str]) -> None:
        """Ends the sessions on them while the server waits for that; new sessions wait for the server.

        On the new one those are a pooler's that the profile does not name: it keeps them when ours have ended.
        """
        renames: RenamesDatabases = part(server.engine, "backup.restore")
        with self._ending_sessions(server, names) as failures:
            for left in reversed(range(_RENAME_ATTEMPTS)):
                try:
                    server.ask(
                        lambda connection, _: renames.rename(connection, names),
                        safety=Safety.WRITE,
                        timeout=FOREVER,
                        doing="renaming",
                    )
                    return
                except RolledBack:
                    raise
                except QueryError as error:
                    # The server waits five seconds for sessions to end, which a busy one may exceed.
                    if left and not failures and error.sqlstate == _IN_USE:
                        continue
                    why = failures[0] if failures else error
                    raise BackupError(f"{self.target!r} was not replaced: {why}") from error

    @contextmanager
    def _ending_sessions(self, server: AnyDatabase, names: Collection[str]) -> Iterator[Sequence[KataxError]]:
        """Ends sessions on these databases meanwhile; the error that stopped it is added to what it yields."""
        renames: RenamesDatabases = part(server.engine, "backup.restore")
        done, failures = Event(), list[KataxError]()

        def end_sessions() -> None:
            while not done.is_set():
                try:
                    ended = server.ask(
                        lambda connection, _: {
                            name: renames.end_sessions(connection, name) for name in names
                        },
                        safety=Safety.READ,
                        timeout=FOREVER,
                        doing="ending sessions",
                    )
                except KataxError as error:
                    failures.append(error)
                    return
                for session in ended.get(self.target, ()):
                    self._tell(f"ended session {session} on {self.target!r}")
                done.wait(_END_SESSIONS_EVERY)

        ending = start("katax-end-sessions", end_sessions)
        try:
            yield failures
        finally:
            done.set()
            ending.ended(None)


class MarkedDatabase(_ServerDatabase):
    """A database that is filled under its name: a marker stands in it until it is whole."""

    def __init__(self, order: RestoreOrder, target: str | None) -> None:
        super().__init__(order, target)
        self.settings = self._named(self.target)
        self._was_there = False

    def refuse(self, *, swap: bool) -> bool:
        if swap:
            raise ConfigError(
                f"{self._database.engine.name} cannot rename a database, so none takes the place of another; "
                "restore into a new name without --swap, and point the connection at it"
            )
        _refuse_own(self._database, self.target)
        self._was_there = self._exists()
        if self._was_there and not self._is_of_killed():
            self._refuse_objects("")
        return False

    def make(self, head: DumpHead | None) -> None:
        self._remove_abandoned()
        if self._was_there and self._is_of_killed():
            self._empty()
            self._tell(f"emptied {self.target!r}, which a killed restore left half full")
        elif self._was_there:  # while a confirmation was waited for others may have come
            self._refuse_objects("")
        elif isinstance(self._database, SqlDatabase):
            self._create(self.target)
        with self._open(self.settings) as there:
            if isinstance(there, MongoDatabase):
                there.command({"insert": MARKER, "documents": [{"_id": self._throwaway}]})
            else:
                there.execute(f"CREATE TABLE {MARKER} AS SELECT '{self._throwaway}' AS maker")
        self._is_made = True

    def publish(self, note_kept: Callable[[str], object]) -> str | None:
        with self._open(self.settings) as there:
            if isinstance(there, MongoDatabase):
                there.command({"drop": MARKER})
            else:
                there.execute(f"DROP TABLE {MARKER}")
        self._is_made = False
        return None

    def discard(self) -> None:
        if not self._is_made:
            return
        if not self._was_there:
            self._drop(self.target)
            return
        try:
            self._empty()
        except KataxError as error:
            raise BackupError(f"{self.target!r} is half full and was not emptied: {error}") from error

    def _is_of_killed(self) -> bool:
        """True when a marker of a process that is gone stands in it. Raises Refused for one that may live."""
        with self._open(self.settings) as there:
            if all(table.name != MARKER for table in there.tables()):
                return False
            if isinstance(there, MongoDatabase):
                found = there.command({"find": MARKER, "limit": 1})["cursor"]["firstBatch"]
                maker = str(found[0]["_id"]) if found else ""
            else:
                rows = there.run(f"SELECT maker FROM {MARKER}").rows
                maker = str(rows[0][0]) if rows else ""
        if is_abandoned(maker, "restore"):
            return True
        raise Refused(
            f"{self.target!r} is being restored by {maker or 'another process'}, or that was killed elsewhere; "
            "drop it, or restore into another name"
        )

    def _empty(self) -> None:
        with self._open(self.settings) as there:
            reset.drop(there, reset.objects(there))


def _refuse_own(database: AnyDatabase, target: str) -> None:
    own = ("admin", "config", "local") if isinstance(database, MongoDatabase) else sql_of(database).own
    if target.lower() in own:
        raise Refused(f"{target!r} is a database of the server's own; restore into another name")
    if not target or len(target.encode()) > LONGEST_NAME or "\0" in target:
        raise ConfigError(f"{target!r} is no name of a database; up to {LONGEST_NAME} bytes are")
