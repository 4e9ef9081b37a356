"""PostgreSQL by `pg_dump --format=directory`: in parallel, in the snapshot of a session that holds the tables still."""

from __future__ import annotations

import hashlib
import re
import shutil
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import IO, Any, NamedTuple

from katax_cli.engines.dumps import Credentials, Inventory
from katax_cli.engines.registry import load, part
from katax_cli.errors import BackupError
from katax_cli.services.backup.dumps.growing_files import TOC, CompressedRows, GrowingFiles
from katax_cli.services.backup.dumps.order import Order, ProvenDump
from katax_cli.services.backup.manifest import DumpFile, Omission, sync
from katax_cli.services.backup.streams import digested, pieces
from katax_cli.services.backup.tools import Tool, find_tool, refuse_older, run_tool, secret_files
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
_HEAD_BYTES = 11
"""Of toc.dat before it says how it is compressed: PGDMP, three numbers of its version, two sizes, the format."""
_ALGORITHMS = {".gz": 1, ".zst": 3}
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
_KIND = re.compile(rb"-- Name: .*; Type: ([A-Z ]+); Schema: .*; Owner: ")
_HEADING = b"-- Name: "
"""Begins the line above each thing of a schema."""
_REWRITTEN = re.compile(
    rb'::(?:(?:character|bit) varying|double precision|(?:"[^"]*"|[a-z0-9_]+)(?:\.(?:"[^"]*"|[a-z0-9_]+))?)'
    rb"(?:\(\d+(?:,\d+)?\))?(?: with(?:out)? time zone)?(?:\[\])*|[()]"
)
"""Casts and parentheses: the server moves those of `status IN ('a', 'b')` when it reads its own words for it."""
_ROUTINES = (b"FUNCTION", b"PROCEDURE")
_BODY = b"    AS "
"""Begins the line from which on a routine is text, which the server does not read again."""
COUNTED = frozenset(
    """TABLE,VIEW,MATERIALIZED VIEW,FOREIGN TABLE,SEQUENCE,FUNCTION,PROCEDURE,AGGREGATE,TRIGGER,EVENT TRIGGER,INDEX,
CONSTRAINT,FK CONSTRAINT,CHECK CONSTRAINT,TYPE,DOMAIN,EXTENSION,SCHEMA,RULE,POLICY""".replace("\n", "").split(
        ","
    )
)
"""Kinds of objects that the manifest counts."""
DATA = frozenset(
    {"TABLE DATA", "BLOBS", "BLOB COMMENTS", "SEQUENCE SET", "MATERIALIZED VIEW DATA", "STATISTICS DATA"}
)
"""Kinds of entries that are contents."""


class TocEntry(NamedTuple):
    """A line of `pg_restore --list`."""

    dump_id: str
    oid: str
    kind: str
    text: str

    def is_of(self, kinds: Collection[str]) -> bool:
        """True for entries of these kinds, and for comments on such things."""
        return self.kind in kinds or (
            self.kind == "COMMENT" and any(f" {kind} " in self.text for kind in kinds)
        )


def dump_postgresql(order: Order) -> ProvenDump:
    """Runs pg_dump and reads what it wrote to the end."""
    tool, restore = tools(order.tools)
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            inventory, left_out, data = _dumped(order, tool)
            break
        except BackupError as error:
            if attempt == _ATTEMPTS or not any(words in str(error) for words in _LOCK_REFUSED):
                raise
            # A change of a table waits for our session, and pg_dump behind it: it gets its turn now.
            shutil.rmtree(order.folder / DUMP, ignore_errors=True)
    folder = order.folder / DUMP
    with ThreadPoolExecutor(1, thread_name_prefix="katax-backup-schema") as beside:
        reading = beside.submit(schema, order.work, restore, folder)
        entries = toc(order.work, restore, folder)
        files = _digested(order, data)
    objects = Counter(entry.kind.lower() for entry in entries if entry.kind in COUNTED)
    if large_objects := sum(one.rows is None for one in data):
        objects["large object"] = large_objects
    return ProvenDump(
        inventory=inventory,
        tool=str(tool),
        files=files,
        rows=_rows(data, entries, inventory.relations),
        objects=dict(sorted(objects.items())),
        schema_hash=schema_hash(reading.result()),
        left_out=left_out,
    )


