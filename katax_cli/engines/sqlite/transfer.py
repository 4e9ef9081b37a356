"""Whole tables into SQLite; out of it they come by plain SELECT."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from katax_cli.engines.base import SqlEngine
from katax_cli.engines.sqlite.session import SqliteSession


class Transfers:
    """TransferSession."""

    def __init__(self, engine: SqlEngine) -> None:
        self._engine = engine

    def prepare(self, connection: SqliteSession) -> None:
        """Nothing: SQLite has values in one form only."""

    def insert(self, connection: SqliteSession, into: str, rows: Sequence[Sequence[Any]], tail: str) -> None:
        marks = ", ".join("?" * len(rows[0]))
        connection.run_many(f"INSERT INTO {into} VALUES ({marks}){tail}", rows, None)


def create(engine: SqlEngine) -> Transfers:
    return Transfers(engine)
