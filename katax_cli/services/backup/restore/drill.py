"""Drills: a backup is restored into a throwaway database, compared, asked and timed, and its manifest says so."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from katax_cli.core.clock import SYSTEM, utc_text
from katax_cli.core.settings import ConnectionSettings
from katax_cli.core.text.duration import FOREVER
from katax_cli.engines.registry import part
from katax_cli.engines.restores import IdentifiesServer, Space
from katax_cli.errors import BackupError, BackupHindered, QueryError, Refused, Unavailable
from katax_cli.services.backup.manifest import Manifest, RestoreDrill, read_manifest, write_manifest
from katax_cli.services.backup.restore.destination import RestoreTarget, Tell
from katax_cli.services.backup.restore.load import Loader, RestoreOrder
from katax_cli.services.backup.restore.run import (
    asking,
    destination_for,
    discarding,
    fit_order,
    loader_for,
)
from katax_cli.services.backup.work import StoppableWork
from katax_cli.services.calls.guard import Safety
from katax_cli.services.databases.sql import SqlDatabase
from katax_cli.services.tables.scratch import Open, open_settings

_ROOM = 1.2
"""Times the size of the database that must be free on the server that it is from: indexes are built anew."""
_MOST_PROBLEMS = 20


def drill_backup(
    folder: Path,
    database: Any,
    *,
    work: StoppableWork,
    same_server: bool = False,
    unseen_space: bool = False,
    smoke: Sequence[str] = (),
    jobs: int | None = None,
    tools: str | None = None,
    open_database: Open = open_settings,
    tell: Tell = lambda _: None,
    told: Callable[[int], object] = lambda _: None,
    stamped: Callable[[RestoreDrill], object] | None = None,
) -> RestoreDrill:
    """Restores a backup into a throwaway database of the server of `database`; its manifest says how that ended.

    `stamped` adds the drill to the manifest (default: that in the folder). Refused on the server that the backup is
    from unless `same_server`, and there without the free space for it
    (`unseen_space`: also where that cannot be seen). Raises what `prepare` raises; a drill that ended is returned,
    also when it found problems.
    """
    order = fit_order(folder, database, "drill", open_database, work, jobs, tools, tell, told)
    with order.watching():
        server_id = _checked_server(order, same_server=same_server, unseen_space=unseen_space)
        destination = destination_for(order, None)
        destination.refuse(swap=False)
        try:
            seconds, problems = _tried(order, destination, loader_for(order), smoke)
        except BackupHindered as error:
            name = order.manifest.name
            raise BackupError(f"{name!r} was not drilled, which says nothing of it: {error}") from error
    drill = RestoreDrill(
        drilled_at=utc_text(),
        connection=database.name,
        server_id=server_id,
        passed=not problems,
        restore_seconds=round(seconds, 3),
        problems=tuple(problems[:_MOST_PROBLEMS]),
    )
    (stamped or partial(stamp, folder))(drill)
    return drill


def _tried(
    order: RestoreOrder, destination: RestoreTarget, loader: Loader, smoke: Sequence[str]
) -> tuple[float, list[str]]:
    """The seconds that the restore took, and what is wrong with what came out. The database is dropped.

    Raises what says nothing of the backup, such as BackupHindered.
    """
    started = SYSTEM.monotonic()
    with discarding(destination, order.tell):
        destination.make(loader.head())
        try:
            loader.load(destination.settings)
        except BackupError as error:
            if order.work.stopped or isinstance(error, BackupHindered):
                raise
            problems = [str(error)]
            seconds = SYSTEM.monotonic() - started
        else:
            seconds = SYSTEM.monotonic() - started
            problems = loader.problems(destination.settings)
            problems += smoke_problems(order, destination.settings, smoke)
            if problems and order.work.stopped:
                # They may be the end of the work, and none of the backup.
                order.work.check()
    destination.discard()
    return seconds, problems


def smoke_problems(order: RestoreOrder, settings: ConnectionSettings, smoke: Sequence[str]) -> list[str]:
    """One line for each statement that fails, returns no row, or returns false, 0 or NULL first."""
    if not smoke:
        return []
    with order.open_database(settings) as database:
        if not isinstance(database, SqlDatabase):
            order.tell(f"[backup] smoke is SQL, and {order.manifest.engine} has none: it was not asked")
            return []
        return [f"smoke {sql!r}: {why}" for sql in smoke if (why := _smoke_failure(database, sql))]


def _smoke_failure(database: SqlDatabase, sql: str) -> str | None:
    try:
        result = database.run(sql, timeout=FOREVER)
    except QueryError as error:
        if isinstance(error, Unavailable):
            raise
        hindered = getattr(part(database.engine, "backup.restore"), "hindered", None)
        if hindered is not None and hindered.search(f"ERROR {error.code} "):
            raise BackupHindered(f"smoke {sql!r}: {error}") from error
        return str(error)
    if not result.columns:
        return None
    if not result.rows:
        return "no row"
    return None if result.rows[0][0] else f"{result.rows[0][0]!r}"


def _checked_server(order: RestoreOrder, *, same_server: bool, unseen_space: bool) -> str:
    """The identity of the server. Raises Refused for the one that the backup is from, unless that is wanted and there
    is room for it."""
    manifest, name = order.manifest, order.database.name
    server_id, space = _server(order)
    # A container that was made anew has another host name, and the same disk.
    if server_id.split(":")[:2] != manifest.server_id.split(":")[:2]:
        return server_id
    if not same_server:
        raise Refused(
            f"{name!r} is the server that {manifest.name!r} is from; drill on another one, or say --same-server"
        )
    needed = int(max(space.used_bytes, manifest.size_bytes) * _ROOM)
    if space.free_bytes is None:
        if not unseen_space:
            raise Refused(
                f"the free space of {name!r} cannot be seen, and the drill needs {needed:,} bytes; "
                "drill on another server, or repeat with --yes"
            )
    elif space.free_bytes < needed:
        raise Refused(
            f"{name!r} has {space.free_bytes:,} bytes free, and the drill needs {needed:,}; drill on another server"
        )
    return server_id


def _server(order: RestoreOrder) -> tuple[str, Space]:
    ability: IdentifiesServer = part(order.database.engine, "backup.restore")

    def question(connection: Any, _seconds: float | None) -> tuple[str, Space]:
        return ability.server_id(connection), ability.space(connection, order.manifest.database)

    if order.manifest.engine == "sqlite":
        return question(None, None)
    with asking(order) as server:
        answer: tuple[str, Space] = server.ask(
            question, safety=Safety.READ, doing="asking which server it is"
        )
    return answer


def stamp(folder: Path, drill: RestoreDrill) -> Manifest:
    """Adds a drill to the manifest of a backup; those that end at once wait for each other."""
    try:
        with _locked(folder):
            manifest = read_manifest(folder).with_drill(drill)
            write_manifest(folder, manifest)
            return manifest
    except OSError as error:
        raise BackupError(f"drilled, but {str(folder)!r} cannot be stamped: {error.strerror}") from error


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    # That of the folder itself is held by those who read it, such as this drill.
    descriptor = os.open(folder.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
