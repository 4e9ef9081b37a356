"""Filling an empty database from a dump by the engine's own tool, and comparing what came out with the manifest."""

from __future__ import annotations

import os
import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from katax_cli.core.settings import ConnectionSettings
from katax_cli.core.sql import quote_identifier
from katax_cli.core.text.duration import FOREVER
from katax_cli.engines import restores as abilities
from katax_cli.engines.dumps import Credentials, SchemaFacts
from katax_cli.engines.registry import load, part
from katax_cli.errors import BackupError, BackupHindered
from katax_cli.services.backup.manifest import Manifest
from katax_cli.services.backup.restore.destination import MARKER, Tell
from katax_cli.services.backup.silence import ServerSilence
from katax_cli.services.backup.streams import opened
from katax_cli.services.backup.tools import Tool, find_tool, run_tool, secret_files
from katax_cli.services.backup.work import StoppableWork
from katax_cli.services.calls.guard import Safety
from katax_cli.services.databases.mongodb import MongoDatabase
from katax_cli.services.databases.sql import SqlDatabase
from katax_cli.services.tables.scratch import AnyDatabase, Open, Purpose, administrator, is_file

_QUOTED_DUMP = re.compile(r"; (?:Command was: |COPY [^;]{1,300}?, line \d+|Failing row contains )")
"""Before what pg_restore repeats of the dump: statements and rows, which may say anything."""


@dataclass(frozen=True, slots=True)
class RestoreOrder:
    """One dump and the server that it is for; `tools` is the folder of the server's tools (None: PATH).

    `tell` hears sentences for people, `told` the number of bytes that were restored so far.
    """

    folder: Path
    manifest: Manifest
    database: Any
    open_database: Open
    work: StoppableWork
    jobs: int
    purpose: Purpose
    tools: str | None = None
    tell: Tell = lambda _: None
    told: Callable[[int], object] = lambda _: None
    silence: ServerSilence = field(init=False)

    def __post_init__(self) -> None:
        after = f"the next {self.purpose} removes what is left of this one"
        silence = ServerSilence(self.database.name, self.work, after=after)
        object.__setattr__(self, "silence", silence)
        object.__setattr__(self, "told", silence.telling(self.told))
        object.__setattr__(self, "open_database", silence.opening(self.open_database))

    @contextmanager
    def opened_dump(self) -> Iterator[Iterator[bytes]]:
        """The contents of a dump that is one file, decompressed; `told` hears how much of it was taken."""
        [file] = self.manifest.files
        with opened(self.folder / file.path) as contents:
            yield self._told(contents)

    def _told(self, contents: Iterator[bytes]) -> Iterator[bytes]:
        count = 0
        for piece in contents:
            self.work.check()
            yield piece
            count += len(piece)
            self.told(count)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Ends the work when the server answers nothing."""
        if not isinstance(self.database, SqlDatabase) or is_file(self.database):
            yield
            return
        with (
            administrator(self.database, self.open_database) as server,
            self.silence.watching_server(server),
        ):
            yield


class Loader(ABC):
    """The way of one engine. Making one checks its tool, and changes nothing."""

    def head(self) -> abilities.DumpHead | None:
        """How the database itself is made; None: as any other."""
        return None

    @abstractmethod
    def load(self, settings: ConnectionSettings) -> None:
        """Fills the empty database. Raises BackupError with what the tool says; BackupHindered when the server or this
        machine is at fault."""

    @abstractmethod
    def problems(self, settings: ConnectionSettings) -> list[str]:
        """The differences between the manifest and what is in the database now, one line each."""

    def let_go(self, settings: ConnectionSettings) -> None:  # noqa: B027 - most engines hold nothing back
        """Lets things of the database act by themselves that rested until now."""


class StreamLoader(Loader):
    """A program that reads the dump from stdin: MySQL's client, mongorestore."""

    def __init__(self, order: RestoreOrder) -> None:
        self._order = order
        self._part: abilities.ReadsDumpStream = part(order.database.engine, "backup.restore")
        self._tool = find_tool(self._part.names, folder=order.tools, package=self._part.package)

    def load(self, settings: ConnectionSettings) -> None:
        source, target = self._order.manifest.database, str(settings.database)
        words = self._part.words("-", jobs=self._order.jobs, options=self._part.into(source, target))
        with self._order.opened_dump() as pieces:
            feed = self._part.addressed(pieces, source=source, target=target)
            run_restore(self._order, self._tool, settings, words, feed)

    def problems(self, settings: ConnectionSettings) -> list[str]:
        manifest, engine = self._order.manifest, self._order.database.engine
        dump = part(engine, "backup.dump") if engine.name == "mysql" else None
        left_out = {omission.what for omission in manifest.left_out}
        with self._order.open_database(settings) as database:
            found = {
                name: count for name, count in count_rows(database, manifest.rows).items() if name != MARKER
            }
            if dump is None:
                return differences("rows of", manifest.rows, found)

            def read_schema(qualifier: str) -> SchemaFacts:
                facts: SchemaFacts = database.ask(
                    lambda connection, _: dump.schema(
                        connection, without=(MARKER,), left_out=left_out, qualifier=qualifier
                    ),
                    safety=Safety.READ,
                    timeout=FOREVER,
                    doing="reading the schema",
                )
                return facts

            schema = read_schema("")
            if schema.schema_hash != manifest.schema_hash:
                # In earlier backups the defaults name the database.
                earlier = read_schema(f"{quote_identifier(manifest.database, 'mysql')}.")
                schema = earlier if earlier.schema_hash == manifest.schema_hash else schema
            is_comparable = is_of_this_version(manifest, database)
        return all_differences(manifest, found, schema.objects, schema.schema_hash if is_comparable else None)

    def let_go(self, settings: ConnectionSettings) -> None:
        let_go(self._order, self._part, settings)


