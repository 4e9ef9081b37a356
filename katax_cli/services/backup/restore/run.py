"""Restoring a backup: it is validated before anything is made, and what is made is proven before it gets its name."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from katax_cli.core.clock import SYSTEM
from katax_cli.errors import BackupError, BackupHindered, ConfigError, KataxError, Refused
from katax_cli.services.backup.restore.destination import RestoreTarget, Tell
from katax_cli.services.backup.restore.kept import note_kept as note_beside
from katax_cli.services.backup.restore.load import Loader, RestoreOrder, version_numbers
from katax_cli.services.backup.verify import trusted
from katax_cli.services.backup.work import StoppableWork
from katax_cli.services.tables.scratch import Open, Purpose, administrator, open_settings

if TYPE_CHECKING:
    from collections.abc import Iterator

_MOST_JOBS = 4
NoteKept = Callable[[str, str], object]
"""Told the connection, and the name of the old database that is kept."""


class Restored(NamedTuple):
    """A database that is whole: its name, the name under which the one is kept whose place it took, rows, seconds."""

    target: str
    kept: str | None
    tables: int
    rows: int
    seconds: float


class Restore:
    """A restore that may begin: the backup is whole and fits the server, the target has no data or is to be swapped."""

    def __init__(
        self,
        order: RestoreOrder,
        destination: RestoreTarget,
        loader: Loader,
        *,
        replaces: bool,
        note_kept: NoteKept,
    ) -> None:
        self.manifest = order.manifest
        self.target = destination.target
        self.replaces = replaces
        self._order = order
        self._destination = destination
        self._loader = loader
        self._note_kept = note_kept

    def run(self) -> Restored:
        """Raises BackupError when it fails; the target is as it was then."""
        destination, manifest = self._destination, self.manifest
        started = SYSTEM.monotonic()
        with self._order.watching(), discarding(destination, self._order.tell):
            destination.make(self._loader.head())
            self._loader.load(destination.settings)
            problems = self._loader.problems(destination.settings)
            if problems:
                raise BackupError(
                    f"{manifest.name!r} was not restored as it was backed up: {'; '.join(problems[:5])}"
                )
            self._loader.let_go(destination.settings)
            kept = destination.publish(partial(self._note_kept, self._order.database.name))
        seconds = round(SYSTEM.monotonic() - started, 3)
        return Restored(self.target, kept, len(manifest.rows), sum(manifest.rows.values()), seconds)


def prepare(
    folder: Path,
    database: Any,
    into: str,
    *,
    work: StoppableWork,
    swap: bool = False,
    jobs: int | None = None,
    tools: str | None = None,
    open_database: Open = open_settings,
    tell: Tell = lambda _: None,
    told: Callable[[int], object] = lambda _: None,
    note_kept: NoteKept | None = None,
) -> Restore:
    """Reads the whole backup and looks at the server of `database`. Changes nothing.

    With `swap` it will take the place of the database `into`, which is kept and noted by `note_kept` (default: beside
    the folder). Raises BackupDamaged for a backup that is not whole,
    Refused for an older server and for a target with data, ConfigError for another engine and for a missing tool.
    """
    order = fit_order(folder, database, "restore", open_database, work, jobs, tools, tell, told)
    destination = destination_for(order, into)
    replaces = destination.refuse(swap=swap)
    return Restore(
        order,
        destination,
        loader_for(order),
        replaces=replaces,
        note_kept=note_kept or partial(note_beside, folder.parent),
    )


def fit_order(
    folder: Path,
    database: Any,
    purpose: Purpose,
    open_database: Open,
    work: StoppableWork,
    jobs: int | None,
    tools: str | None,
    tell: Tell,
    told: Callable[[int], object],
) -> RestoreOrder:
    """The order to restore a backup that was read whole and fits the server. Raises what `prepare` raises of both."""
    database.settings.refuse_read_only()
    order = RestoreOrder(
        folder=folder,
        manifest=trusted(folder, work),
        database=database,
        open_database=open_database,
        work=work,
        jobs=jobs or min(_MOST_JOBS, os.cpu_count() or 1),
        purpose=purpose,
        tools=tools,
        tell=tell,
        told=told,
    )
    _refuse_unfit(order)
    return order


def _refuse_unfit(order: RestoreOrder) -> None:
    """Raises ConfigError for another engine, Refused for an older server."""
    manifest, database = order.manifest, order.database
    engine = database.settings.type
    if manifest.engine != engine:
        raise ConfigError(
            f"{manifest.name!r} is a backup of {manifest.engine}, and {database.name!r} is {engine}; "
            "name a connection of that engine with -c"
        )
    if engine == "sqlite":
        return
    with asking(order) as server:
        version = str(server.server().get("version", ""))
    if engine == "mysql" and ("MariaDB" in version) != ("MariaDB" in manifest.server_version):
        raise ConfigError(
            f"{manifest.name!r} is a backup of {manifest.server_version}, and {database.name!r} is {version}; "
            "MySQL and MariaDB do not read each other's"
        )
    if version_numbers(version, engine) < version_numbers(manifest.server_version, engine):
        raise Refused(
            f"{database.name!r} is {engine} {version}, older than the server of {manifest.name!r}, "
            f"{manifest.server_version}; restore on that version or later"
        )


@contextmanager
def asking(order: RestoreOrder) -> Iterator[Any]:
    """A session with the server, also when the connection's own database is not there."""
    if order.manifest.engine == "redis":
        yield order.database
        return
    with administrator(order.database, order.open_database) as server:
        yield server


def destination_for(order: RestoreOrder, into: str | None) -> RestoreTarget:
    """The destination of this name; without one a throwaway database."""
    from katax_cli.services.backup.restore import file_database, redis_number, server_database

    engine = order.manifest.engine
    if engine == "redis":
        return redis_number.RedisNumber(order, into)
    if engine == "postgresql":
        return server_database.RenamedDatabase(order, into)
    if engine == "sqlite":
        return file_database.FileDatabase(order, into)
    return server_database.MarkedDatabase(order, into)


def loader_for(order: RestoreOrder) -> Loader:
    """The way of the engine, whose tool is there and new enough."""
    from katax_cli.services.backup.restore import load, pg_restore, redis_number

    engine = order.manifest.engine
    if engine == "postgresql":
        return pg_restore.PostgresLoader(order)
    if engine == "redis":
        return redis_number.KeyLoader(order)
    return load.FileLoader(order) if engine == "sqlite" else load.StreamLoader(order)


@contextmanager
def discarding(destination: RestoreTarget, tell: Tell) -> Iterator[None]:
    """Drops what was made when the block fails; what cannot be dropped is named."""
    try:
        yield
    except BaseException as error:
        try:
            destination.discard()
        except KataxError as left:
            if isinstance(error, Exception):
                kind = BackupHindered if isinstance(error, BackupHindered) else BackupError
                raise kind(f"{error}; {left}") from error
            tell(str(left))
        raise
