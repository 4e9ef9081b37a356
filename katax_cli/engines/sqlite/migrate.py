"""Migrations on SQLite: a lock file beside the database, the schema as text, the effects of DDL."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress

from katax_cli.core.sql import AnySql, statement_of, tokens
from katax_cli.engines.migrations import DdlImpact, LockSession, MigrationFacts, ObjectName
from katax_cli.engines.sqlite.engine import SqliteEngine
from katax_cli.engines.sqlite.session import SqliteSession

_DEFINITIONS = """
SELECT type || ' ' || name, sql FROM sqlite_master
WHERE name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY type, name"""


class SqliteMigrations:
    """SessionLocks, Definitions and DdlImpacts of SQLite. The lock is the kernel's: it ends with its process."""

    facts = MigrationFacts(transactional_ddl=True, long_text="TEXT")

    def __init__(self, engine: SqliteEngine) -> None:
        self._engine = engine
        self._held: dict[str, int] = {}

    def _path(self, name: str) -> str | None:
        path = self._engine.settings.path
        return None if path in (None, "", ":memory:") else f"{os.path.realpath(str(path))}.{name}.lock"

    def settings(self, connection: SqliteSession) -> Mapping[str, str | None]:
        return {}

    def take_back(
        self, connection: SqliteSession, settings: Mapping[str, str | None], temporary: Sequence[str]
    ) -> None:
        """Opens the file anew; a database in memory would be gone, so it keeps what was left."""
        if self._path("") is not None:
            self._engine.reset(connection)

    def lock(self, connection: SqliteSession, name: str, note: str) -> bool:
        path = self._path(name)
        if path is None:
            return True
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(file)
            return False
        self._held[name] = file
        return self.renew(connection, name, note)

    def renew(self, connection: SqliteSession, name: str, note: str) -> bool:
        path = self._path(name)
        if path is None:
            return True
        file = self._held.get(name)
        if file is None or not _is_the_file(file, path):
            return False
        os.ftruncate(file, 0)
        os.pwrite(file, note.encode(), 0)
        return True

    def unlock(self, connection: SqliteSession, name: str) -> None:
        """The file stays: removing it would let two processes lock two files of one name."""
        file = self._held.pop(name, None)
        if file is not None:
            with suppress(OSError):
                os.ftruncate(file, 0)
            os.close(file)

    def holder(self, connection: SqliteSession, name: str) -> LockSession | None:
        path = self._path(name)
        if path is None or self.lock(connection, name, ""):
            self.unlock(connection, name)
            return None
        with open(path, encoding="utf-8", errors="replace") as file:
            return LockSession(session=path, note=file.read())

    def end_session(self, connection: SqliteSession, session: str) -> bool:
        return False

    def definitions(
        self, connection: SqliteSession, objects: Sequence[ObjectName] | None = None
    ) -> dict[str, str]:
        wanted = None if objects is None else {entity.name.lower() for entity in objects}
        rows = connection.run(_DEFINITIONS).fetchall()
        return {
            key: _lines(sql or "")
            for key, sql in rows
            if wanted is None or key.partition(" ")[2].lower() in wanted
        }

    def impact(self, sql: AnySql) -> DdlImpact:
        effect = statement_of(sql, "sqlite").effect
        writes = effect.kind in ("ddl", "write")
        return DdlImpact(
            "database, for writing" if writes else None,
            (),
            effect.verb not in ("VACUUM", "PRAGMA", "ATTACH", "DETACH"),
            effect.verb == "VACUUM",
        )

    def blockers(self, connection: SqliteSession, table: str) -> list[str]:
        return []


def _lines(sql: str) -> str:
    """One line for each column or constraint, as the other engines have it."""
    depth, parts = 0, [""]
    for token in tokens(sql, "sqlite"):
        text = token.text
        if token.kind in ("space", "comment"):
            text = " "
        depth += (text == "(") - (text == ")")
        if text == ")" and depth == 0:
            parts.append("")
        if text == "," and depth == 1:
            parts.append("")
        else:
            parts[-1] += text
        if text == "(" and depth == 1 and len(parts) == 1:
            parts.append("")
    return "\n".join(" ".join(part.split()) for part in parts)


def _is_the_file(file: int, path: str) -> bool:
    """True when the locked file is still the one that others would lock."""
    try:
        return os.path.samestat(os.fstat(file), os.stat(path))
    except OSError:
        return False


create = SqliteMigrations
