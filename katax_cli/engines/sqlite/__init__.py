"""SQLite through the standard library's sqlite3."""

from __future__ import annotations

from katax_cli.core.settings import ConnectionSettings
from katax_cli.engines.sqlite.engine import SqliteEngine


def create(settings: ConnectionSettings) -> SqliteEngine:
    """The engine for one file, or for one memory database that its connections share."""
    return SqliteEngine(settings)