class FileLoader(Loader):
    """SQLite's file as it was copied."""

    def __init__(self, order: RestoreOrder) -> None:
        self._order = order

    def load(self, settings: ConnectionSettings) -> None:
        try:
            with self._order.opened_dump() as pieces, open(str(settings.path), "xb") as file:
                file.writelines(pieces)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise BackupHindered(f"cannot write {settings.path!r}: {error.strerror}") from error

    def problems(self, settings: ConnectionSettings) -> list[str]:
        from katax_cli.engines.sqlite.backup.dump import contents

        try:
            found = contents(Path(str(settings.path)), stopped=lambda: self._order.work.stopped)
        except BackupHindered:
            raise
        except BackupError as error:
            return [str(error)]
        return all_differences(self._order.manifest, found.rows, found.objects, found.schema_hash)


def let_go(order: RestoreOrder, ability: object, settings: ConnectionSettings) -> None:
    """Lets act what the engine's part held back while the database was filled, and tells what goes on resting."""
    if isinstance(ability, abilities.HoldsBack):
        with cast("SqlDatabase", order.open_database(settings)) as database:
            for line in database.ask(
                lambda connection, _: ability.let_go(connection),
                safety=Safety.WRITE,
                timeout=FOREVER,
                doing="the restore",
            ):
                order.tell(line)


def credentials(settings: ConnectionSettings) -> Credentials:
    """How a tool gets to the database that the settings name."""
    made: Credentials = part(load(settings), "backup.dump").credentials()
    return made


def run_restore(
    order: RestoreOrder,
    tool: Tool,
    settings: ConnectionSettings,
    words: tuple[str, ...],
    feed: Iterator[bytes] | None = None,
    each_moment: Callable[[], object] = lambda: None,
) -> None:
    """Runs the engine's program to its end. Raises BackupError with what it said, and the grant that is missing;
    BackupHindered when that is no fault of the dump."""
    restores: abilities.RestoresByProgram = part(order.database.engine, "backup.restore")
    with secret_files(credentials(settings)) as secrets:
        try:
            run_tool(
                order.work, [tool.path, *secrets.words, *words], secrets, feed=feed, each_moment=each_moment
            )
        except BackupError as error:
            said = _QUOTED_DUMP.split(str(error), maxsplit=1)[0]
            hint = abilities.grant_hint(said, restores)
            kind = BackupHindered if hint or restores.hindered.search(said) else type(error)
            raise kind(f"{error}{hint}") from error


def count_rows(database: AnyDatabase, names: Collection[str]) -> dict[str, int]:
    """The rows of these tables or collections, as far as they are there, and of all others that hold rows."""
    if isinstance(database, MongoDatabase):
        collections = [table.name for table in database.tables() if table.kind == "collection"]
        # Those of the server's own kinds are not listed: the buckets of a time series.
        collections += [name for name in names if name.startswith("system.")]
        return {name: int(database.command({"count": name}, timeout=FOREVER)["n"]) for name in collections}
    counts = Counter[str]()
    for name, sql in _relations(database, names):
        counts[name] += int(database.run(f"SELECT count(*) FROM {sql}", timeout=FOREVER).rows[0][0])
    return dict(counts)


def _relations(database: SqlDatabase, names: Collection[str]) -> list[tuple[str, str]]:
    lists = part(database.engine, "backup.restore")
    if isinstance(lists, abilities.ListsRelations):
        return database.ask(
            lambda connection, _: lists.relations(connection, names),
            safety=Safety.READ,
            doing="listing tables",
        )
    tables = [table.name for table in database.tables() if table.kind == "table"]
    return [(name, quote_identifier(name, database.dialect)) for name in tables]


def is_of_this_version(manifest: Manifest, database: AnyDatabase) -> bool:
    """True when the server is of the version that was backed up: others write the same schema in other words."""
    engine = manifest.engine
    now = str(database.server().get("version", ""))
    return version_numbers(now, engine) == version_numbers(manifest.server_version, engine)


def version_numbers(version: str, engine: str) -> tuple[int, ...]:
    """The part of a version that decides about dumps: 15 of PostgreSQL 15.18, 10.11 of MariaDB 10.11.19."""
    return tuple(int(number) for number in re.findall(r"\d+", version)[: 1 if engine == "postgresql" else 2])


def all_differences(
    manifest: Manifest, rows: Mapping[str, int], objects: Mapping[str, int], schema_hash: str | None
) -> list[str]:
    """One line for each difference from the manifest; `schema_hash` is None when it cannot be compared."""
    problems = differences("rows of", manifest.rows, rows)
    problems += differences("number of", manifest.objects, objects)
    if not problems and schema_hash not in (None, manifest.schema_hash):
        problems.append("the schema differs from the one that was backed up")
    return problems


def differences(what: str, expected: Any, found: Any) -> list[str]:
    """One line for each name whose counts differ; a name that is missing counts as 0."""
    return [
        f"{what} {name}: {expected.get(name, 0):,} in the backup, {found.get(name, 0):,} restored"
        for name in sorted({*expected, *found})
        if expected.get(name, 0) != found.get(name, 0)
    ]
