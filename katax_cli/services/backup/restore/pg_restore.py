"""PostgreSQL by `pg_restore --jobs`: filled in parallel, then compared with the manifest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from typing import Any, NamedTuple, TypeVar, cast

from katax_cli.core.clock import SYSTEM
from katax_cli.core.settings import ConnectionSettings
from katax_cli.core.sql import quote_identifier
from katax_cli.core.text.duration import FOREVER
from katax_cli.engines import restores as abilities
from katax_cli.engines.dumps import Credentials
from katax_cli.engines.registry import part
from katax_cli.errors import BackupError, BackupHindered, ConfigError, KataxError, QueryError
from katax_cli.services.backup.dumps import pg_dump
from katax_cli.services.backup.restore.load import (
    Loader,
    RestoreOrder,
    all_differences,
    count_rows,
    credentials,
    is_of_this_version,
    let_go,
    run_restore,
)
from katax_cli.services.backup.streams import pieces
from katax_cli.services.backup.tools import refuse_older, run_tool, secret_files
from katax_cli.services.calls.guard import Safety
from katax_cli.services.databases.sql import SqlDatabase
from katax_cli.services.tables.scratch import AnyDatabase, administrator

T = TypeVar("T")
_ASK_SIZE_EVERY = 1.0
_NO_RIGHT = "42501"
"""The SQLSTATE of a parameter that only superusers set."""
_LARGE_OBJECTS = "SELECT count(*) FROM pg_largeobject_metadata"


class _LoadedDatabase(NamedTuple):
    """The contents of a restored database; `policed`: tables whose rows a policy may hide from this role.

    The rows are those of `backed_up` or, where partitions differ from it, both are of whole tables.
    """

    policed: Sequence[str]
    rows: dict[str, int]
    backed_up: Mapping[str, int]
    large_objects: int
    is_comparable: bool


class PostgresLoader(Loader):
    """pg_restore, with as many sessions as jobs."""

    def __init__(self, order: RestoreOrder) -> None:
        self._order = order
        self._dump = order.folder / pg_dump.DUMP
        self._pg_dump, self._pg_restore = pg_dump.tools(order.tools)
        wrote = order.manifest.tool.rpartition(" ")[2]
        refuse_older(self._pg_restore, wrote, parts=1, package=pg_dump.PACKAGE)
        self._part: abilities.ReadsDumpHead = part(order.database.engine, "backup.restore")
        self._toc = pg_dump.toc(order.work, self._pg_restore, self._dump)
        self._head = self._read_head()
        self._left_out = set[str]()

    def head(self) -> abilities.DumpHead | None:
        return self._head

    def _read_head(self) -> abilities.DumpHead:
        printed: list[bytes] = []
        entries = [entry for entry in self._toc if entry.kind not in pg_dump.DATA]
        with secret_files(pg_dump.selection(entries)) as selection:
            words = [self._pg_restore.path, *selection.words, *self._part.head_words(str(self._dump))]
            run_tool(self._order.work, words, selection, read=lambda output: printed.extend(pieces(output)))
        return self._part.head(b"".join(printed).decode(errors="surrogateescape"))

    def load(self, settings: ConnectionSettings) -> None:
        options, statements = self._chosen()
        kept = [entry for entry in self._toc if not entry.is_of(self._left_out)]
        with (
            administrator(self._order.database, self._order.open_database) as server,
            secret_files(pg_dump.selection(kept) if self._left_out else Credentials(())) as selection,
        ):
            options += selection.words
            words = self._part.words(str(self._dump), jobs=self._order.jobs, options=options)
            spoken, is_english = self._english(server, settings)
            tell_size = self._growth(cast("SqlDatabase", server), str(settings.database))
            try:
                run_restore(self._order, self._pg_restore, spoken, words, each_moment=tell_size)
            except BackupError as error:
                if is_english:
                    raise
                why = "whether the dump is at fault cannot be told, for the server's messages are not in English"
                raise BackupHindered(f"{error}; {why} (lc_messages)") from error
        self._finish(str(settings.database), statements)

    def _english(self, server: AnyDatabase, settings: ConnectionSettings) -> tuple[ConnectionSettings, bool]:
        """The settings of sessions whose messages are in English where that can be, and whether they are."""
        spoken = self._asked(server, lambda connection: self._part.english(connection, settings))
        # A pooler that the profile does not name refuses such options.
        with suppress(ConfigError), self._order.open_database(spoken) as database:
            return spoken, self._asked(database, self._part.is_english)
        return settings, self._asked(server, self._part.is_english)

    def _growth(self, server: SqlDatabase, name: str) -> Callable[[], None]:
        """Tells now and then how large the database is by now."""
        asked_at = SYSTEM.monotonic()

        def tell_size() -> None:
            nonlocal asked_at
            if SYSTEM.monotonic() - asked_at < _ASK_SIZE_EVERY:
                return
            asked_at = SYSTEM.monotonic()
            # Its size is for people: without an answer the restore goes on.
            with suppress(KataxError):
                [(size,)] = server.run("SELECT pg_database_size($1)", [name]).rows
                self._order.told(int(size))

        return tell_size

    def _chosen(self) -> tuple[list[str], list[str]]:
        """Options that leave out the parts that name roles which are not there, or not ours to act for; statements on
        the database itself. Only a superuser has rights on it still when it is somebody else's."""
        database = self._order.database
        mine, known = self._roles()
        options, statements = list[str](), [*self._head.finish]
        for dump_part in self._head.parts:
            missing = sorted(
                (dump_part.names - known) | (dump_part.acts_for - (known if mine is None else mine))
            )
            if missing:
                options += [dump_part.option] if dump_part.option else []
                self._left_out |= {dump_part.kind} if dump_part.kind else set()
                role = missing[0]
                why = f"this role may not act for {role!r}" if role in known else f"there is no role {role!r}"
                self._order.tell(f"{dump_part.what} are not restored: {why} on {database.name!r}")
            elif mine is None:
                statements += dump_part.finish
        return options, statements

    def _roles(self) -> tuple[frozenset[str] | None, frozenset[str]]:
        """The roles that this session may act for (None: all), and those that there are."""
        with administrator(self._order.database, self._order.open_database) as server:
            return self._asked(server, self._part.roles), self._asked(server, self._part.known_roles)

    def _asked(self, server: AnyDatabase, question: Callable[[Any], T]) -> T:
        return server.ask(lambda connection, _: question(connection), safety=Safety.READ, doing="the restore")

    def _finish(self, name: str, statements: list[str]) -> None:
        """Sets what the database itself was set to."""
        with administrator(self._order.database, self._order.open_database) as server:
            quoted = quote_identifier(name, cast("SqlDatabase", server).dialect)
            for statement in statements:
                try:
                    cast("SqlDatabase", server).execute(
                        statement.replace("{name}", quoted, 1), timeout=FOREVER
                    )
                except QueryError as error:
                    if error.sqlstate != _NO_RIGHT:
                        raise
                    self._order.tell(f"a setting of the database is not restored: {error.reason}")

    def problems(self, settings: ConnectionSettings) -> list[str]:
        manifest = self._order.manifest
        with ThreadPoolExecutor(1, thread_name_prefix="katax-restore-schema") as beside:
            reading = beside.submit(self._schema, settings)
            try:
                loaded = self._loaded(settings)
                schema = reading.result()
            except BaseException:
                self._order.work.cut()  # nobody waits for the other one
                raise
        expected = loaded.backed_up
        uncounted = [name for name in loaded.policed if loaded.rows.get(name, 0) != expected.get(name, 0)]
        rows = loaded.rows | {name: expected.get(name, 0) for name in uncounted}
        objects = self._objects(schema, loaded.large_objects)
        problems = all_differences(replace(manifest, rows=expected), rows, objects, None)
        if not problems and loaded.is_comparable and manifest.tool == str(self._pg_dump):
            problems += self._schema_problems(schema)
        if uncounted and not problems:
            raise _uncounted(uncounted[0])
        return problems

    def _loaded(self, settings: ConnectionSettings) -> _LoadedDatabase:
        manifest = self._order.manifest
        with cast("SqlDatabase", self._order.open_database(settings)) as database:
            policed = self._asked(database, self._part.policed)
            try:
                rows = count_rows(database, manifest.rows)
            except QueryError as error:
                if policed:  # a policy may call what fails here
                    raise _uncounted(policed[0]) from error
                raise
            backed_up = manifest.rows
            if rows != backed_up:
                # Partitions by the hash of an enum get other rows: it is that of its number, which is new.
                tables = self._asked(database, self._part.partitioned)
                rows, backed_up = _by_table(rows, tables), _by_table(backed_up, tables)
                policed = [tables.get(name, name) for name in policed]
            [(large,)] = database.run(_LARGE_OBJECTS, timeout=FOREVER).rows
            is_comparable = is_of_this_version(manifest, database)
            return _LoadedDatabase(policed, rows, backed_up, int(large), is_comparable)

    def _objects(self, schema: list[bytes], large_objects: int) -> dict[str, int]:
        """The number of objects of each kind that were restored."""
        dumped = self._order.manifest.objects
        left_out = {kind: count for kind, count in dumped.items() if kind.upper() in self._left_out}
        objects = pg_dump.counted(schema) | left_out
        wanted = {kind: count for kind, count in dumped.items() if kind != "large object"}
        if objects != wanted and objects == pg_dump.counted(self._dumped_schema()):
            objects = wanted  # words of a comment or a function look like a heading, here and there
        return {**objects, "large object": large_objects} if large_objects else objects

    def _schema_problems(self, restored: list[bytes]) -> list[str]:
        """The dump itself is asked where the hash differs, for a server may say what it read again in other words."""
        wanted = self._order.manifest.schema_hash
        if pg_dump.schema_hash(restored) == wanted:
            return []
        dumped = self._dumped_schema()
        names = pg_dump.differing(dumped, restored, without=self._left_out)
        if not names and pg_dump.schema_hash(dumped) == wanted:
            return []
        named = f": {', '.join(names[:5])}" if names else ""
        return [f"the schema differs from the one that was backed up{named}"]

    def _dumped_schema(self) -> list[bytes]:
        return pg_dump.schema(self._order.work, self._pg_restore, self._dump)

    def let_go(self, settings: ConnectionSettings) -> None:
        let_go(self._order, self._part, settings)

    def _schema(self, settings: ConnectionSettings) -> list[bytes]:
        with secret_files(credentials(settings)) as secrets:
            return pg_dump.schema_of_database(self._order.work, self._pg_dump, secrets)


def _by_table(rows: Mapping[str, int], tables: Mapping[str, str]) -> dict[str, int]:
    counts = Counter[str]()
    for name, count in rows.items():
        counts[tables.get(name, name)] += count
    return dict(counts)


def _uncounted(table: str) -> BackupHindered:
    return BackupHindered(
        f"row-level security may hide rows of {table} from this role, so they cannot be counted; "
        "the role needs BYPASSRLS"
    )
