"""The tables of jobs in the state database, by SQL that is the same on every engine."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from katax_cli.core.resilience.retry import RetryPolicy
from katax_cli.core.settings import ConnectionSettings
from katax_cli.engines.base import Result
from katax_cli.engines.registry import sql_part
from katax_cli.engines.sql import StateSql
from katax_cli.errors import Refused, Unavailable
from katax_cli.profiles.model.model import Profile
from katax_cli.services.calls.observer import QueryLogging
from katax_cli.services.databases.sql import SqlDatabase
from katax_cli.services.databases.statements import Queries
from katax_cli.services.state.store import FileId, file_id
from katax_cli.services.state.versions import bring_up_to_date

LEASE_SECONDS = 20.0
_TIMEOUT = 5.0
_AT_ONCE = 400
"""Parameters of one IN list, below every engine's limit."""
_RETRY = RetryPolicy(attempts=6, initial=0.02, max=0.5, total=_TIMEOUT)
_NETWORK = ("nfs", "cifs", "smb", "9p", "fuse.sshfs", "ceph", "glusterfs", "lustre", "afs")


def state_profile(profile: Profile) -> Profile:
    """The profile with what the state database needs: quick repetition of what was rolled back."""
    name = profile.state.connection.name
    return replace(profile, connection_retry={**profile.connection_retry, name: _RETRY})


def refuse_network_file(settings: ConnectionSettings) -> None:
    """Raises Refused for an SQLite file on a network file system, whose locks cannot be trusted."""
    if settings.type != "sqlite" or settings.path is None:
        return
    kind = _file_system(settings.path)
    if kind.startswith(_NETWORK):
        raise Refused(
            f"the state database {settings.path} is on {kind}, where SQLite's locks do not hold; "
            "set state.url to a PostgreSQL or MySQL connection"
        )


def _file_system(path: str) -> str:
    """The type of the file system that holds `path`; empty where this machine does not say."""
    best, kind = "", ""
    try:
        with open("/proc/mounts", encoding="utf-8") as file:
            mounts = [line.split()[1:3] for line in file]
    except OSError:
        return ""
    real = os.path.realpath(path)
    for point, each in mounts:
        inside = real == point or real.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(best):
            best, kind = point, each
    return kind


class Tables:
    """The cron tables of one profile. Raises what a database raises."""

    def __init__(self, database: SqlDatabase, profile: str) -> None:
        self.database = database
        database.observer.set_log(QueryLogging())
        self.profile = profile
        self._sql: StateSql = sql_part(database.engine, "state")
        self.now = database.engine.facts.now_ms
        self.for_update = self._sql.for_update
        self._shared = sql_part(database.engine, "databases") is not None
        self._made = False
        self._path = database.settings.path
        self._file: FileId | None = None

    @property
    def shared(self) -> bool:
        """True when daemons on other machines may use it too."""
        return self._shared

    @property
    def moved(self) -> bool:
        """True when the prepared file was replaced or removed: no other process sees the old one."""
        return self._made and file_id(self._path) != self._file

    def prepare(self) -> None:
        """Makes the tables unless they are there. Raises ConfigError when a newer katax made them."""
        if self.moved:
            self._made = False
            self.database.pool.doubt()
            self.database.pool.renew()
        if self._made:
            return
        bring_up_to_date(self.database, seconds=_TIMEOUT)
        self._file = file_id(self._path)
        self._made = True

    def transaction(self, work: Callable[[Queries], None]) -> None:
        """All of it or nothing; repeated as a whole when the server rolled it back."""
        self._refuse_moved()
        self.database.transaction(work, timeout=_TIMEOUT)

    def insert(
        self,
        on: Queries,
        table: str,
        columns: str,
        rows: Sequence[Sequence[object]],
        more: str = "",
    ) -> None:
        """Inserts what is not there yet."""
        if not rows:
            return
        on.execute_many(
            f"{self._sql.insert} INTO {table} ({columns}) VALUES ({marks(rows[0])}{more}){self._sql.insert_end}",
            [tuple(row) for row in rows],
        )

    def run(self, sql: str, params: Sequence[object] = ()) -> Result:
        """One statement on a connection of its own."""
        self._refuse_moved()
        return self.database.run(sql, list(params) or None, timeout=_TIMEOUT)

    def _refuse_moved(self) -> None:
        if self.moved:
            raise Unavailable(
                self.database.name, "its file was removed or replaced, and what was claimed with it"
            )


def marks(values: Sequence[object]) -> str:
    return ", ".join("?" * len(values))


def parts(values: Sequence[str]) -> Iterable[Sequence[str]]:
    return (values[start : start + _AT_ONCE] for start in range(0, len(values), _AT_ONCE))
