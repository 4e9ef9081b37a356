"""A copy of a SQLite database by its backup API, inside one read transaction, and what is in the copy."""

from __future__ import annotations

import hashlib
import re
import sqlite3
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from katax_cli.engines.base import SqlEngine
from katax_cli.engines.dumps import Inventory, machine
from katax_cli.errors import BackupError, BackupHindered, ConfigError

_PAGES = 1024
_BUSY_SECONDS = 60.0
_OF_A_PROGRAM = re.compile(r"(?:unknown function: |no such collation sequence: (.*))", re.DOTALL)
_SCHEMA = """
SELECT type, name, tbl_name, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY type, name"""
_TABLES = (
    "SELECT name, type = 'virtual' FROM pragma_table_list WHERE schema = 'main' AND type IN ('table', 'virtual') "
    "ORDER BY name"
)


class Contents(NamedTuple):
    """The contents of a database file: rows by table, how many things of which kind, a hash of the schema."""

    rows: dict[str, int]
    objects: dict[str, int]
    schema_hash: str


class SqliteDump:
    """Backups of one SQLite file."""

    def __init__(self, engine: SqlEngine) -> None:
        self._settings = engine.settings

    def inventory(self) -> Inventory:
        """Raises ConfigError when there is no file, or the database is in memory."""
        path = self._path()
        return Inventory(
            server_version=sqlite3.sqlite_version,
            server_id=f"sqlite:{place_of(path)}",
            database=path.name,
            consistency="all tables at one moment",
        )

    def copy(self, target: Path, on_page: Callable[[int, int], object]) -> None:
        """Writes the database to a new file, as it is now; writers go on where the file keeps a write-ahead log.

        `on_page(pages left, pages)` may raise to end it. Raises sqlite3.Error.
        """
        mode = "ro" if self._settings.read_only else "rw"
        address = f"{self._path().as_uri()}?mode={mode}"
        with (
            closing(
                sqlite3.connect(address, uri=True, timeout=_BUSY_SECONDS, isolation_level=None)
            ) as source,
            closing(sqlite3.connect(target)) as copy,
        ):
            # Its snapshot lasts until the end: a backup without it starts over whenever somebody writes.
            source.execute("BEGIN")
            source.execute("SELECT count(*) FROM sqlite_master").fetchone()
            source.backup(copy, pages=_PAGES, progress=lambda _status, left, pages: on_page(left, pages))

    def _path(self) -> Path:
        path = self._settings.path
        if path in (None, "", ":memory:"):
            raise ConfigError(f"{self._settings.name!r} is in memory; only a file can be backed up")
        file = Path(str(path)).absolute()
        if not file.is_file():
            raise ConfigError(f"{self._settings.name!r}: there is no file {str(file)!r}")
        return file


create = SqliteDump


def contents(path: Path, *, stopped: Callable[[], bool] = lambda: False) -> Contents:
    """Reads a whole database file. Raises BackupError when SQLite finds that it is damaged, BackupHindered for a
    file that cannot be read."""
    raised: list[BaseException] = []

    def ask_stopped() -> int:
        """SQLite swallows what this raises, such as Ctrl-C, and makes an error of its own of it."""
        try:
            return int(stopped())
        except BaseException as error:  # noqa: BLE001 - raised again below
            raised.append(error)
            return 1

    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True)) as database:
        database.set_progress_handler(ask_stopped, 100_000)
        try:
            verdict = _verdict(database)
            if verdict != "ok":
                raise BackupError(f"the database is damaged, says its integrity check: {verdict}")
            schema = database.execute(_SCHEMA).fetchall()
            rows = {
                name: count
                for name, is_virtual in database.execute(_TABLES)
                if (count := _count(database, name, is_virtual=bool(is_virtual))) is not None
            }
        except sqlite3.DatabaseError as error:
            if raised:
                raise raised[0] from error
            of_machine = isinstance(error, sqlite3.OperationalError) and not _is_of_file(error)
            kind = BackupHindered if of_machine else BackupError
            raise kind(f"the database cannot be read: {error}") from error
    return Contents(
        rows=rows,
        objects=dict(sorted(Counter(str(row[0]) for row in schema).items())),
        schema_hash=hashlib.sha256(repr(schema).encode()).hexdigest(),
    )


def _verdict(database: sqlite3.Connection) -> str:
    """SQLite's own verdict on the whole file. Functions and collations of the program that made it are not here, so
    indexes that need one are not compared with their rows."""
    # A row that breaks one is no damage, and it may call such a function.
    database.execute("PRAGMA ignore_check_constraints = ON")
    check = "integrity_check"
    while True:
        try:
            [(verdict,), *_] = database.execute(f"PRAGMA {check}(1)").fetchall()
            return str(verdict)
        except sqlite3.OperationalError as error:
            missing = _OF_A_PROGRAM.match(str(error))
            if missing is None or (check == "quick_check" and missing[1] is None):
                raise
            check = "quick_check"
            if missing[1] is not None:
                database.create_collation(missing[1], lambda one, other: 0)


def _count(database: sqlite3.Connection, table: str, *, is_virtual: bool) -> int | None:
    """The rows of a table; None for SQLite's own, and for a virtual one whose module, tokenizer or other tables are not
    there: its rows are in tables that are counted."""
    if table.startswith("sqlite_"):
        return None
    quoted = table.replace('"', '""')
    try:
        [(count,)] = database.execute(f'SELECT count(*) FROM "{quoted}"')
    except sqlite3.OperationalError as error:
        if not (is_virtual and _is_of_file(error)):
            raise
        return None
    return int(count)


def _is_of_file(error: sqlite3.Error) -> bool:
    """True for the general code, of what a file says; a full disk, or a file that cannot be opened, has another."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_ERROR


def place_of(path: Path) -> str:
    """A file has no identity of its own that a copy would not share: the machine and the path stand for one."""
    return hashlib.sha256(f"{machine()}\0{path.resolve()}".encode()).hexdigest()[:32]