def tools(folder: str | None) -> tuple[Tool, Tool]:
    """pg_dump and pg_restore. Raises ConfigError with what to install."""
    return (
        find_tool(["pg_dump"], folder=folder, package=PACKAGE),
        find_tool(["pg_restore"], folder=folder, package=PACKAGE),
    )


def _dumped(order: Order, tool: Tool) -> tuple[Inventory, tuple[Omission, ...], list[CompressedRows]]:
    with _held(order) as (inventory, credentials):
        refuse_older(tool, inventory.server_version, parts=1, package=PACKAGE)
        left_out = order.omissions(inventory)
        return inventory, left_out, _run_pg_dump(order, tool, inventory, credentials)


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
            order.silence.watching(lambda seconds: engine.greets(connection, seconds)),
            ability.held(connection, _LOCK_SECONDS) as inventory,
            secret_files(ability.credentials()) as credentials,
        ):
            yield inventory, credentials
    finally:
        engine.close(connection)


def _run_pg_dump(
    order: Order, tool: Tool, inventory: Inventory, credentials: Credentials
) -> list[CompressedRows]:
    folder = order.folder / DUMP
    words = [tool.path, *credentials.words, "--format=directory", f"--file={folder}", f"--jobs={order.jobs}"]
    words += [f"--snapshot={inventory.snapshot}", f"--lock-wait-timeout={_QUEUE_SECONDS}s"]
    # Its files are compressed and synchronized here.
    words += ["--compress=0", "--no-sync"]
    words += [f"--exclude-table={name}" for name in map(_pattern, inventory.unreadable)]
    ending = ".zst" if _knows_zstd(order.work, tool) else ".gz"
    with GrowingFiles(folder, ending, order.work, order.jobs) as growing:

        def look() -> None:
            growing.check()
            order.told(growing.written_bytes)

        run_tool(order.work, words, credentials, each_moment=look)
        data = growing.finish()
    mark_compressed(folder / TOC, ending)
    return data


def _knows_zstd(work: StoppableWork, tool: Tool) -> bool:
    """True when it was built with zstd, and pg_restore beside it: it says otherwise before it connects anywhere."""
    if tool.version < (16,):
        return False
    try:
        run_tool(work, [tool.path, "--compress=zstd", "--dbname=host=/nowhere"], Credentials(()))
    except BackupError as error:
        return _NO_ZSTD not in str(error)
    return True


def mark_compressed(toc_file: Path, ending: str) -> None:
    """Says in the head of a table of contents how the files beside it are compressed, as pg_dump says it.

    By that pg_restore begins with the largest tables; it finds the files by their names. A head of an unknown shape
    stays as it is.
    """
    with toc_file.open("r+b") as file:
        head = file.read(_HEAD_BYTES + 5)
        version = tuple(head[5:7])
        if not head.startswith(b"PGDMP"):
            return
        if (1, 15) <= version <= (1, 16) and head[_HEAD_BYTES] == 0:
            said = bytes([_ALGORITHMS[ending]])
        elif (1, 12) <= version <= (1, 14) and head[_HEAD_BYTES:] == bytes(5) and ending == ".gz":
            said = b"\0\1\0\0\0"
        else:
            return
        file.seek(_HEAD_BYTES)
        file.write(said)


def _pattern(quoted: str) -> str:
    """A name as pg_dump wants it, where nothing in quotes is a wildcard."""
    parts = re.findall(r'"(?:[^"]|"")*"|[^.]+', quoted)
    return ".".join(part if part.startswith('"') else f'"{part}"' for part in parts)


def toc(work: StoppableWork, restore: Tool, folder: Path) -> list[TocEntry]:
    """The table of contents of a dump, as pg_restore reads it: a dump that did not end has none."""
    entries: list[TocEntry] = []

    def read(output: IO[bytes]) -> None:
        text = b"".join(pieces(output)).decode(errors="surrogateescape")
        for match in filter(None, map(_ENTRY.match, text.splitlines())):
            kind = _KINDS.match(match[4])
            entries.append(TocEntry(match[1], match[3], kind[0] if kind else "", match[4]))

    run_tool(work, [restore.path, "--list", "--create", str(folder)], Credentials(()), read=read)
    return entries


def selection(entries: Iterable[TocEntry]) -> Credentials:
    """The option that makes pg_restore take these entries and no others, and its file."""
    return Credentials(
        ("--use-list={folder}/toc",), {"toc": "".join(f"{entry.dump_id};\n" for entry in entries)}
    )


