"""PostgreSQL by `pg_dump --format=directory`: in parallel, in the snapshot of a session that holds the tables still."""

from __future__ import annotations

import hashlib
import re
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, Any, NamedTuple

from katax_cli.engines.dumps import Credentials, Inventory
from katax_cli.engines.registry import load, part
from katax_cli.errors import BackupError
from katax_cli.services.backup.dumps.order import Order, ProvenDump
from katax_cli.services.backup.manifest import DumpFile, Omission
from katax_cli.services.backup.streams import digested, synced
from katax_cli.services.backup.tools import (
    Tool,
    chunks,
    find_tool,
    folder_bytes,
    refuse_older,
    run_tool,
    secret_files,
)
from katax_cli.services.backup.work import StoppableWork
from katax_cli.services.calls.guard import Safety
from katax_cli.services.calls.watchdog import watchdog
from katax_cli.services.databases.database import open_bounded

DUMP = "dump"
PACKAGE = "postgresql-client (Debian, Ubuntu), postgresql (Fedora) or libpq (Homebrew)"
_LOCK_SECONDS = 60
"""How long the tables may be locked by others before the backup gives up."""
_QUEUE_SECONDS = 2
"""How long pg_dump waits for a lock: our session has it, so that it could only wait for a change that waits for us."""
_ATTEMPTS = 3
_LOCK_REFUSED = ("could not obtain lock", "statement timeout", "lock timeout")
_END = b"\\.\n\n\n"
_NO_ZSTD = "does not support compression"
_ENTRY = re.compile(r"^(\d+); (\d+) (\d+) (.*)$")
# Of several words; the others are one. What follows is schema, name and owner, which may hold blanks.
_KINDS = re.compile(
    r"TABLE DATA|BLOB METADATA|LARGE OBJECT|MATERIALIZED VIEW DATA|MATERIALIZED VIEW|FK CONSTRAINT|CHECK CONSTRAINT"
    r"|SEQUENCE OWNED BY|SEQUENCE SET|INDEX ATTACH|TABLE ATTACH|EVENT TRIGGER|ROW SECURITY|FOREIGN TABLE"
    r"|FOREIGN DATA WRAPPER|FOREIGN SERVER|USER MAPPING|DEFAULT ACL|DEFAULT|STATISTICS DATA|TEXT SEARCH [A-Z]+"
    r"|OPERATOR CLASS|OPERATOR FAMILY|OPERATOR|ACCESS METHOD|PROCEDURAL LANGUAGE|[A-Z]+"
)
_NO_SCHEMA = (b"--", b"\\restrict", b"\\unrestrict", b"SET ", b"REFRESH MATERIALIZED VIEW")
"""Begin lines that differ between two dumps of one schema; a materialized view is refreshed where it has rows."""
COUNTED = frozenset(
    """TABLE,VIEW,MATERIALIZED VIEW,FOREIGN TABLE,SEQUENCE,FUNCTION,PROCEDURE,AGGREGATE,TRIGGER,EVENT TRIGGER,INDEX,
CONSTRAINT,FK CONSTRAINT,CHECK CONSTRAINT,TYPE,DOMAIN,EXTENSION,SCHEMA,RULE,POLICY""".replace("\n", "").split(
        ","
    )
)
"""Kinds of objects that the manifest counts."""


class TocEntry(NamedTuple):
    """A line of `pg_restore --list`."""

    dump_id: str
    oid: str
    kind: str


def dump_postgresql(order: Order) -> ProvenDump:
    """Runs pg_dump and reads what it wrote to the end."""
    tool, restore = tools(order.tools)
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            inventory, left_out = _dumped(order, tool)
            break
        except BackupError as error:
            if attempt == _ATTEMPTS or not any(words in str(error) for words in _LOCK_REFUSED):
                raise
            # A change of a table waits for our session, and pg_dump behind it: it gets its turn now.
            shutil.rmtree(order.folder / DUMP, ignore_errors=True)
    folder = order.folder / DUMP
    with ThreadPoolExecutor(1, thread_name_prefix="katax-backup-schema") as beside:
        hashing = beside.submit(schema_hash, order.work, restore, folder)
        entries = toc(order.work, restore, folder)
        files, rows, large_objects = _read_all(order, entries, inventory)
    objects = Counter(entry.kind.lower() for entry in entries if entry.kind in COUNTED)
    if large_objects:
        objects["large object"] = large_objects
    return ProvenDump(
        inventory=inventory,
        tool=str(tool),
        files=files,
        rows=rows,
        objects=dict(sorted(objects.items())),
        schema_hash=hashing.result(),
        left_out=left_out,
    )


def tools(folder: str | None) -> tuple[Tool, Tool]:
    """pg_dump and pg_restore. Raises ConfigError with what to install."""
    return (
        find_tool(["pg_dump"], folder=folder, package=PACKAGE),
        find_tool(["pg_restore"], folder=folder, package=PACKAGE),
    )


def _dumped(order: Order, tool: Tool) -> tuple[Inventory, tuple[Omission, ...]]:
    with _held(order) as (inventory, credentials):
        refuse_older(tool, inventory.server_version, parts=1, package=PACKAGE)
        left_out = order.omissions(inventory)
        _run_pg_dump(order, tool, inventory, credentials)
        return inventory, left_out


@contextmanager
def _held(order: Order) -> Iterator[tuple[Inventory, Credentials]]:
    """A session past any pooler that keeps the tables from changes, for as long as the block runs."""
    database, work = order.database, order.work
    engine: Any = load(database.settings.past_pooler()) if database.settings.pooler else database.engine
    ability = part(engine, "backup.dump")
    translating = partial(database.guard.translating, deadline=work.deadline, safety=Safety.READ)
    with translating(doing="the backup"):
        connection = open_bounded(engine, work.deadline.within(None))
    interrupt = partial(engine.interrupt, connection)
    try:
        with (
            translating(doing="the backup"),
            work.stopping(interrupt),
            watchdog.limit(work.deadline.remaining(), interrupt),
            ability.held(connection, _LOCK_SECONDS) as inventory,
            secret_files(ability.credentials()) as credentials,
        ):
            yield inventory, credentials
    finally:
        engine.close(connection)


def _run_pg_dump(order: Order, tool: Tool, inventory: Inventory, credentials: Credentials) -> None:
    folder = order.folder / DUMP
    words = [tool.path, *credentials.words, "--format=directory", f"--file={folder}", f"--jobs={order.jobs}"]
    words += [f"--snapshot={inventory.snapshot}", f"--lock-wait-timeout={_QUEUE_SECONDS}s"]
    words += [f"--exclude-table={name}" for name in map(_pattern, inventory.unreadable)]
    run = partial(
        run_tool, order.work, credentials=credentials, each_moment=lambda: order.told(folder_bytes(folder))
    )
    if tool.version >= (16,):
        try:
            run([*words, "--compress=zstd"])
            return
        except BackupError as error:
            if _NO_ZSTD not in str(error):
                raise
    run([*words, "--compress=1"])


def _pattern(quoted: str) -> str:
    """A name as pg_dump wants it, where nothing in quotes is a wildcard."""
    parts = re.findall(r'"(?:[^"]|"")*"|[^.]+', quoted)
    return ".".join(part if part.startswith('"') else f'"{part}"' for part in parts)


def toc(work: StoppableWork, restore: Tool, folder: Path) -> list[TocEntry]:
    """The table of contents of a dump, as pg_restore reads it: a dump that did not end has none."""
    entries: list[TocEntry] = []

    def read(output: IO[bytes]) -> None:
        text = b"".join(chunks(output)).decode(errors="surrogateescape")
        for match in filter(None, map(_ENTRY.match, text.splitlines())):
            kind = _KINDS.match(match[4])
            entries.append(TocEntry(match[1], match[3], kind[0] if kind else ""))

    run_tool(work, [restore.path, "--list", str(folder)], Credentials(()), read=read)
    return entries


def schema_hash(work: StoppableWork, restore: Tool, folder: Path) -> str:
    """SHA-256 of the schema as SQL, without owners, grants, comments of the tool and its random keys."""
    digest = hashlib.sha256()

    def read(output: IO[bytes]) -> None:
        text = b"".join(chunks(output))
        for line in text.splitlines():
            if line.strip() and not line.startswith(_NO_SCHEMA):
                digest.update(line + b"\n")

    words = [restore.path, "--schema-only", "--no-owner", "--no-privileges", "--file=-", str(folder)]
    run_tool(work, words, Credentials(()), read=read)
    return digest.hexdigest()


class _RowCount:
    """Counts the rows of a file with COPY's lines; an end mark proves that it is whole."""

    def __init__(self) -> None:
        self.rows = 0
        self._tail = b""

    def __call__(self, pieces: Iterator[bytes]) -> None:
        lines = 0
        for piece in pieces:
            lines += piece.count(b"\n")
            self._tail = (self._tail + piece[-len(_END) :])[-len(_END) :]
        if self._tail != _END:
            raise ValueError("it does not end as pg_dump ends a table")
        self.rows = lines - _END.count(b"\n")


def read_data(folder: Path, path: str, work: StoppableWork) -> tuple[DumpFile, int]:
    """Reads the file of a table whole: its digest, and the number of its rows. Raises ValueError when it is cut."""

    count = _RowCount()
    return digested(folder, path, count, before_each=work.check), count.rows


def _read_all(
    order: Order, entries: list[TocEntry], inventory: Inventory
) -> tuple[tuple[DumpFile, ...], dict[str, int], int]:
    """Every file with its digest, the rows by table, and the number of large objects."""
    paths = sorted(f"{DUMP}/{file.name}" for file in (order.folder / DUMP).iterdir())
    tables = _tables(paths, entries, inventory.relations)
    synced(order.folder, paths)
    files: dict[str, DumpFile] = {}
    rows: dict[str, int] = {}

    def read(path: str) -> None:
        try:
            if path in tables:
                files[path], rows[tables[path]] = read_data(order.folder, path, order.work)
            else:
                files[path] = digested(order.folder, path, before_each=order.work.check)
        except ValueError as error:
            raise BackupError(f"pg_dump wrote {path!r} and it is not whole: {error}") from error

    with ThreadPoolExecutor(order.jobs, thread_name_prefix="katax-backup") as pool:
        for _ in pool.map(read, paths):
            order.work.check()
    large_objects = sum(Path(path).name.startswith("blob_") for path in paths)
    return tuple(files[path] for path in paths), dict(sorted(rows.items())), large_objects


def _tables(paths: list[str], entries: list[TocEntry], relations: Mapping[str, str]) -> dict[str, str]:
    """The table of each file with rows. Raises BackupError for one that is not there."""
    by_id = {Path(path).name.split(".")[0]: path for path in paths}
    tables: dict[str, str] = {}
    for entry in entries:
        if entry.kind != "TABLE DATA":
            continue
        if entry.dump_id not in by_id:
            raise BackupError(f"pg_dump wrote no file for {relations.get(entry.oid, entry.oid)}")
        tables[by_id[entry.dump_id]] = relations.get(entry.oid, f"table {entry.oid}")
    return tables