def schema(work: StoppableWork, restore: Tool, folder: Path) -> list[bytes]:
    """The lines of a dump's schema as SQL, without owners and grants."""
    return _schema(work, [restore.path, "--file=-", str(folder)], Credentials(()))


def schema_of_database(work: StoppableWork, tool: Tool, credentials: Credentials) -> list[bytes]:
    """The same lines of a database, as pg_dump writes them."""
    return _schema(work, [tool.path, *credentials.words], credentials)


def _schema(work: StoppableWork, words: list[str], credentials: Credentials) -> list[bytes]:
    text: list[bytes] = []
    words += ["--schema-only", "--no-owner", "--no-privileges"]
    run_tool(work, words, credentials, read=lambda output: text.extend(pieces(output)))
    return [line for line in b"".join(text).splitlines() if line.strip()]


def counted(lines: Iterable[bytes]) -> dict[str, int]:
    """How many things of which kind a schema has, as the manifest counts them."""
    kinds = (match[1].decode() for match in map(_KIND.match, lines) if match)
    return dict(Counter(kind.lower() for kind in kinds if kind in COUNTED))


def schema_hash(lines: Iterable[bytes]) -> str:
    """SHA-256 of a schema, without comments of the tool and its random keys."""
    digest = hashlib.sha256()
    for line in lines:
        if not line.startswith(_NO_SCHEMA):
            digest.update(line + b"\n")
    return digest.hexdigest()


def differing(one: Iterable[bytes], other: Iterable[bytes], *, without: Collection[str] = ()) -> list[str]:
    """The things that are not the same in two schemas, in whatever order, by the headings of the tool; `without` those
    of some kinds.

    Only names: what the lines say may be secret, such as the password of a user mapping.
    """
    these, those = _things(one), _things(other)
    signs = [sign for kind in without for sign in (f"; Type: {kind};".encode(), f"-- Name: {kind} ".encode())]
    names = sorted(
        name
        for name in {*these, *those}
        if these.get(name) != those.get(name) and not any(sign in name for sign in signs)
    )
    return [name.removeprefix(_HEADING).partition(b"; Owner: ")[0].decode(errors="replace") for name in names]


def _things(lines: Iterable[bytes]) -> Mapping[bytes, Counter[bytes]]:
    """The lines of each thing; those of one heading stand together, whichever comes first."""
    things: dict[bytes, Counter[bytes]] = {}
    name, is_routine, is_text = b"", False, False
    for line in lines:
        if line.startswith(_HEADING):
            kind = _KIND.match(line)
            name, is_routine, is_text = line, kind is not None and kind[1] in _ROUTINES, False
        elif not line.startswith(_NO_SCHEMA):
            is_text = is_text or (is_routine and line.startswith(_BODY))
            said = line if is_text else _REWRITTEN.sub(b"", line)
            things.setdefault(name, Counter())[b" ".join(said.split())] += 1
    return things


def _digested(order: Order, data: Iterable[CompressedRows]) -> tuple[DumpFile, ...]:
    """Every file of the folder with its digest: those of rows have theirs, the others are read here."""
    known = {f"{DUMP}/{one.file.path}": replace(one.file, path=f"{DUMP}/{one.file.path}") for one in data}
    paths = sorted(f"{DUMP}/{file.name}" for file in (order.folder / DUMP).iterdir())
    others = [path for path in paths if path not in known]
    for path in others:
        sync(order.folder / path)
        known[path] = digested(order.folder, path, before_each=order.work.check)
    return tuple(known[path] for path in paths)


def _rows(
    data: Iterable[CompressedRows], entries: Iterable[TocEntry], relations: Mapping[str, str]
) -> dict[str, int]:
    """The rows by table. Raises BackupError for a table without a file, and for a file without a table."""
    counts = {one.file.path.split(".")[0]: one.rows for one in data if one.rows is not None}
    rows = Counter[str]()
    for entry in entries:
        if entry.kind != "TABLE DATA":
            continue
        if entry.dump_id not in counts:
            raise BackupError(f"pg_dump wrote no file for {relations.get(entry.oid, entry.oid)}")
        # "a.b"."c" and "a"."b.c" share a name.
        rows[relations.get(entry.oid, f"table {entry.oid}")] += counts.pop(entry.dump_id)
    if counts:
        raise BackupError(f"pg_dump wrote {min(counts)}.dat, and its table of contents does not name it")
    return dict(sorted(rows.items()))
